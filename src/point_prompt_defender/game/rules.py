"""The rules of the game, as pure functions: whose move does what to which node. No images, no masks, no chance.

Nodes carry a point and a label that never change; what changes is whether a node is active. The attacker activates one
inactive candidate a move. The defender deactivates one active node a move, or stops. At least one positive node stays
active, so that there is always something to segment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from ..prompts import POSITIVE


class Role(str, Enum):
    """Who moves."""

    ATTACKER = "attacker"
    DEFENDER = "defender"


@dataclass(frozen=True, eq=False)
class GameState:
    """One position.

    Attributes:
        labels: (N,) int, 1 positive, 0 negative; never changes.
        active: (N,) bool, whose points the segmenter gets.
        moves_left: how many moves the role has left.
        stopped: whether the defender has stopped.
    """

    labels: NDArray[np.int64]
    active: NDArray[np.bool_]
    moves_left: int
    stopped: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def stop(self) -> int:
        """The action that stops: one past the last node."""
        return len(self.labels)


def legal_actions(state: GameState, role: Role) -> NDArray[np.bool_]:
    """(N + 1,) bool, which actions are allowed; the last is STOP, which is the defender's alone.

    An attacker with no candidate left may stop too, so that nobody is ever without a move.
    """
    legal = np.zeros(len(state) + 1, bool)
    if state.stopped or state.moves_left == 0:
        return legal
    if role is Role.ATTACKER:
        legal[:-1] = ~state.active
        legal[-1] = not legal[:-1].any()
        return legal
    legal[:-1] = removable(state.labels, state.active)
    legal[-1] = True
    return legal


def removable(labels: NDArray[np.int64], active: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N,) bool, the active nodes that may go: all of them, less the last active positive."""
    positive = active & (labels == POSITIVE)
    return active & ~positive if positive.sum() == 1 else active.copy()


def play(state: GameState, action: int, role: Role) -> GameState:
    """The position after a legal move.

    Raises:
        ValueError: the move is not legal.
    """
    if not 0 <= action <= len(state) or not legal_actions(state, role)[action]:
        raise ValueError(f"Action {action} is not legal for the {role.value} here; choose among `legal_actions`.")
    if action == state.stop:
        return replace(state, stopped=True)
    active = state.active.copy()
    active[action] = role is Role.ATTACKER
    return replace(state, active=active, moves_left=state.moves_left - 1)


def is_over(state: GameState, role: Role) -> bool:
    """Whether the role has no more moves."""
    return not legal_actions(state, role).any()
