"""The environment: PettingZoo's and Gymnasium's own conformance tests, and what its docstring promises."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from pettingzoo.test import api_test, seed_test

from point_prompt_defender.errors import ConfigError
from point_prompt_defender.feedback import Feedback
from point_prompt_defender.game.env import (
    BOUND,
    AttackerEnv,
    Board,
    DefenderEnv,
    PromptGameEnv,
    make_env,
    random_policy,
)
from point_prompt_defender.game.rewards import dice
from point_prompt_defender.graph import PromptGraph
from point_prompt_defender.prompts import PointPrompts

SIDE, NODES, SPARE = 24, 12, 3
MAX_NODES = NODES + SPARE


def toy_board(rng: np.random.Generator) -> Board:
    """A disc, eight true and four false points, and a segmenter that gives each pixel its nearest point's label."""
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), -1).astype(float)  # (y, x) -> xy
    truth = np.linalg.norm(grid - rng.uniform(8, 16, 2), axis=-1) < 7
    coords = rng.permutation(grid.reshape(-1, 2))[:NODES]
    true = truth[coords[:, 1].astype(int), coords[:, 0].astype(int)]
    wrong = np.zeros(NODES, bool)
    wrong[rng.permutation(NODES)[:4]] = True
    labels = (true != wrong).astype(np.int64)
    active = ~wrong
    first = np.flatnonzero(active)[0]
    labels[first] = 1  # a game needs an active positive point
    distance = np.linalg.norm(coords[:, None] - coords[None], axis=-1)
    graph = PromptGraph(
        PointPrompts(coords, labels),
        (1000 * distance).astype(np.float32),  # beyond the observation's bounds, as raw features may be
        (distance / SIDE).astype(np.float32),
        np.exp(-distance).astype(np.float32),
    )

    def decode(sets: np.ndarray) -> Feedback:
        logits = []
        for row in sets:
            away = np.linalg.norm(grid[None] - coords[row][:, None, None], axis=-1)  # (n, h, w)
            far = np.full((1, SIDE, SIDE), 40.0)
            positive, negative = labels[row] == 1, labels[row] == 0
            logits.append(np.vstack([away[negative], far]).min(0) - np.vstack([away[positive], far]).min(0))
        low = np.array(logits, np.float32)
        x, y = coords.astype(int).T
        scalars = np.stack(
            [np.full(len(low), 1.01), np.ones(len(low)), (low > 0).mean((1, 2)), 500 * np.ones(len(low))]
        )
        return Feedback(low[:, y, x], low[:, y, x] / 10, scalars.T.astype(np.float32), low)

    return Board(graph, active, decode, truth)


def game(**settings) -> PromptGameEnv:
    return PromptGameEnv(toy_board, MAX_NODES, **settings)


def play_at_random(env: PromptGameEnv, seed: int) -> list[tuple]:
    """Play one game; (agent, observation, action, reward of the move, Dice before, Dice after) a move."""
    env.reset(seed=seed)
    rng, trail = np.random.default_rng(seed), []
    while not env.terminations[env.agent_selection]:
        agent, before = env.agent_selection, env.dice
        seen = env.observe(agent)
        action = random_policy(seen, rng)
        env.step(action)
        trail.append((agent, seen, action, env.rewards[agent], before, env.dice))
    return trail


# What neither check can know: agents are called by their roles, and observations are dicts on purpose.
EXPECTED = "agents to be named in the format|Observation space for each agent probably|Observation is not a NumPy array"


@pytest.mark.parametrize("make", [game, lambda: make_env(toy_board, MAX_NODES)], ids=["raw", "wrapped"])
def test_pettingzoo_conformance(make):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        api_test(make(), num_cycles=200)
        seed_test(make, num_cycles=50)
    unexpected = [str(w.message) for w in caught if not re.search(EXPECTED, str(w.message))]
    assert not unexpected


@pytest.mark.parametrize("view", [AttackerEnv, DefenderEnv])
def test_gymnasium_conformance(view):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(view(game(render_mode="ansi")))
    assert all("alternative render modes" in str(w.message) for w in caught), [str(w.message) for w in caught]


@given(st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_rewards_of_each_agent_add_up_to_the_change_it_caused(seed):
    env = game()
    trail = play_at_random(env, seed)
    start = trail[0][4]
    handover = next(before for agent, _, _, _, before, _ in trail if agent == "defender")
    attack = sum(r for agent, _, _, r, _, _ in trail if agent == "attacker")
    defence = sum(r for agent, _, _, r, _, _ in trail if agent == "defender")
    assert attack == pytest.approx(start - handover)
    assert defence == pytest.approx(env.dice - handover)


@given(st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_observations_lie_in_their_space_and_tell_the_board(seed):
    env = game(attack_moves=3, defence_moves=5)
    env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    moves = {"attacker": 3, "defender": 5}
    while not env.terminations[env.agent_selection]:
        agent = env.agent_selection
        for each in env.agents:
            seen = env.observe(each)
            assert env.observation_space(each).contains(seen)
            assert seen["observation"]["scalars"][-1] == moves[each]
        other = next(a for a in env.agents if a != agent)
        assert not env.observe(other)["action_mask"].any()
        seen = env.observe(agent)
        nodes, edges = seen["observation"]["nodes"], seen["observation"]["edges"]
        graph, active = env.board.graph, env.active
        answer = env.board.decode(active[None])
        np.testing.assert_array_equal(nodes[:NODES, 0], np.where(graph.prompts.labels == 1, 1, -1))
        np.testing.assert_array_equal(nodes[:NODES, 1] == 1, active)
        np.testing.assert_array_equal(nodes[:, 2] == 1, np.arange(MAX_NODES) < NODES)
        np.testing.assert_allclose(nodes[:NODES, 3], answer.logits[0])
        np.testing.assert_allclose(nodes[:NODES, 4], answer.contrast[0])
        np.testing.assert_allclose(edges[:NODES, :NODES, 0], graph.semantic.clip(0, BOUND))
        np.testing.assert_allclose(edges[:NODES, :NODES, 1], graph.physical)
        np.testing.assert_allclose(edges[:NODES, :NODES, 2], graph.diffusion)
        assert not nodes[NODES:].any() and not edges[NODES:].any() and not edges[:, NODES:].any()
        assert env.dice == pytest.approx(dice(answer.masks, env.board.truth)[0])
        mask = seen["action_mask"]
        assert not mask[NODES:-1].any()
        allowed = ~active if agent == "attacker" else active
        assert not (mask[:NODES].astype(bool) & ~allowed).any()
        env.step(random_policy(seen, rng))
        moves[agent] -= 1
        if agent != env.agent_selection:
            moves[agent] = 0
        positive = env.board.graph.prompts.labels == 1
        assert (env.active & positive).any()


def test_the_attacker_moves_first_and_the_defender_ends_the_game():
    env = game(attack_moves=2, defence_moves=3)
    env.reset(seed=1)
    for _ in range(2):
        assert env.agent_selection == "attacker"
        before = env.active
        node = int(np.flatnonzero(env.observe("attacker")["action_mask"])[0])
        env.step(node)
        assert env.active[node] and not before[node] and (env.active != before).sum() == 1
    for _ in range(3):
        assert env.agent_selection == "defender" and not any(env.terminations.values())
        node = int(np.flatnonzero(env.observe("defender")["action_mask"])[0])
        env.step(node)
        assert not env.active[node]
    assert all(env.terminations.values()) and not any(env.truncations.values())
    assert not env.observe("defender")["action_mask"].any()


def test_stop_costs_nothing_and_ends_the_game():
    env = game(attack_moves=1, removal_cost=0.5)
    env.reset(seed=0)
    env.step(random_policy(env.observe("attacker"), np.random.default_rng(0)))
    before = env.dice
    env.step(MAX_NODES)
    assert all(env.terminations.values()) and env.rewards == {"attacker": 0.0, "defender": 0.0}
    assert env.dice == before


def test_a_removal_costs_what_was_agreed():
    earned = {}
    for cost in (0.0, 0.25):
        env = game(attack_moves=1, removal_cost=cost)
        env.reset(seed=0)
        first = random_policy(env.observe("attacker"), np.random.default_rng(0))
        env.step(first)
        attacked = env.rewards["attacker"]
        env.step(int(np.flatnonzero(env.observe("defender")["action_mask"])[0]))
        earned[cost] = (attacked, env.rewards["defender"])
    assert earned[0.25][0] == earned[0.0][0]
    assert earned[0.25][1] == pytest.approx(earned[0.0][1] - 0.25)


@pytest.mark.parametrize("action", [NODES, MAX_NODES, MAX_NODES + 1, -1, None, 1.5, "active"])
def test_an_illegal_action_is_refused_and_changes_nothing(action):
    env = game()
    env.reset(seed=3)
    chosen = int(np.flatnonzero(env.active)[0]) if action == "active" else action
    before, active = env.observe("attacker"), env.active
    with pytest.raises(ValueError, match="give an integer|its mask allows"):
        env.step(chosen)
    assert env.agent_selection == "attacker"
    np.testing.assert_array_equal(env.active, active)
    np.testing.assert_array_equal(env.observe("attacker")["action_mask"], before["action_mask"])


def test_an_illegal_action_ends_the_wrapped_game():
    env = make_env(toy_board, MAX_NODES)
    env.reset(seed=3)
    env.step(MAX_NODES)  # the attacker may not stop while there are candidates
    assert env.terminations["attacker"] and env.terminations["defender"]
    assert env.rewards["attacker"] == -1 and env.rewards["defender"] == 0


def test_an_illegal_action_ends_a_view():
    env = DefenderEnv(game())
    observation, _ = env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(int(np.flatnonzero(observation["action_mask"] == 0)[0]))
    assert (reward, terminated, truncated, info["illegal"]) == (-1, True, False, True)


def test_same_seed_same_game_and_a_reset_without_seed_goes_on():
    def fingerprint(seed):
        return [(a, o["observation"]["nodes"].tobytes(), i, r) for a, o, i, r, _, _ in play_at_random(game(), seed)]

    assert fingerprint(5) == fingerprint(5) != fingerprint(6)
    env, again = game(), game()
    boards = []
    for each in (env, again):
        each.reset(seed=9)
        first = each.board.truth
        each.reset()
        boards.append((first, each.board.truth))
    np.testing.assert_array_equal(boards[0], boards[1])
    assert (boards[0][0] != boards[0][1]).any()


def test_observations_are_copies():
    env = game()
    env.reset(seed=0)
    seen = env.observe("attacker")
    for array in (*seen["observation"].values(), seen["action_mask"]):
        array[:] = 0
    assert env.observe("attacker")["action_mask"].any()
    assert env.observe("attacker")["observation"]["edges"].any()


def test_attacker_view_is_the_attack_alone():
    env = AttackerEnv(game(attack_moves=3))
    observation, info = env.reset(seed=2)
    rng, total, start, steps, done = np.random.default_rng(0), 0.0, info["dice"], 0, False
    while not done:
        observation, reward, done, truncated, info = env.step(random_policy(observation, rng))
        assert not truncated
        total, steps = total + reward, steps + 1
    assert steps == 3
    assert total == pytest.approx(start - info["dice"])


def test_defender_view_starts_after_the_given_attacker():
    asked = []

    def first_legal(observation, rng):
        asked.append(observation)
        return int(np.flatnonzero(observation["action_mask"])[0])

    env = DefenderEnv(game(attack_moves=3), attacker=first_legal)
    observation, info = env.reset(seed=2)
    assert len(asked) == 3
    nodes = observation["observation"]["nodes"]
    chosen = [int(np.flatnonzero(o["action_mask"])[0]) for o in asked]
    assert (nodes[chosen, 1] == 1).all()
    _, reward, done, _, _ = env.step(MAX_NODES)
    assert done and reward == 0


def test_random_attackers_differ_by_seed_and_repeat_by_seed():
    env = DefenderEnv(game())
    runs = [env.reset(seed=seed)[0]["observation"]["nodes"].tobytes() for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_render_is_a_line_that_says_dice():
    env = game(render_mode="ansi")
    env.reset(seed=0)
    assert f"{env.dice:.3f}" in env.render() and "attacker to move" in env.render()


@pytest.mark.parametrize("wrong", [{"attack_moves": 0}, {"defence_moves": 0}, {"render_mode": "human"}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        game(**wrong)


def test_a_board_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=f"max_nodes={NODES}"):
        PromptGameEnv(toy_board, NODES - 1).reset(seed=0)


def test_the_game_brings_no_segmenter_along():
    heavy = "[m for m in sys.modules if m.startswith(('onnxruntime', 'transformers')) or 'mobile_sam' in m]"
    code = f"import sys, point_prompt_defender.game.env; print({heavy})"
    path = ":".join(p for p in sys.path if p)
    out = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip() == "[]"
