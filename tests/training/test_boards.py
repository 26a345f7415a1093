"""Boards on a real photograph, with the real segmenter, and networks that play on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from point_prompt_defender.agents.policy import BUDGETS, play_greedily, position_of
from point_prompt_defender.agents.q_network import QNetwork
from point_prompt_defender.game.corruptions import contradicts
from point_prompt_defender.game.env import PromptGameEnv, random_policy
from point_prompt_defender.game.rewards import dice
from point_prompt_defender.game.rules import Role
from point_prompt_defender.training.boards import SceneBoards, network_policy, position_of_observation
from point_prompt_defender.training.config import GameConfig
from point_prompt_defender.training.games import Scene

CONFIG = GameConfig(usual_points=3, usual_share=1.0, most_points=4, candidates=8)


@pytest.fixture(scope="module")
def scene(segmenter, embedding, photo) -> Scene:
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
    return Scene.of(segmenter, embedding, np.hypot(x - 265, y - 120) < 70)


@pytest.fixture
def env(scene) -> PromptGameEnv:
    boards = SceneBoards([scene], CONFIG)
    return PromptGameEnv(boards, boards.max_nodes, attack_moves=2, defence_moves=3)


def test_a_board_holds_ideal_prompts_and_candidates(scene):
    boards = SceneBoards([scene], CONFIG)
    board = boards(np.random.default_rng(0))
    prompts, active = board.graph.prompts, board.active
    assert len(prompts) == 14 <= boards.max_nodes
    assert sorted(prompts.labels[active]) == [0, 0, 0, 1, 1, 1]
    wrong = contradicts(prompts, scene.mask)
    assert not wrong[active].any()
    assert wrong[~active].sum() == 4  # half of the candidates
    assert not (np.diff(active.astype(int)) != 0).sum() == 1, "the nodes stand in order: their place tells the truth"


def test_dice_in_the_game_is_dice_of_the_real_mask(env, scene, segmenter, embedding):
    env.reset(seed=0)
    env.step(random_policy(env.observe("attacker"), np.random.default_rng(1)))
    chosen = env.board.graph.prompts
    out = segmenter.predict(embedding, chosen.coords[env.active][None], chosen.labels[env.active][None])
    assert env.dice == pytest.approx(dice(out.low_res_logits.numpy() > 0, scene.truth)[0], abs=1e-6)


def test_an_observation_tells_a_network_all_that_training_does(env):
    env.reset(seed=0)
    torch.manual_seed(0)
    network = QNetwork(width=16, heads=2, layers=2).eval()
    answer = env.board.decode(env.active[None])
    direct = network(position_of(env.board.graph, env.active, 2, answer))[0][0].detach()
    seen = network(position_of_observation(env.observe("attacker")))[0][0].detach()
    count = len(env.board.graph)
    assert count < env.max_nodes, "nothing is padded here"
    torch.testing.assert_close(seen[:count], direct, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("role", list(Role))
def test_a_network_plays_the_game_as_it_plays_alone(env, role):
    torch.manual_seed(1)
    network = QNetwork(width=16, heads=2, layers=2).eval()
    policy, rng = network_policy(network, role), np.random.default_rng(0)
    env.reset(seed=4)
    while env.agent_selection != role.value:
        env.step(random_policy(env.observe(env.agent_selection), rng))
    budget = int(env.observe(role.value)["observation"]["scalars"][-1])
    alone = play_greedily(network, role, env.board.graph, env.active, env.board.decode, BUDGETS["default"], budget)
    moves = []
    while env.agent_selection == role.value and not env.terminations[role.value]:
        moves.append(policy(env.observe(role.value), rng))
        env.step(moves[-1])
    assert moves == [env.max_nodes if m.node is None else m.node for m in alone]
    assert len(moves) > 0
