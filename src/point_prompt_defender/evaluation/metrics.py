"""Measures of masks, and of gains over many cases with their uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..game import rewards


def dice(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice of two masks (H, W) in [0, 1]; 1 where both are empty."""
    return float(rewards.dice(mask, truth))


def boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask's pixels with a 4-neighbour outside it; pixels beyond the image count as outside."""
    return mask & ~ndimage.binary_erosion(mask)


def hd95(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """95th percentile Hausdorff distance in pixels: the larger of the two directed 95th percentiles, as in MONAI.

    0 where both masks are empty; the image's diagonal where one is.
    """
    if not mask.any() or not truth.any():
        return 0.0 if mask.any() == truth.any() else float(np.hypot(*mask.shape))
    a, b = boundary(mask), boundary(truth)
    to_b, to_a = ndimage.distance_transform_edt(~b)[a], ndimage.distance_transform_edt(~a)[b]
    return float(max(np.percentile(to_b, 95), np.percentile(to_a, 95)))


def boundary_f(mask: NDArray[np.bool_], truth: NDArray[np.bool_], tolerance: float = 2.0) -> float:
    """F measure of the boundaries in [0, 1]: a boundary pixel is matched within `tolerance` pixels of the other.

    1 where both masks are empty, 0 where one is.
    """
    if not mask.any() or not truth.any():
        return float(mask.any() == truth.any())
    a, b = boundary(mask), boundary(truth)
    precision = float((ndimage.distance_transform_edt(~b)[a] <= tolerance).mean())
    recall = float((ndimage.distance_transform_edt(~a)[b] <= tolerance).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def recovery(before: NDArray[np.floating], after: NDArray[np.floating], best: NDArray[np.floating]) -> float:
    """(after - before) / (best - before), each the mean over the cases first; NaN where nothing could be won."""
    room = float(np.mean(best) - np.mean(before))
    return (float(np.mean(after)) - float(np.mean(before))) / room if abs(room) > 1e-9 else float("nan")


def bootstrap(
    statistic: Callable[..., float],
    columns: Sequence[NDArray[np.floating]],
    groups: NDArray,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a statistic, drawing whole groups (images) with replacement.

    Args:
        statistic: takes the columns and gives a number.
        columns: arrays (n,) a case each.
        groups: (n,) which cases belong together and are drawn together.
        draws: how many resamples.
        seed: of the resampling.

    Returns:
        (low, high); NaN where fewer than two groups are there.
    """
    _, number = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(number == g) for g in range(number.max() + 1 if len(number) else 0)]
    if len(members) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        rows = np.concatenate([members[g] for g in rng.integers(len(members), size=len(members))])
        values.append(statistic(*(column[rows] for column in columns)))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
