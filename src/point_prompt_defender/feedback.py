"""What the segmenter itself says of a set of points, without any ground truth: the state's mask, read at the nodes.

This is the bridge between the segmenter and the game: `game` and `agents` see only the numbers made here.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from .features.base import PatchFeatures
from .graph import mean_distance
from .prompts import PointPrompts
from .segmenters.base import Embedding, Segmenter

SCALARS = ("predicted_iou", "stability", "area", "separation")


@dataclass(frozen=True, eq=False)
class Feedback:
    """The segmenter's answers to B sets of active points, at N nodes.

    Attributes:
        logits: (B, N) float32, the mask's logit at each node, active or not.
        contrast: (B, N) float32, how much nearer the node's features lie to the mean inside the mask than to the mean
            outside, in units of the image's own mean distance.
        scalars: (B, 4) float32, named by SCALARS: the model's own IoU estimate; the IoU of the mask at logits +1
            and -1; the share of the image that it covers; the distance between the mean features inside and outside.
        low_res_logits: (B, h, w) float32, over the segmenter's square input.
    """

    logits: NDArray[np.float32]
    contrast: NDArray[np.float32]
    scalars: NDArray[np.float32]
    low_res_logits: NDArray[np.float32]

    @property
    def masks(self) -> NDArray[np.bool_]:
        """(B, h, w) bool at low resolution, over the segmenter's square input."""
        return self.low_res_logits > 0

    def __len__(self) -> int:
        return len(self.logits)

    def row(self, index: int) -> Feedback:
        """One of the B answers, as a batch of one."""
        at = slice(index, index + 1)
        return Feedback(*(getattr(self, f.name)[at] for f in fields(self)))

    @staticmethod
    def stack(rows: list[Feedback]) -> Feedback:
        """Several answers of the same nodes as one batch."""
        return Feedback(*(np.concatenate([getattr(r, f.name) for r in rows]) for f in fields(Feedback)))


class FeedbackDecoder:
    """Decode sets of active points of one image and read off `Feedback`; each set at most once.

    Args:
        segmenter: decodes.
        embedding: of the image, by that segmenter.
        features: patch features for `contrast`.
        prompts: the N nodes' points and labels.
        remember: how many answers to keep, least recently used go first.

    Attributes:
        decodes: how many point sets were decoded so far (remembered ones cost nothing and do not count).
    """

    def __init__(
        self,
        segmenter: Segmenter,
        embedding: Embedding,
        features: PatchFeatures,
        prompts: PointPrompts,
        remember: int = 256,
    ) -> None:
        self.segmenter, self.embedding, self.prompts = segmenter, embedding, prompts
        self.decodes = 0
        self._remember = remember
        self._known: OrderedDict[bytes, Feedback] = OrderedDict()
        self._node_features = features.at(prompts.coords, radius=1)  # (N, C)
        self._patches = features.unit.flatten(0, 1)  # (P, C)
        self._patch_shape = features.shape
        self._yardstick = mean_distance(features)

    def __call__(self, active: NDArray[np.bool_]) -> Feedback:
        """Answers to B sets of active points, (B, N) bool, each with at least one point."""
        keys = [row.tobytes() for row in np.asarray(active, bool)]
        fresh = {key: row for key, row in zip(keys, active, strict=True) if key not in self._known}
        by_length: dict[int, list[bytes]] = {}
        for key, row in fresh.items():
            by_length.setdefault(int(row.sum()), []).append(key)
        found: dict[bytes, Feedback] = {}
        for same in by_length.values():  # equal lengths in one batch: a padded point would change the mask
            answer = self._decode(np.array([fresh[key] for key in same]))
            found.update((key, answer.row(i)) for i, key in enumerate(same))
        self._known.update(found)
        for key in keys:
            self._known.move_to_end(key)
        rows = [self._known[key] for key in keys]
        while len(self._known) > self._remember:
            self._known.popitem(last=False)
        return Feedback.stack(rows)

    def full_mask(self, active: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(H, W) bool at the original size, the mask of one set of active points, (N,) bool."""
        logits = torch.from_numpy(self(active[None]).low_res_logits)
        return (self.embedding.frame.upsample(logits)[0] > 0).numpy()

    def _decode(self, active: NDArray[np.bool_]) -> Feedback:
        chosen = np.array([np.flatnonzero(row) for row in active])
        out = self.segmenter.predict(
            self.embedding, self.prompts.coords[chosen], self.prompts.labels[chosen], multimask="auto"
        )
        self.decodes += len(active)
        logits = out.low_res_logits.float().cpu()  # (B, h, w)
        side = logits.shape[-1]
        rows, columns = self.embedding.frame.cells(side)
        cells = self.embedding.frame.cell_of(self.prompts.coords, side)
        at_nodes = logits[:, cells[:, 0], cells[:, 1]]  # (B, N)
        content = logits[:, :rows, :columns]
        area = (content > 0).float().mean((1, 2))
        surer, looser = (content > 1).sum((1, 2)), (content > -1).sum((1, 2))
        stability = surer / looser.clamp_min(1)
        contrast, separation = self._contrast(content)
        scalars = torch.stack([out.predicted_iou.float().cpu(), stability, area, separation], 1)
        return Feedback(at_nodes.numpy(), contrast.numpy(), scalars.numpy(), logits.numpy())

    def _contrast(self, content: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean features inside and outside of masks (B, h, w): contrast of the nodes (B, N), separation (B,)."""
        inside = F.adaptive_avg_pool2d((content > 0).float()[:, None], self._patch_shape).flatten(1)  # (B, P)
        share_in, share_out = inside.sum(1, keepdim=True), (1 - inside).sum(1, keepdim=True)
        mean_in = F.normalize(inside @ self._patches / share_in.clamp_min(1e-3), dim=-1)  # (B, C)
        mean_out = F.normalize((1 - inside) @ self._patches / share_out.clamp_min(1e-3), dim=-1)
        contrast = (mean_in - mean_out) @ self._node_features.t() / self._yardstick
        return contrast, (1 - (mean_in * mean_out).sum(-1)) / self._yardstick
