"""Ideal prompts: points sampled from a ground-truth mask (paper, initial state of the environment)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import ImageError
from ..prompts import NEGATIVE, POSITIVE, PointPrompts


def ideal_prompts(
    mask: NDArray[np.bool_], positives: int, negatives: int, rng: np.random.Generator, *, spaced: bool = True
) -> PointPrompts:
    """Positive points all over the object, negative ones all over the rest of the image.

    Args:
        mask: (H, W) bool, the object.
        positives, negatives: how many points of each label.
        rng: the source of chance.
        spaced: True for a fixed spacing, as in the paper; False for independent uniform points.

    Returns:
        Prompts, positives first. Points keep two pixels off the boundary where that leaves enough pixels for all of
        them, and are distinct where the region has enough.

    Raises:
        ImageError: the mask is empty, or covers the image while negatives are asked for.
        PromptError: no positive was asked for.
    """
    mask = np.asarray(mask, bool)
    if positives and not mask.any():
        raise ImageError("The mask is empty; there is nothing to put a positive point on.")
    if negatives and mask.all():
        raise ImageError("The mask covers the whole image; there is no place for a negative point.")
    sample = spaced_points if spaced else random_points
    coords = np.concatenate(
        [sample(off_boundary(mask, positives), positives, rng), sample(off_boundary(~mask, negatives), negatives, rng)]
    )
    labels = np.repeat([POSITIVE, NEGATIVE], [positives, negatives])
    return PointPrompts.checked(coords, labels, mask.shape)


def spaced_points(region: NDArray[np.bool_], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`count` pixels of a region (H, W) bool on a square grid at a random offset; (count, 2) float64 xy.

    The spacing is the widest tried at which the grid has enough nodes in the region; spare nodes are dropped at random.
    """
    if count == 0:
        return np.empty((0, 2))
    area = int(region.sum())
    spacing = max(1.0, np.sqrt(area / count))
    while spacing > 1:
        offset = rng.uniform(0, spacing, 2)
        rows = np.arange(offset[0], region.shape[0], spacing).astype(int)
        columns = np.arange(offset[1], region.shape[1], spacing).astype(int)
        nodes = np.argwhere(region[np.ix_(rows, columns)])
        if len(nodes) >= count:
            nodes = nodes[rng.permutation(len(nodes))[:count]]
            return np.stack([columns[nodes[:, 1]], rows[nodes[:, 0]]], 1).astype(np.float64)
        spacing *= 0.93
    return random_points(region, count, rng)


def random_points(region: NDArray[np.bool_], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`count` independent uniform pixels of a region (H, W) bool, distinct where it has enough; (count, 2) xy."""
    pixels = np.argwhere(region)[:, ::-1].astype(np.float64)
    return pixels[rng.choice(len(pixels), count, replace=len(pixels) < count)]


def off_boundary(region: NDArray[np.bool_], count: int, margin: int = 2) -> NDArray[np.bool_]:
    """The region less `margin` pixels along its boundary; the region itself where fewer than `count` would be left."""
    inner = ndimage.binary_erosion(region, iterations=margin, border_value=1)
    return inner if inner.sum() >= max(1, count) else region
