"""Say why a point was dropped, in facts that a person can check."""

from __future__ import annotations

import numpy as np

from .agents.policy import Decoder, Move
from .feedback import SCALARS
from .graph import PromptGraph
from .prompts import POSITIVE

NEIGHBOURS = 4
ESTIMATE, AREA = SCALARS.index("predicted_iou"), SCALARS.index("area")
_NUMBERS = ("none", "one", "two", "three", "four")


def explain(graph: PromptGraph, moves: list[Move], decode: Decoder | None) -> list[str]:
    """One sentence a dropped point, "" for kept ones.

    Args:
        graph: the N points' graph.
        moves: the defender's moves, in order.
        decode: the segmenter's answers to active sets, where they were asked for while deciding; None else.

    Returns:
        N sentences, such as "labelled positive, but its four nearest patches in feature space are negative; it lies
        inside the mask that all points together gave; without it SAM's own IoU estimate rises 0.61 -> 0.83; the mask
        shrinks from 40.2 % to 9.1 % of the image".
    """
    reasons = [""] * len(graph)
    active = np.ones(len(graph), bool)
    for move in moves:
        if move.node is None:
            continue
        facts = [_neighbours(graph, active, move.node)]
        after = active.copy()
        after[move.node] = False
        if decode is not None:
            before_it, without = decode(active[None]), decode(after[None])
            facts.append(_mask_at_point(graph, active, move.node, float(before_it.logits[0, move.node])))
            facts.append(_estimate(float(before_it.scalars[0, ESTIMATE]), float(without.scalars[0, ESTIMATE])))
            facts.append(_area(float(before_it.scalars[0, AREA]), float(without.scalars[0, AREA])))
        reasons[move.node] = "; ".join(facts)
        active = after
    return reasons


def _neighbours(graph: PromptGraph, active: np.ndarray, node: int) -> str:
    others = np.flatnonzero(active & (np.arange(len(graph)) != node))
    nearest = others[np.argsort(graph.semantic[node, others], kind="stable")][:NEIGHBOURS]
    own = graph.prompts.labels[node]
    against = int((graph.prompts.labels[nearest] != own).sum())
    mine, other = ("positive", "negative") if own == POSITIVE else ("negative", "positive")
    count, total = _NUMBERS[against], _NUMBERS[len(nearest)]
    verb = "is" if against == 1 else "are"
    if len(nearest) == 1:
        link, label = ("but", other) if against else ("and", mine)
        return f"labelled {mine}, {link} its only neighbour in feature space is {label}"
    if against == len(nearest):
        return f"labelled {mine}, but its {total} nearest patches in feature space {verb} {other}"
    link = "but" if 2 * against >= len(nearest) else "and only" if against else "and"
    return f"labelled {mine}, {link} {count} of its {total} nearest patches in feature space {verb} {other}"


def _mask_at_point(graph: PromptGraph, active: np.ndarray, node: int, logit: float) -> str:
    positive = graph.prompts.labels[node] == POSITIVE
    inside = "inside" if logit > 0 else "outside"
    points = "all points together" if active.all() else f"the {active.sum()} points left by then"
    agrees = (logit > 0) == positive
    return f"it lies {inside} the mask that {points} gave" + ("" if agrees else ", against its label")


def _estimate(before: float, after: float) -> str:
    if round(after, 2) == round(before, 2):
        return f"without it SAM's own IoU estimate stays at {after:.2f}"
    verb = "rises" if after > before else "falls"
    return f"without it SAM's own IoU estimate {verb} {before:.2f} -> {after:.2f}"


def _area(before: float, after: float) -> str:
    old, new = f"{100 * before:.1f} %", f"{100 * after:.1f} %"
    if old == new:
        return f"the mask keeps its size, {new} of the image"
    return f"the mask {'grows' if after > before else 'shrinks'} from {old} to {new} of the image"
