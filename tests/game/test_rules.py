"""The rules, over positions and games drawn at random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from point_prompt_defender.agents.dqn import legal_nodes
from point_prompt_defender.agents.policy import position_of
from point_prompt_defender.game.rules import GameState, Role, is_over, legal_actions, play, removable
from point_prompt_defender.graph import PromptGraph
from point_prompt_defender.prompts import PointPrompts


@st.composite
def positions(draw) -> GameState:
    """Any position that a game can be in: at least one active positive node."""
    count = draw(st.integers(1, 10))
    labels = np.array(draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    active = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    first = draw(st.integers(0, count - 1))
    labels[first], active[first] = 1, True
    return GameState(labels, active, draw(st.integers(0, 4)))


roles = st.sampled_from(Role)


@given(positions(), roles)
@settings(max_examples=200)
def test_the_mask_says_exactly_what_play_allows(state, role):
    legal = legal_actions(state, role)
    assert legal.shape == (len(state) + 1,) and legal.dtype == bool
    for action in range(-1, len(state) + 2):
        allowed = 0 <= action <= len(state) and legal[action]
        try:
            play(state, action, role)
        except ValueError:
            assert not allowed
        else:
            assert allowed


@given(positions(), roles)
@settings(max_examples=200)
def test_a_move_changes_one_node_s_status_and_nothing_else(state, role):
    labels, active = state.labels.copy(), state.active.copy()
    for action in np.flatnonzero(legal_actions(state, role)[:-1]):
        after = play(state, int(action), role)
        assert np.flatnonzero(after.active != active).tolist() == [action]
        assert after.active[action] == (role is Role.ATTACKER)
        assert after.moves_left == state.moves_left - 1 and not after.stopped
        np.testing.assert_array_equal(after.labels, labels)
    np.testing.assert_array_equal(state.active, active)  # the position before is as it was


@given(positions(), roles)
@settings(max_examples=200)
def test_legal_moves_are_those_of_the_role(state, role):
    legal = legal_actions(state, role)
    if state.moves_left == 0:
        assert not legal.any() and is_over(state, role)
        return
    assert not is_over(state, role)
    if role is Role.ATTACKER:
        np.testing.assert_array_equal(legal[:-1], ~state.active)
        assert legal[-1] == state.active.all()
    else:
        assert legal[-1]
        for node in range(len(state)):
            left = state.active & (np.arange(len(state)) != node) & (state.labels == 1)
            assert legal[node] == (state.active[node] and left.any())


@given(positions(), roles, st.integers(0, 2**31))
@settings(max_examples=100)
def test_every_game_ends_with_a_positive_active(state, role, seed):
    rng, moves = np.random.default_rng(seed), 0
    while not is_over(state, role):
        state = play(state, int(rng.choice(np.flatnonzero(legal_actions(state, role)))), role)
        moves += 1
        assert (state.active & (state.labels == 1)).any()
    assert moves <= 4


@given(positions())
@settings(max_examples=50)
def test_stop_ends_the_game_and_touches_nothing(state):
    if state.moves_left == 0:
        return
    after = play(state, state.stop, Role.DEFENDER)
    assert after.stopped and is_over(after, Role.DEFENDER)
    np.testing.assert_array_equal(after.active, state.active)


@given(positions(), roles)
@settings(max_examples=100)
def test_the_agents_batched_mask_agrees_with_the_rules(state, role):
    count = len(state)
    square = np.zeros((count, count), np.float32)
    graph = PromptGraph(PointPrompts(np.zeros((count, 2)), state.labels), square, square, square)
    batched = legal_nodes(position_of(graph, state.active, 1), role)
    expected = legal_actions(GameState(state.labels, state.active, 1), role)[:-1]
    assert torch.equal(batched[0], torch.from_numpy(expected))


def test_removable_spares_the_last_positive_only():
    labels = np.array([1, 1, 0, 0])
    np.testing.assert_array_equal(removable(labels, np.array([1, 1, 1, 0], bool)), [1, 1, 1, 0])
    np.testing.assert_array_equal(removable(labels, np.array([0, 1, 1, 0], bool)), [0, 0, 1, 0])


def test_an_illegal_move_says_whose_and_what():
    state = GameState(np.array([1, 0]), np.array([True, True]), 3)
    with pytest.raises(ValueError, match="Action 0 is not legal for the defender"):
        play(state, 0, Role.DEFENDER)
