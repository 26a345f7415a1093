"""What every segmenter gives and takes: the protocol, and the data that passes through it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..errors import ImageError, PromptError, SegmenterError

Multimask = bool | Literal["auto"]


@dataclass(frozen=True)
class Capabilities:
    """What a segmenter can do. Nothing is silently truncated: `predict` raises where a limit is passed.

    Attributes:
        max_points: most points a set may have, None for any number.
        negatives: whether negative points are understood.
        batch: whether several point sets decode in one call (else they run one by one).
        multimask: whether three masks can be asked for.
    """

    max_points: int | None = None
    negatives: bool = True
    batch: bool = True
    multimask: bool = True


@dataclass(frozen=True)
class Frame:
    """Where the original image lies in the model's square input.

    SAM keeps the aspect ratio and pads right and below (scale_x == scale_y); SAM2 and SAM3 stretch to the square.

    Attributes:
        image_size: (height, width) of the original image, pixels.
        input_size: side of the model's square input, pixels.
        scale_x, scale_y: input pixels an original pixel.
    """

    image_size: tuple[int, int]
    input_size: int
    scale_x: float
    scale_y: float

    @classmethod
    def padded(cls, image_size: tuple[int, int], input_size: int) -> Frame:
        """Longest side to `input_size`, aspect kept, as SAM does."""
        scale = input_size / max(image_size)
        return cls(image_size, input_size, scale, scale)

    @classmethod
    def stretched(cls, image_size: tuple[int, int], input_size: int) -> Frame:
        """Both sides to `input_size`, as SAM2 does."""
        height, width = image_size
        return cls(image_size, input_size, input_size / width, input_size / height)

    @property
    def content_size(self) -> tuple[int, int]:
        """(height, width) in input pixels of the part that the image covers."""
        height, width = self.image_size
        return max(1, int(height * self.scale_y + 0.5)), max(1, int(width * self.scale_x + 0.5))

    def to_input(self, coords: NDArray[np.floating]) -> NDArray[np.float64]:
        """Original pixels (..., 2) xy -> input pixels (..., 2) xy."""
        return np.asarray(coords, np.float64) * [self.scale_x, self.scale_y]

    def cells(self, side: int) -> tuple[int, int]:
        """(rows, columns) of a side x side grid over the square input that the image covers, if only in part."""
        height, width = self.content_size
        return (min(side, -(-height * side // self.input_size)), min(side, -(-width * side // self.input_size)))

    def cell_of(self, coords: NDArray[np.floating], side: int) -> NDArray[np.int64]:
        """Original pixels (..., 2) xy -> (..., 2) row and column in a side x side grid over the square input."""
        xy = (np.asarray(coords, np.float64) + 0.5) * [self.scale_x, self.scale_y] * (side / self.input_size)
        rows, columns = self.cells(side)
        return np.clip(np.floor(xy[..., ::-1]).astype(np.int64), 0, [rows - 1, columns - 1])

    def mask_to_grid(self, mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
        """Mask (H, W) of the original image -> (side, side) bool over the square input, False in the padding.

        Raises:
            ImageError: the mask has another size than the image.
        """
        if mask.shape != self.image_size:
            raise ImageError(
                f"The mask is {mask.shape} but the image {self.image_size} (height, width); they must agree."
            )
        # Read the mask at each cell's centre: an exact resampling for the low-resolution Dice of the rewards.
        centres = (np.arange(side) + 0.5) * (self.input_size / side)
        rows = np.floor(centres / self.scale_y).astype(int)
        columns = np.floor(centres / self.scale_x).astype(int)
        inside = np.ix_(rows[rows < mask.shape[0]], columns[columns < mask.shape[1]])
        grid = np.zeros((side, side), bool)
        part = np.asarray(mask, bool)[inside]
        grid[: part.shape[0], : part.shape[1]] = part
        return grid

    def upsample(self, low_res: Tensor) -> Tensor:
        """Low-resolution logits (B, h, w) over the square input -> (B, H, W) logits over the original image.

        Bilinear to the input size, padding cut, bilinear to the original size: the order in which SAM does it.
        """
        full = F.interpolate(low_res[:, None].float(), (self.input_size, self.input_size), mode="bilinear")
        height, width = self.content_size
        return F.interpolate(full[..., :height, :width], self.image_size, mode="bilinear")[:, 0]


@dataclass(frozen=True, eq=False)
class Embedding:
    """An image as a segmenter sees it: computed once, decoded from often.

    Attributes:
        frame: where the image lies in the model's input.
        features: (C, h, w) float32 on the CPU, the grid that covers the square input, for the graph.
        native: what the segmenter itself needs to decode; nobody else looks inside.
        image: (H, W, 3) uint8 original, kept where another feature extractor needs it, else None.
    """

    frame: Frame
    features: Tensor
    native: Any = None
    image: NDArray[np.uint8] | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the original image."""
        return self.frame.image_size


@dataclass(frozen=True, eq=False)
class Prediction:
    """Masks of B point sets.

    Attributes:
        low_res_logits: (B, h, w) float, over the model's square input, padding included.
        predicted_iou: (B,) float, the model's own estimate of each mask's quality.
        frame: the geometry that leads back to the original image.
    """

    low_res_logits: Tensor
    predicted_iou: Tensor
    frame: Frame

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """(B, H, W) bool at the original size; computed when first asked for."""
        return np.concatenate([(self.frame.upsample(one[None]) > 0).cpu().numpy() for one in self.low_res_logits])


@runtime_checkable
class Segmenter(Protocol):
    """A promptable model: image -> embedding (slow, once), embedding + points -> masks (fast, often)."""

    name: str
    capabilities: Capabilities

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """Encode an image (H, W, 3) uint8 RGB.

        Raises:
            ImageError: not such an array.
        """
        ...

    def predict(
        self, embedding: Embedding, coords: ArrayLike, labels: ArrayLike, multimask: Multimask = "auto"
    ) -> Prediction:
        """Decode B point sets of equal length N.

        Args:
            embedding: from `embed` of the same segmenter.
            coords: (B, N, 2) float, xy pixels of the original image.
            labels: (B, N) int, 1 positive, 0 negative.
            multimask: True takes the best of three masks by predicted IoU, False the single mask, "auto" the best
                of three for one positive point alone and the single mask otherwise, as SAM was trained.

        Raises:
            PromptError: shapes that do not fit.
            SegmenterError: more points, or other ones, than the segmenter takes.
        """
        ...


def check_image(image: Any) -> NDArray[np.uint8]:
    """Check an image for `Segmenter.embed`: (H, W, 3) uint8, at least one pixel.

    Raises:
        ImageError: it is something else.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.dtype} array of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"An image must be a (height, width, 3) uint8 RGB array, but this is a {got}.")
    if image.size == 0:
        raise ImageError(f"The image has no pixels (shape {image.shape}).")
    return image


def check_batch(
    coords: ArrayLike, labels: ArrayLike, capabilities: Capabilities
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Check a batch for `Segmenter.predict`; returns coords (B, N, 2) float64 and labels (B, N) int64.

    Raises:
        PromptError: shapes or values that do not fit.
        SegmenterError: beyond the segmenter's capabilities.
    """
    try:
        xy, marks = np.asarray(coords, np.float64), np.asarray(labels)
    except (TypeError, ValueError):
        raise PromptError("predict takes arrays of numbers; group point sets of unequal length.") from None
    if xy.ndim != 3 or xy.shape[2] != 2 or marks.shape != xy.shape[:2]:
        raise PromptError(f"predict takes coords (B, N, 2) and labels (B, N), but got {xy.shape} and {marks.shape}.")
    if 0 in xy.shape:
        raise PromptError("predict needs at least one set and at least one point a set.")
    if not np.isfinite(xy).all() or not np.isin(marks, (0, 1)).all():
        raise PromptError("predict takes finite coordinates and labels 0 or 1; leave a point out rather than pad.")
    if capabilities.max_points is not None and xy.shape[1] > capabilities.max_points:
        raise SegmenterError(f"This segmenter takes at most {capabilities.max_points} points, but got {xy.shape[1]}.")
    if not capabilities.negatives and (marks == 0).any():
        raise SegmenterError("This segmenter takes no negative points; leave them out.")
    return xy, marks.astype(np.int64)


def wants_multimask(multimask: Multimask, labels: NDArray[np.int64]) -> bool:
    """Resolve "auto": three masks for one positive point alone, the single mask otherwise. Labels (B, N)."""
    if multimask == "auto":
        return labels.shape[1] == 1 and bool((labels == 1).all())
    return bool(multimask)


def best_of(logits: Tensor, iou: Tensor) -> tuple[Tensor, Tensor]:
    """Of M masks a set take the one with the highest predicted IoU: (B, M, h, w), (B, M) -> (B, h, w), (B,)."""
    best = iou.argmax(1)
    rows = torch.arange(len(iou), device=iou.device)
    return logits[rows, best], iou[rows, best]
