"""Adapter for predictor objects: segment-anything's SamPredictor, MobileSAM's, SAM2ImagePredictor and their like."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..errors import SegmenterError
from .base import Capabilities, Embedding, Frame, Multimask, Prediction, check_batch, check_image, wants_multimask

SAM_INPUT_SIZE = 1024

# What the known predictors remember of their one current image, the indispensable apart from the rest:
# SamPredictor's names, then SAM2ImagePredictor's.
_STATES = (
    ({"features", "original_size", "input_size"}, {"is_image_set", "orig_h", "orig_w", "input_h", "input_w"}),
    ({"_features", "_orig_hw"}, {"_is_image_set", "_is_batch"}),
)


@dataclass(frozen=True, eq=False)
class PredictorPrediction(Prediction):
    """A `Prediction` whose full-size masks come from the predictor itself.

    Attributes:
        own_masks: (B, H, W) bool, or None where the predictor gives masks of another size.
    """

    own_masks: NDArray[np.bool_] | None = None

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """(B, H, W) bool at the original size: the predictor's own where it gives such."""
        return super().masks if self.own_masks is None else self.own_masks


class PredictorSegmenter:
    """Any object with `set_image(image)` and `predict(...)` as a `Segmenter`.

    `predict` has to take `point_coords` (N, 2), `point_labels` (N,), `multimask_output`, and return masks (M, H, W),
    predicted IoU (M,) and low-resolution logits (M, h, w), as SamPredictor does. Such an object holds one image at a
    time; embeddings made here carry what it remembers of theirs, so going back to an earlier image encodes nothing.
    An object that keeps its state under names unknown here encodes again instead, and must not be given images
    behind the adapter's back. Point sets run one by one. With SAM2, set the model's
    `dynamic_multimask_via_stability` to False for masks that do not jump.

    Args:
        predictor: the object; it is used as it is, never changed but for its current image.

    Raises:
        SegmenterError: it lacks `set_image` or `predict`.
    """

    capabilities = Capabilities(batch=False)

    def __init__(self, predictor: Any) -> None:
        if not (callable(getattr(predictor, "set_image", None)) and callable(getattr(predictor, "predict", None))):
            raise SegmenterError(
                f"A {type(predictor).__name__} is no predictor; give an object with set_image() and predict()."
            )
        self.predictor = predictor
        self.name = type(predictor).__name__
        # SAM2's predictor alone carries its transforms under this name, and SAM2 alone stretches.
        self._frame = Frame.stretched if hasattr(predictor, "_transforms") else Frame.padded
        self.input_size = _input_size(predictor)
        self._current: Embedding | None = None

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """Encode an image (H, W, 3) uint8 RGB. See `Segmenter.embed`.

        Raises:
            SegmenterError: the predictor shows its image embedding nowhere, so that there is nothing to build a
                graph from.
        """
        image = check_image(image)
        self.predictor.set_image(image)
        frame = self._frame(image.shape[:2], self.input_size)
        self._current = Embedding(frame, self._features(), _state(self.predictor), image)
        return self._current

    def predict(
        self, embedding: Embedding, coords: ArrayLike, labels: ArrayLike, multimask: Multimask = "auto"
    ) -> PredictorPrediction:
        """Decode B point sets of equal length, one after the other. See `Segmenter.predict`."""
        xy, marks = check_batch(coords, labels, self.capabilities)
        several = wants_multimask(multimask, marks)
        self._return_to(embedding)
        sets = [self._decode(points, signs, several) for points, signs in zip(xy, marks, strict=True)]
        masks, logits, iou = zip(*sets, strict=True)
        fits = all(mask.shape == embedding.image_size for mask in masks)
        return PredictorPrediction(
            torch.stack(logits), torch.stack(iou), embedding.frame, np.stack(masks) if fits else None
        )

    def _decode(
        self, points: NDArray[np.float64], signs: NDArray[np.int64], several: bool
    ) -> tuple[NDArray[np.bool_], Tensor, Tensor]:
        """One set (N, 2), (N,) -> the mask, logits (h, w) and predicted IoU of the best mask."""
        masks, iou, logits = self.predictor.predict(point_coords=points, point_labels=signs, multimask_output=several)
        iou, logits = _as_float32(iou), _as_float32(logits)
        best = int(iou.argmax())
        return np.asarray(masks[best]) > 0, logits[best], iou[best]

    def _return_to(self, embedding: Embedding) -> None:
        """Make the embedding's image the predictor's current one."""
        if not isinstance(embedding.native, dict):
            raise SegmenterError(f"This embedding comes from another segmenter; make one with {self.name}'s embed.")
        if embedding.native:
            # Always, not only when the image changed here: the user may have set another one on the predictor.
            vars(self.predictor).update(embedding.native)
        elif embedding is not self._current:
            self.predictor.set_image(embedding.image)
        self._current = embedding

    def _features(self) -> Tensor:
        """The current image's embedding (C, h, w) float32 on the CPU."""
        predictor = self.predictor
        if callable(getattr(predictor, "get_image_embedding", None)):
            found = predictor.get_image_embedding()
        elif getattr(predictor, "features", None) is not None:
            found = predictor.features
        else:
            # EfficientViT-style and SAM2 predictors hold a dict of maps.
            maps = getattr(predictor, "_features", None)
            found = maps.get("image_embed") if isinstance(maps, dict) else None
        if found is None:
            raise SegmenterError(
                f"{self.name} shows no image embedding (get_image_embedding(), features or _features['image_embed']), "
                "which the graph is built from; add such a method to it."
            )
        features = _as_float32(found)
        return features[0] if features.ndim == 4 else features


def _as_float32(values: Any) -> Tensor:
    return torch.as_tensor(values).detach().to("cpu", torch.float32)


def _state(predictor: Any) -> dict[str, Any]:
    """What the predictor remembers of its current image; empty where it keeps it under names unknown here."""
    held = getattr(predictor, "__dict__", {})
    for needed, others in _STATES:
        if needed <= held.keys():
            return {name: held[name] for name in needed | (others & held.keys())}
    return {}


def _input_size(predictor: Any) -> int:
    """Side of the model's square input in pixels, from where the known predictors keep it, else SAM's 1024."""
    for path in ("model.image_encoder.img_size", "model.image_size", "transform.target_length"):
        value = predictor
        for name in path.split("."):
            value = getattr(value, name, None)
        if isinstance(value, int):
            return value
    return SAM_INPUT_SIZE
