"""Let a trained network play: the defender's greedy removal, the attacker's greedy activation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..feedback import Feedback
from ..game.rewards import iou
from ..game.rules import Role
from ..graph import PromptGraph
from .dqn import legal_nodes
from .observation import Positions
from .q_network import QNetwork

Decoder = Callable[[NDArray[np.bool_]], Feedback]  # (B, N) bool active sets -> answers


@dataclass(frozen=True)
class Budget:
    """How much of the segmenter's feedback a decision may use.

    Attributes:
        told: decode the present set before each move.
        first_probes: before the first move, how many single moves to decode too; None for all.
        later_probes: the same before each later move, the most promising ones by the network.
    """

    told: bool
    first_probes: int | None = 0
    later_probes: int | None = 0


BUDGETS = {
    "fast": Budget(told=False),
    "default": Budget(told=True),
    "thorough": Budget(told=True, first_probes=None, later_probes=4),
}


@dataclass(frozen=True, eq=False)
class Move:
    """One decision.

    Attributes:
        node: which node changed its status; None for STOP.
        q: (N,) the value of changing each node, as the network saw it then; NaN where not legal.
        position: what it saw (B = 1).
    """

    node: int | None
    q: NDArray[np.float32]
    position: Positions


def position_of(
    graph: PromptGraph,
    active: NDArray[np.bool_],
    moves_left: int,
    feedback: Feedback | None = None,
    probes: dict[int, Feedback] | None = None,
) -> Positions:
    """What the network gets to see of one position.

    Args:
        graph: the N nodes' graph.
        active: (N,) bool.
        moves_left: moves that the role has left.
        feedback: the segmenter's answer to the active set, where it was asked (a batch of one).
        probes: its answers to sets with one node changed, by that node.

    Returns:
        A batch of one.
    """
    count = len(graph)
    zero = np.zeros(count, np.float32)
    probed = np.zeros(count, bool)
    next_logits, next_contrast = np.zeros((2, count, count), np.float32)
    next_scalars = np.zeros((count, 4), np.float32)
    overlap = np.ones(count, np.float32)
    for node, answer in (probes or {}).items():
        assert feedback is not None, "probes without the state's own feedback"
        probed[node] = True
        next_logits[node], next_contrast[node] = answer.logits[0], answer.contrast[0]
        next_scalars[node] = answer.scalars[0]
        overlap[node] = iou(feedback.masks[0], answer.masks[0])
    arrays = {
        "real": np.ones(count, bool),
        "sign": graph.signs,
        "active": active,
        "semantic": graph.semantic,
        "physical": graph.physical,
        "diffusion": graph.diffusion,
        "moves_left": np.float32(moves_left),
        "told": np.bool_(feedback is not None),
        "logits": feedback.logits[0] if feedback else zero,
        "contrast": feedback.contrast[0] if feedback else zero,
        "scalars": feedback.scalars[0] if feedback else np.zeros(4, np.float32),
        "probed": probed,
        "next_logits": next_logits,
        "next_contrast": next_contrast,
        "next_scalars": next_scalars,
        "overlap": overlap,
    }
    return Positions(**{name: torch.from_numpy(np.array(value)[None]) for name, value in arrays.items()})


def flipped(active: NDArray[np.bool_], nodes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(K, N) the active set with each one of K nodes changed."""
    sets = np.repeat(active[None], len(nodes), 0)
    sets[np.arange(len(nodes)), nodes] ^= True
    return sets


@torch.no_grad()
def play_greedily(
    network: QNetwork,
    role: Role,
    graph: PromptGraph,
    active: NDArray[np.bool_],
    decode: Decoder,
    budget: Budget,
    moves: int,
) -> list[Move]:
    """Take the best move until it is STOP (the defender's, when no removal is worth anything) or no move is left.

    Args:
        network: the role's Q-network.
        role: who plays.
        graph: the N nodes' graph.
        active: (N,) bool at the start; not changed.
        decode: asks the segmenter.
        budget: how much to ask.
        moves: at most so many.

    Returns:
        The moves in order; the defender's last one is STOP unless the moves ran out.
    """
    active = active.copy()
    made: list[Move] = []
    while len(made) < moves:
        feedback = decode(active[None]) if budget.told else None
        position = position_of(graph, active, moves - len(made), feedback)
        legal = legal_nodes(position, role)[0].numpy()
        if not legal.any():
            break
        q = network(position)[0][0].numpy()
        wanted = budget.later_probes if made else budget.first_probes
        if feedback is not None and wanted != 0:
            nodes = np.flatnonzero(legal)
            nodes = nodes[np.argsort(-q[nodes], kind="stable")][:wanted]
            answers = decode(flipped(active, nodes))
            probes = {int(node): answers.row(i) for i, node in enumerate(nodes)}
            position = position_of(graph, active, moves - len(made), feedback, probes)
            q = network(position)[0][0].numpy()
        q = np.where(legal, q, np.nan)
        best = int(np.nanargmax(q))
        if role is Role.DEFENDER and q[best] <= 0:
            made.append(Move(None, q, position))
            break
        made.append(Move(best, q, position))
        active[best] ^= True
    return made


def kept(moves: list[Move], count: int) -> NDArray[np.bool_]:
    """(N,) bool, which of `count` nodes, all active at the start, a defender's moves left active."""
    keep = np.ones(count, bool)
    keep[[move.node for move in moves if move.node is not None]] = False
    return keep
