from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from point_prompt_defender.agents.dqn import DqnAgent, DqnSettings
from point_prompt_defender.agents.q_network import QNetwork
from point_prompt_defender.agents.replay import Experience, ReplayMemory
from point_prompt_defender.game.rules import Role
from point_prompt_defender.training.checkpoint import Checkpoints


def experience(seed: int, nodes: int = 4) -> Experience:
    """A state of which everything is known."""
    rng = np.random.default_rng(seed)
    shapes = {
        **dict.fromkeys(("sign", "logits", "contrast", "overlap", "reward"), (nodes,)),
        **dict.fromkeys(("semantic", "physical", "diffusion", "next_logits", "next_contrast"), (nodes, nodes)),
        "scalars": (4,),
        "next_scalars": (nodes, 4),
    }
    numbers = {name: rng.uniform(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    every = np.ones(nodes, bool)
    return Experience(**numbers, active=every, probed=every, wrong=~every, moves_left=3.0)


def fresh() -> tuple[dict[str, DqnAgent], dict[str, ReplayMemory]]:
    torch.manual_seed(0)
    agents = {role.value: DqnAgent(role, QNetwork(8, 1, 1), DqnSettings()) for role in Role}
    return agents, {role.value: ReplayMemory(6, 4) for role in Role}


def learn(agents: dict[str, DqnAgent], memories: dict[str, ReplayMemory], seed: int) -> None:
    for name in agents:
        for k in range(2):
            memories[name].add(experience(10 * seed + k))
        rng = np.random.default_rng(seed)
        for _ in range(2):
            agents[name].update(memories[name].sample(4, rng), rng)


def weights(agents: dict[str, DqnAgent]) -> list[np.ndarray]:
    return [v.numpy() for a in agents.values() for n in (a.online, a.target) for v in n.state_dict().values()]


def test_what_was_saved_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    agents, memories = fresh()
    learn(agents, memories, 1)
    agents["defender"].sync()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, agents, memories, [{"round": 1}])
    learn(agents, memories, 2)

    others, their_memories = fresh()
    assert checkpoints.load(others, their_memories) == [{"round": 1}]
    learn(others, their_memories, 2)
    assert all(np.array_equal(a, b) for a, b in zip(weights(agents), weights(others), strict=True))
    assert their_memories["attacker"].added == memories["attacker"].added == 4


def test_only_the_newest_is_kept(tmp_path: Path) -> None:
    agents, memories = fresh()
    checkpoints = Checkpoints(tmp_path)
    for finished in (9, 10):
        checkpoints.save(finished, agents, memories, finished)
    assert [p.name for p in checkpoints.folder.iterdir()] == ["10"]
    assert checkpoints.load(agents, memories) == 10


def test_nothing_saved_is_nothing_loaded(tmp_path: Path) -> None:
    agents, memories = fresh()
    assert Checkpoints(tmp_path).newest() is None
    assert Checkpoints(tmp_path).load(agents, memories) is None


def test_a_save_cut_short_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agents, memories = fresh()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, agents, memories, "first")
    learn(agents, memories, 1)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(memories["defender"], "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(2, agents, memories, "second")
    assert (checkpoints.folder / "2.part").exists()
    assert checkpoints.load(*fresh()) == "first"
    monkeypatch.undo()
    checkpoints.save(2, agents, memories, "second")
    assert checkpoints.load(*fresh()) == "second"
    assert [p.name for p in checkpoints.folder.iterdir()] == ["2"]
