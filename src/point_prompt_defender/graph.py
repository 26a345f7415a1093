"""The dual-space graph: patches as nodes, edges that carry a semantic and a physical distance.

    prompts + patch features -> build_graph -> PromptGraph -> (game, agents)

The nodes that the agents play on are the patches under the points; between them both matrices are dense. All other
patches of the image take part too, through `PatchGraph`: a sparse graph over the whole image, along whose edges a
label spreads ("diffusion"). How strongly two points hang together along it is a third channel of the edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .features.base import PatchFeatures
from .prompts import PointPrompts


@dataclass(frozen=True, eq=False)
class PromptGraph:
    """The dual-space graph over the patches under N points.

    Attributes:
        prompts: the points and their labels.
        semantic: (N, N) float32, the paper's feature distance matrix M_f. `default`: between unit vectors, in units
            of the image's own root mean square distance, so that any extractor's distances have one scale; `paper`:
            Euclidean between raw vectors.
        physical: (N, N) float32, the paper's physical distance matrix M_p, between the points (the paper: between
            the centres of their patches), in units of the image's diagonal.
        diffusion: (N, N) float32 in [0, 1], how strongly two points hang together along the whole patch graph (ours).
    """

    prompts: PointPrompts
    semantic: NDArray[np.float32]
    physical: NDArray[np.float32]
    diffusion: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.prompts)

    @cached_property
    def signs(self) -> NDArray[np.float32]:
        """(N,) +1 for positive and -1 for negative labels."""
        return np.where(self.prompts.labels == 1, 1, -1).astype(np.float32)


class PatchGraph:
    """A graph over all patches of one image, or over blocks of them where there are many.

    Each patch is tied to those within `reach` steps, with weight exp(sharpness * (cosine - 1)). A label put on one
    patch spreads along the edges; `affinity` is the stationary answer, the kernel (I - alpha S)^-1 of label spreading
    (Zhou et al. 2004) with S the symmetrically normalised weights, scaled so that a patch's tie to itself is 1.

    Args:
        features: patch features of the image.
        nodes: most nodes; patches are averaged in square blocks until there are no more than that.
        reach: edges to patches at most so many steps away in either direction.
        sharpness: how fast a tie weakens with the angle between features.
        alpha: how far labels spread, in [0, 1).
    """

    def __init__(
        self, features: PatchFeatures, nodes: int = 1024, reach: int = 2, sharpness: float = 16.0, alpha: float = 0.99
    ) -> None:
        height, width = features.shape
        self.block = max(1, int(np.ceil(np.sqrt(height * width / nodes))))
        pooled = F.avg_pool2d(features.unit.permute(2, 0, 1)[None], self.block, ceil_mode=True, count_include_pad=False)
        unit = F.normalize(pooled[0].permute(1, 2, 0), dim=-1)  # (h, w, C)
        self.features, self.shape, self.alpha = features, tuple(unit.shape[:2]), alpha
        self.rows, self.columns, self.weights = _neighbours(unit, reach, sharpness)

    @cached_property
    def spread(self) -> NDArray[np.float32]:
        """(P, P) the whole kernel, dense; P nodes, row by row."""
        count = self.shape[0] * self.shape[1]
        matrix = torch.zeros(count, count)
        matrix[self.rows, self.columns] = self.weights
        scale = matrix.sum(1).clamp_min(1e-12).rsqrt()
        matrix = matrix * scale[:, None] * scale[None]
        kernel = torch.cholesky_inverse(torch.linalg.cholesky(torch.eye(count) - self.alpha * matrix))
        diagonal = kernel.diagonal().rsqrt()
        return (kernel * diagonal[:, None] * diagonal[None]).numpy()

    def node_of(self, coords: NDArray[np.floating]) -> NDArray[np.int64]:
        """Original pixels (N, 2) xy -> (N,) node numbers."""
        cells = np.minimum(self.features.cell_of(coords) // self.block, np.array(self.shape) - 1)
        return cells[:, 0] * self.shape[1] + cells[:, 1]

    def affinity(self, coords: NDArray[np.floating]) -> NDArray[np.float32]:
        """Points (N, 2) xy -> (N, N) in [0, 1], how strongly each two hang together."""
        nodes = self.node_of(coords)
        return np.clip(self.spread[np.ix_(nodes, nodes)], 0, 1)


def _neighbours(unit: Tensor, reach: int, sharpness: float) -> tuple[Tensor, Tensor, Tensor]:
    """Edges of a grid of unit vectors (h, w, C) to all patches within `reach`: rows, columns, weights (E,)."""
    height, width = unit.shape[:2]
    number = torch.arange(height * width).view(height, width)
    rows, columns, weights = [], [], []
    for dy in range(0, reach + 1):
        for dx in range(-reach, reach + 1):
            if dy == 0 and dx <= 0:
                continue  # each edge once; its mirror is added below
            # max(0, ...): a grid narrower than the reach has no such edge, and a negative end would count from behind.
            here = (slice(0, max(0, height - dy)), slice(max(0, -dx), max(0, width - max(0, dx))))
            there = (slice(dy, height), slice(max(0, dx), max(0, width + min(0, dx))))
            cosine = (unit[here] * unit[there]).sum(-1).flatten()
            weight = torch.exp(sharpness * (cosine - 1))
            a, b = number[here].flatten(), number[there].flatten()
            rows += [a, b]
            columns += [b, a]
            weights += [weight, weight]
    return torch.cat(rows), torch.cat(columns), torch.cat(weights)


def build_graph(
    features: PatchFeatures, prompts: PointPrompts, *, patches: PatchGraph | None = None, paper: bool = False
) -> PromptGraph:
    """Build the dual-space graph over the points' patches.

    Args:
        features: patch features of the image.
        prompts: N points.
        patches: the whole image's graph, where one is at hand already for other points of the same image.
        paper: raw Euclidean distances and no diffusion, as the paper has it.

    Returns:
        The graph; its distances are symmetric, not negative, and 0 on the diagonal.
    """
    coords = prompts.coords
    height, width = features.image_size
    physical = np.linalg.norm(coords[:, None] - coords[None], axis=-1) / np.hypot(height, width)
    if paper:
        vectors, unit = features.at(coords), 1.0
        diffusion = np.eye(len(prompts), dtype=np.float32)
    else:
        # The square of the distance of unit vectors is 2 (1 - cosine).
        vectors, unit = features.at(coords, radius=1), float(np.sqrt(2 * mean_distance(features)))
        diffusion = (patches or PatchGraph(features)).affinity(coords)
    # Without matrix products, whose rounding would put two points of one patch apart.
    semantic = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist").numpy() / unit
    return PromptGraph(prompts, semantic.astype(np.float32), physical.astype(np.float32), diffusion.astype(np.float32))


def mean_distance(features: PatchFeatures) -> float:
    """Mean of 1 - cosine over all pairs of patches of the image: the yardstick of the semantic space.

    In closed form: the mean cosine of all pairs is the squared length of the mean unit vector.
    """
    mean = features.unit.flatten(0, 1).mean(0)
    return max(1e-6, 1 - float(mean @ mean))
