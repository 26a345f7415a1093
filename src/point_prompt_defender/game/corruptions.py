"""Ways in which points go wrong, from which the defender learns and against which it is measured.

Each takes ideal prompts and gives coarse ones, with a note of which points are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..prompts import NEGATIVE, POSITIVE, PointPrompts
from ..proposers.ideal import random_points


@dataclass(frozen=True, eq=False)
class Corrupted:
    """Coarse prompts.

    Attributes:
        prompts: the points as they come in.
        wrong: (N,) bool, which of them contradict the ground truth.
    """

    prompts: PointPrompts
    wrong: NDArray[np.bool_]


def contradicts(prompts: PointPrompts, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N,) bool, which points' labels differ from the mask (H, W) under them."""
    x, y = np.clip(np.round(prompts.coords).astype(int), 0, np.array(mask.shape)[::-1] - 1).T
    return mask[y, x] != (prompts.labels == POSITIVE)


def clean(prompts: PointPrompts, mask: NDArray[np.bool_]) -> Corrupted:
    """Nothing wrong."""
    return Corrupted(prompts, contradicts(prompts, mask))


def flip_labels(prompts: PointPrompts, mask: NDArray[np.bool_], count: int, rng: np.random.Generator) -> Corrupted:
    """Turn the labels of `count` points, chosen at random; at least one true positive stays."""
    labels = prompts.labels.copy()
    spare = rng.choice(np.flatnonzero(labels == POSITIVE))
    others = np.delete(np.arange(len(labels)), spare)
    chosen = rng.choice(others, min(count, len(others)), replace=False)
    labels[chosen] = 1 - labels[chosen]
    return clean(PointPrompts(prompts.coords, labels), mask)


def misplace(prompts: PointPrompts, mask: NDArray[np.bool_], count: int, rng: np.random.Generator) -> Corrupted:
    """Move `count` points to the wrong side near the boundary: positives just outside, negatives just inside.

    "Near" is within a tenth of the object's size, and at least 3 pixels.
    """
    reach = max(3, round(0.1 * float(np.sqrt(mask.sum()))))
    outside = ndimage.binary_dilation(mask, iterations=reach) & ~mask
    inside = mask & ~ndimage.binary_erosion(mask, iterations=reach, border_value=1)
    coords = prompts.coords.copy()
    spare = rng.choice(np.flatnonzero(prompts.labels == POSITIVE))
    others = np.delete(np.arange(len(coords)), spare)
    for index in rng.choice(others, min(count, len(others)), replace=False):
        region = outside if prompts.labels[index] == POSITIVE else inside
        if region.any():
            coords[index] = random_points(region, 1, rng)[0]
    return clean(PointPrompts(coords, prompts.labels), mask)


def jitter(prompts: PointPrompts, mask: NDArray[np.bool_], share: float, rng: np.random.Generator) -> Corrupted:
    """Displace every point by a normal deviate of `share` of the object's size (root of its area), inside the image."""
    scale = share * float(np.sqrt(mask.sum()))
    limit = np.array(mask.shape)[::-1] - 1
    coords = np.clip(np.round(prompts.coords + rng.normal(0, scale, prompts.coords.shape)), 0, limit)
    return clean(PointPrompts(coords, prompts.labels), mask)


def candidate_pool(mask: NDArray[np.bool_], count: int, rng: np.random.Generator) -> PointPrompts:
    """Inactive candidates for the attacker: half on the object, half off it, half of each with the wrong label.

    Args:
        mask: (H, W) bool, the object.
        count: how many candidates, a multiple of four.
        rng: the source of chance.
    """
    on, off = random_points(mask, count // 2, rng), random_points(~mask, count // 2, rng)
    labels = np.tile([POSITIVE, NEGATIVE], count // 2)
    return PointPrompts(np.concatenate([on, off]), labels)


def join(*parts: PointPrompts) -> PointPrompts:
    """All points of several sets as one set, in order."""
    return PointPrompts(np.concatenate([p.coords for p in parts]), np.concatenate([p.labels for p in parts]))
