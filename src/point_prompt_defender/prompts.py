"""Point prompts: the one form in which points travel through this package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import PromptError

POSITIVE, NEGATIVE = 1, 0


@dataclass(frozen=True, eq=False)
class PointPrompts:
    """Points on one image, checked.

    Attributes:
        coords: (N, 2) float64, (x, y) in pixels of the original image: x to the right, y down, (0, 0) the centre
            of the top left pixel.
        labels: (N,) int64, 1 positive (on the object), 0 negative (off it).
    """

    coords: NDArray[np.float64]
    labels: NDArray[np.int64]

    @classmethod
    def checked(cls, coords: ArrayLike, labels: ArrayLike, image_size: tuple[int, int] | None = None) -> PointPrompts:
        """Check points and labels as a user gave them.

        Args:
            coords: (N, 2) numbers, (x, y) pixels of the original image.
            labels: (N,) integers, 1 positive or 0 negative.
            image_size: (height, width); where given, every point has to lie on the image.

        Raises:
            PromptError: wrong shapes, not numbers, NaN, labels other than 0 and 1, no point, no positive point,
                or a point outside the image.
        """
        xy = _as_floats(coords)
        if xy.size == 0:
            raise PromptError("There are no points; give at least one positive point.")
        if xy.ndim != 2 or xy.shape[1] != 2:
            raise PromptError(f"Points must have shape (N, 2), one (x, y) a row, but have shape {xy.shape}.")
        raw = _as_floats(labels)
        if raw.shape != (len(xy),):
            raise PromptError(f"There must be one label a point: {len(xy)} points, but labels of shape {raw.shape}.")
        if not np.isin(raw, (NEGATIVE, POSITIVE)).all():
            wrong = raw[~np.isin(raw, (NEGATIVE, POSITIVE))][0]
            raise PromptError(f"Labels must be 1 (positive) or 0 (negative), but one is {wrong:g}.")
        if not np.isfinite(xy).all():
            bad = int(np.flatnonzero(~np.isfinite(xy).all(1))[0])
            raise PromptError(f"Point {bad} is {tuple(xy[bad].tolist())}; coordinates must be finite numbers.")
        if not (raw == POSITIVE).any():
            raise PromptError("There is no positive point; a mask needs at least one point with label 1.")
        if image_size is not None:
            height, width = image_size
            # A pixel is a square around its centre, so the image reaches half a pixel beyond the outer centres.
            outside = (xy < -0.5).any(1) | (xy[:, 0] > width - 0.5) | (xy[:, 1] > height - 0.5)
            if outside.any():
                bad = int(np.flatnonzero(outside)[0])
                raise PromptError(
                    f"Point {bad} at (x={xy[bad, 0]:g}, y={xy[bad, 1]:g}) lies outside the image of "
                    f"{width} x {height} pixels; give pixels of the original image, x first."
                )
        return cls(xy, raw.astype(np.int64))

    def __len__(self) -> int:
        return len(self.coords)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> PointPrompts:
        """Some of the points, by numbers in the wanted order or by a mask (N,) bool."""
        return PointPrompts(self.coords[index], self.labels[index])


@dataclass(frozen=True, eq=False)
class RefineResult:
    """What the defender decided for N points, and the mask that follows.

    Attributes:
        keep: (N,) bool, which points to give to the segmenter.
        q_values: (N,) float, what removing each point was judged to be worth, in Dice: for a dropped point when it was
            dropped, for a kept one at the end; NaN where a point could not go (the last positive).
        removal_order: numbers of the dropped points, first dropped first.
        reasons: N sentences, why a point was dropped; "" for kept points.
        mask: (H, W) bool, the segmenter's mask from the kept points.
        predicted_iou: the segmenter's own estimate of that mask's IoU.
        timings: seconds by stage (embed, graph, decide, mask, total) and counts (encodes, decodes).
        decode_before: gives the mask (H, W) and predicted IoU of all N points; asked at most once, when needed.
    """

    keep: NDArray[np.bool_]
    q_values: NDArray[np.float64]
    removal_order: list[int]
    reasons: list[str]
    mask: NDArray[np.bool_]
    predicted_iou: float
    timings: dict[str, float]
    decode_before: Callable[[], tuple[NDArray[np.bool_], float]] = field(repr=False)

    @cached_property
    def _before(self) -> tuple[NDArray[np.bool_], float]:
        return self.decode_before()

    @property
    def mask_before(self) -> NDArray[np.bool_]:
        """(H, W) bool, the segmenter's mask from all points; decoded when first asked for, if deciding did not."""
        return self._before[0]

    @property
    def predicted_iou_before(self) -> float:
        """The segmenter's own estimate of `mask_before`'s IoU."""
        return self._before[1]


def _as_floats(values: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise PromptError("Points and labels must be plain arrays of numbers, all rows of one length.") from None
