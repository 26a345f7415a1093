from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from point_prompt_defender.agents.dqn import Batch, DqnAgent, DqnSettings, _rank_loss, legal_nodes
from point_prompt_defender.agents.observation import Positions
from point_prompt_defender.agents.q_network import QNetwork
from point_prompt_defender.game.rules import GameState, Role, legal_actions

DEFENDER, ATTACKER = Role.DEFENDER, Role.ATTACKER
EVERYTHING = {"budget_shares": (0.0, 0.0, 1.0), "wrong_weight": 0.0}


class Table(nn.Module):
    """A network that gives the same values in every state."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.q = nn.Parameter(torch.tensor(values))

    def forward(self, p: Positions) -> tuple[torch.Tensor, torch.Tensor]:
        q = self.q.expand(len(p), -1)
        return q, torch.zeros_like(q)


def three_nodes(positions, moves_left: float = 3.0, active: tuple[bool, ...] = (True, True, True)) -> Positions:
    """One state: two positives, then a negative; every move was tried."""
    return replace(
        positions(0, 1, 3),
        sign=torch.tensor([[1.0, 1.0, -1.0]]),
        active=torch.tensor([active]),
        probed=torch.ones(1, 3, dtype=torch.bool),
        moves_left=torch.tensor([moves_left]),
    )


def huber(error: float) -> float:
    return 0.5 * error**2 if abs(error) < 1 else abs(error) - 0.5


@pytest.mark.parametrize("double", [True, False])
def test_the_target_is_reward_less_cost_plus_the_discounted_value(positions, double: bool) -> None:
    """By hand: without node 0 or 1 only node 2 may go (the other is the last positive); without 2, both may.

    The online network likes node 0 best, the target network values it low: so the two kinds of DQN differ there.
    """
    online, target = (0.3, 0.1, -0.2), (0.05, 0.5, 0.4)
    rewards = (0.1, -0.05, 0.2)
    agent = DqnAgent(
        DEFENDER, Table(*online), DqnSettings(gamma=0.9, removal_cost=0.01, targets=3, double=double, **EVERYTHING)
    )
    agent.target = Table(*target)
    values = (0.4, 0.4, 0.05 if double else 0.5)
    targets = [r - 0.01 + 0.9 * v for r, v in zip(rewards, values, strict=True)]
    expected = sum(huber(10 * q - 10 * t) for q, t in zip(online, targets, strict=True)) / 3
    batch = Batch(three_nodes(positions), torch.tensor([rewards]), torch.zeros(1, 3, dtype=torch.bool))
    losses = agent.update(batch, np.random.default_rng(0))
    assert losses["loss_q"] == pytest.approx(expected, rel=1e-5)
    assert losses["q_mean"] == pytest.approx(sum(online) / 3, rel=1e-5)


def test_stop_is_worth_nothing_and_the_attacker_has_no_stop(positions) -> None:
    p = three_nodes(positions, active=(True, True, False))
    values = torch.tensor([-0.4, -0.3, -0.2])
    assert DqnAgent(DEFENDER, Table(*values), DqnSettings()).value(p).item() == 0
    assert DqnAgent(ATTACKER, Table(*values), DqnSettings()).value(p).item() == pytest.approx(-0.2)


@pytest.mark.parametrize("role", Role)
def test_no_move_left_is_worth_nothing(positions, role: Role) -> None:
    agent = DqnAgent(role, Table(1.0, 2.0, 3.0), DqnSettings())
    assert agent.value(three_nodes(positions, moves_left=0.0)).item() == 0
    nothing_legal = three_nodes(positions, active=(True, False, False) if role is DEFENDER else (True, True, True))
    assert agent.value(nothing_legal).item() == 0


def test_value_against_one_state_at_a_time(network: QNetwork, positions) -> None:
    """Recomputed state by state, over the rules of the game, with real networks."""
    for role in Role:
        agent = DqnAgent(role, network, DqnSettings())
        torch.manual_seed(1)
        for parameter in agent.target.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        p = positions(3, 12, 6, real=[6, 5, 4, 3, 2, 1] * 2)
        got = agent.value(p)
        for row in range(len(p)):
            one = p.take(torch.tensor([row]))
            state = GameState((one.sign[0] > 0).long().numpy(), one.active[0].numpy(), int(one.moves_left[0]))
            legal = [n for n in np.flatnonzero(legal_actions(state, role)[:-1]) if one.real[0, n]]
            expected = 0.0
            if legal:
                with torch.no_grad():
                    liked = max(legal, key=lambda node: agent.online(one)[0][0, node].item())
                    expected = agent.target(one)[0][0, liked].item()
                expected = max(0.0, expected) if role is DEFENDER else expected
            assert got[row].item() == pytest.approx(expected, abs=1e-5)


def test_legal_nodes_follow_the_rules(positions) -> None:
    p = positions(4, 40, 7)
    for role in Role:
        for row, legal in enumerate(legal_nodes(p, role)):
            state = GameState((p.sign[row] > 0).long().numpy(), p.active[row].numpy(), 3)
            assert legal.tolist() == legal_actions(state, role)[:-1].tolist()


def test_only_legal_and_tried_actions_are_learned(positions) -> None:
    """A reward on any other action must not matter: not of one that was not tried, nor of an illegal one."""
    p = replace(
        three_nodes(positions, active=(True, False, True)),  # node 0 is the last positive, node 1 is out
        probed=torch.tensor([[True, True, True]]),
    )
    losses = []
    for forbidden in (0.0, 100.0):
        agent = DqnAgent(DEFENDER, Table(0.1, 0.2, 0.3), DqnSettings(targets=3, **EVERYTHING))
        batch = Batch(p, torch.tensor([[forbidden, forbidden, 0.05]]), torch.zeros(1, 3, dtype=torch.bool))
        losses.append(agent.update(batch, np.random.default_rng(0))["loss_q"])
        assert math.isfinite(losses[-1])
    assert losses[0] == losses[1]


def random_batch(positions, nodes: int = 6) -> Batch:
    p = positions(5, 8, nodes)
    p = replace(p, active=torch.ones_like(p.active), sign=p.sign.clone())
    p.sign[:, :2] = 1.0  # two positives, so that every node may go
    rng = np.random.default_rng(6)
    rewards = torch.from_numpy(rng.normal(0, 0.1, (8, nodes)).astype(np.float32))
    return Batch(replace(p, probed=torch.ones_like(p.active)), rewards, torch.from_numpy(rng.random((8, nodes)) < 0.3))


def test_the_loss_falls_on_a_small_batch(network: QNetwork, positions) -> None:
    settings = DqnSettings(gamma=0.0, targets=6, weight_decay=0.0, learning_rate=3e-3, **EVERYTHING)
    agent, batch = DqnAgent(DEFENDER, network, settings), random_batch(positions)
    rng = np.random.default_rng(0)
    losses = [agent.update(batch, rng)["loss_q"] for _ in range(120)]
    assert np.mean(losses[-10:]) < 0.1 * np.mean(losses[:10])


def test_the_auxiliary_loss_learns_which_labels_are_wrong(network: QNetwork, positions) -> None:
    settings = DqnSettings(gamma=0.0, weight_decay=0.0, learning_rate=3e-3, budget_shares=(0, 0, 1), wrong_weight=1.0)
    agent, batch = DqnAgent(DEFENDER, network, settings), random_batch(positions)
    rng = np.random.default_rng(0)
    losses = [agent.update(batch, rng)["loss_wrong"] for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]


def test_the_rank_loss_by_hand() -> None:
    """Three actions, the last not usable: one pair, in the wrong order by 2."""
    q, target = torch.tensor([[2.0, 0.0, 9.0]]), torch.tensor([[0.0, 0.5, 3.0]])
    loss = _rank_loss(q, target, torch.tensor([[True, True, False]]))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(2)), rel=1e-5)
    alone = _rank_loss(q, target, torch.tensor([[True, False, False]]))
    assert alone.item() == 0


def test_the_target_network_changes_on_sync_alone(network: QNetwork, positions) -> None:
    agent, batch = DqnAgent(DEFENDER, network, DqnSettings()), random_batch(positions)
    before = copy.deepcopy(agent.target.state_dict())
    agent.update(batch, np.random.default_rng(0))
    assert all(torch.equal(before[k], v) for k, v in agent.target.state_dict().items())
    assert not all(torch.equal(before[k], v) for k, v in agent.online.state_dict().items())
    agent.sync()
    assert all(torch.equal(agent.online.state_dict()[k], v) for k, v in agent.target.state_dict().items())


def test_updates_are_reproducible(positions) -> None:
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        agent, rng = DqnAgent(DEFENDER, QNetwork(16, 2, 1), DqnSettings()), np.random.default_rng(8)
        for _ in range(3):
            agent.update(random_batch(positions), rng)
        results.append(agent.online.state_dict())
    assert all(torch.equal(results[0][k], v) for k, v in results[1].items())
