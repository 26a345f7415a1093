"""What any learned defender has to beat: methods without learning, and the two that know the truth.

A control takes a `Case` and says which points to keep. All of them obey the rules of the game: points are only ever
left out, and at least one positive stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .agents.policy import Decoder, flipped
from .features.base import PatchFeatures
from .game.rewards import dice
from .game.rules import removable
from .graph import PatchGraph
from .prompts import POSITIVE, PointPrompts

Keep = NDArray[np.bool_]
Score = Callable[[NDArray[np.bool_]], NDArray[np.float64]]  # (B, N) active sets -> (B,) how good they seem


@dataclass(frozen=True, eq=False)
class Case:
    """What a control may look at.

    Attributes:
        prompts: the N coarse points.
        features: patch features of the image.
        patches: the whole image's graph.
        decode: the segmenter's answers to active sets (see `FeedbackDecoder`).
        rng: the source of chance.
        truth: (h, w) bool at low resolution, for `oracle` alone; None elsewhere.
        wrong: (N,) bool, for `noise_oracle` alone; None elsewhere.
    """

    prompts: PointPrompts
    features: PatchFeatures
    patches: PatchGraph
    decode: Decoder
    rng: np.random.Generator
    truth: NDArray[np.bool_] | None = None
    wrong: NDArray[np.bool_] | None = None


def keep_all(case: Case) -> Keep:
    """Give the points as they are."""
    return np.ones(len(case.prompts), bool)


def random_removal(case: Case, count: int = 4) -> Keep:
    """Leave out `count` points at random: what fewer points alone do."""
    keep = keep_all(case)
    for _ in range(count):
        allowed = np.flatnonzero(removable(case.prompts.labels, keep))
        if not len(allowed):
            break
        keep[case.rng.choice(allowed)] = False
    return keep


def knn(case: Case, physical: bool = False, diffusion: bool = False) -> Keep:
    """kNN consistency: leave out every point whose label its kernel-weighted neighbours contradict.

    Features are averaged over 3 x 3 patches; the weight of a neighbour is exp(8 (cosine - 1)).

    Args:
        case: the points.
        physical: multiply the weights by exp(-10 distance), distance in image diagonals: both spaces of the graph.
        diffusion: add the vote of label spreading over the whole patch graph.
    """
    vectors = case.features.at(case.prompts.coords, radius=1)
    weights = np.exp(8 * ((vectors @ vectors.t()).numpy().astype(np.float64) - 1))
    if physical:
        coords = case.prompts.coords / np.hypot(*case.features.image_size)
        weights = weights * np.exp(-10 * np.linalg.norm(coords[:, None] - coords[None], axis=-1))
    vote = _vote(weights, case.prompts)
    if diffusion:
        vote = vote + _vote(case.patches.affinity(case.prompts.coords), case.prompts)
    return _at_least_one_positive(vote >= 0, vote, case.prompts)


def _vote(weights: NDArray[np.floating], prompts: PointPrompts) -> NDArray[np.float64]:
    """(N,) in [-1, 1], how far the others agree with each point's label."""
    signs = np.where(prompts.labels == POSITIVE, 1.0, -1.0)
    weights = np.array(weights, np.float64)
    np.fill_diagonal(weights, 0)
    return signs * (weights @ signs) / np.maximum(weights.sum(1), 1e-12)


def _at_least_one_positive(keep: Keep, vote: NDArray[np.float64], prompts: PointPrompts) -> Keep:
    positive = np.flatnonzero(prompts.labels == POSITIVE)
    if not keep[positive].any():
        keep[positive[vote[positive].argmax()]] = True
    return keep


def leave_one_out_iou(case: Case) -> Keep:
    """Greedy: leave out whichever point raises the segmenter's own IoU estimate most, while one does."""
    return greedy(case.prompts, lambda sets: case.decode(sets).scalars[:, 0].astype(np.float64))


def leave_one_out_stability(case: Case) -> Keep:
    """Greedy: the same with the mask's stability, its IoU between the thresholds +1 and -1."""
    return greedy(case.prompts, lambda sets: case.decode(sets).scalars[:, 1].astype(np.float64))


def oracle(case: Case) -> Keep:
    """Greedy removal with the ground truth in hand: the upper bound for removing points one by one."""
    truth = case.truth
    assert truth is not None, "the oracle needs the truth"
    return greedy(case.prompts, lambda sets: dice(case.decode(sets).masks, truth))


def noise_oracle(case: Case) -> Keep:
    """Leave out exactly the points whose labels are wrong."""
    assert case.wrong is not None, "the noise oracle needs to know which points are wrong"
    return _at_least_one_positive(~case.wrong, -case.wrong.astype(np.float64), case.prompts)


def greedy(prompts: PointPrompts, score: Score) -> Keep:
    """Leave out one point at a time, the one without which the score is highest, while it rises."""
    keep = np.ones(len(prompts), bool)
    best = float(score(keep[None])[0])
    while len(nodes := np.flatnonzero(removable(prompts.labels, keep))):
        scores = score(flipped(keep, nodes))
        if scores.max() <= best:
            break
        best = float(scores.max())
        keep[nodes[scores.argmax()]] = False
    return keep


CONTROLS: dict[str, Callable[[Case], Keep]] = {
    "keep-all": keep_all,
    "random-4": random_removal,
    "knn": knn,
    "knn-dual": lambda case: knn(case, physical=True),
    "knn-diffusion": lambda case: knn(case, diffusion=True),
    "knn-dual-diffusion": lambda case: knn(case, physical=True, diffusion=True),
    "loo-iou": leave_one_out_iou,
    "loo-stability": leave_one_out_stability,
}
ORACLES: dict[str, Callable[[Case], Keep]] = {"noise-oracle": noise_oracle, "oracle": oracle}
