"""Rewards: the change of the mask's Dice against the ground truth (paper, reward of both agents)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .rules import Role


def dice(masks: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Dice of masks (B, h, w) against one truth (h, w): (B,) in [0, 1]; 1 where both are empty."""
    overlap = (masks & truth).sum((-2, -1))
    total = masks.sum((-2, -1)) + truth.sum()
    return np.where(total == 0, 1.0, 2.0 * overlap / np.maximum(total, 1))


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def reward(dice_before: float, dice_after: float, role: Role, removal_cost: float = 0.0) -> float:
    """What one move earns: the gain in Dice less `removal_cost` for the defender, the loss for the attacker."""
    gain = dice_after - dice_before
    return gain - removal_cost if role is Role.DEFENDER else -gain
