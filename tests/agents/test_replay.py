from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from point_prompt_defender.agents.replay import Experience, ReplayMemory

HALF_PRECISION = 1e-3  # of values up to 1


def experience(seed: int, nodes: int = 4) -> Experience:
    rng = np.random.default_rng(seed)

    def floats(*shape: int) -> np.ndarray:
        return rng.uniform(-1, 1, shape).astype(np.float32)

    return Experience(
        sign=np.where(rng.random(nodes) < 0.5, 1, -1).astype(np.float32),
        active=rng.random(nodes) < 0.5,
        semantic=floats(nodes, nodes),
        physical=floats(nodes, nodes),
        diffusion=floats(nodes, nodes),
        moves_left=float(seed),
        logits=floats(nodes),
        contrast=floats(nodes),
        scalars=floats(4),
        probed=rng.random(nodes) < 0.5,
        next_logits=floats(nodes, nodes),
        next_contrast=floats(nodes, nodes),
        next_scalars=floats(nodes, 4),
        overlap=floats(nodes),
        reward=floats(nodes),
        wrong=rng.random(nodes) < 0.5,
    )


def kept(memory: ReplayMemory) -> set[int]:
    """Which experiences are in memory; `moves_left` is each one's seed."""
    return {int(x) for x in memory.batch(np.arange(len(memory))).positions.moves_left}


def test_what_goes_in_comes_out() -> None:
    nodes = 5
    memory = ReplayMemory(8, nodes + 3)
    stored = [experience(seed, nodes - seed) for seed in range(3)]
    for one in stored:
        memory.add(one)
    batch = memory.batch(np.arange(3))
    p = batch.positions
    assert p.real.tolist() == [[True] * 5, [True] * 4 + [False], [True] * 3 + [False] * 2]
    assert p.told.all()
    for row, one in enumerate(stored):
        count = len(one.sign)
        for field in fields(Experience):
            source = batch if field.name in ("reward", "wrong") else p
            got, put = getattr(source, field.name)[row].numpy(), np.asarray(getattr(one, field.name))
            inside = got[tuple(slice(0, n) for n in put.shape)]
            np.testing.assert_allclose(inside, put, atol=HALF_PRECISION, err_msg=field.name)
            if put.ndim and put.shape[0] == count < got.shape[0]:
                assert not got[count:].any(), f"{field.name} is not empty beyond the nodes"
    exact = {"reward", "scalars", "next_scalars", "overlap", "sign"}
    for name in exact:
        source = batch if name == "reward" else p
        assert np.array_equal(getattr(source, name)[0].numpy(), getattr(stored[0], name)), name


def test_the_oldest_go_first() -> None:
    memory = ReplayMemory(3, 4)
    for seed in range(5):
        memory.add(experience(seed))
        assert len(memory) == min(seed + 1, 3)
    assert kept(memory) == {2, 3, 4}
    assert memory.added == 5


def test_a_smaller_state_leaves_nothing_of_the_larger_one_before_it() -> None:
    memory = ReplayMemory(2, 6)
    memory.add(experience(0, 6))
    memory.add(experience(1, 6))
    memory.add(experience(2, 3))
    batch = memory.batch(np.array([0, 1]))
    assert not batch.positions.real[0, 3:].any()
    assert not batch.positions.semantic[0, 3:].any() and not batch.positions.semantic[0, :, 3:].any()
    assert not batch.positions.probed[0, 3:].any()


def test_a_state_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="5 nodes does not fit a replay memory of 4"):
        ReplayMemory(2, 4).add(experience(0, 5))


def test_a_sample_holds_states_of_about_one_size_and_all_sizes_come_up() -> None:
    memory = ReplayMemory(40, 24)
    sizes = [2, 7, 8, 9, 16, 17, 24] * 5
    for seed, nodes in enumerate(sizes):
        memory.add(experience(seed, nodes))
    rng, seen = np.random.default_rng(0), set()
    for _ in range(40):
        batch = memory.sample(16, rng)
        counts = batch.positions.real.sum(1)
        assert len(counts) == 16
        assert len({(int(c) + 7) // 8 for c in counts}) == 1
        assert batch.positions.real.shape[1] == counts.max()
        seen |= {int(x) for x in batch.positions.moves_left}
    assert seen == set(range(len(sizes)))


def test_the_same_chance_draws_the_same_sample() -> None:
    memory = ReplayMemory(10, 4)
    for seed in range(10):
        memory.add(experience(seed))
    a, b = (memory.sample(5, np.random.default_rng(3)).positions.moves_left for _ in range(2))
    assert a.tolist() == b.tolist()


@pytest.mark.parametrize("added", [0, 2, 3, 5])
def test_saved_and_loaded_it_goes_on_the_same(tmp_path: Path, added: int) -> None:
    memory, twin = ReplayMemory(3, 4), ReplayMemory(3, 4)
    for seed in range(added):
        memory.add(experience(seed))
    memory.save(tmp_path / "replay.npz")
    twin.load(tmp_path / "replay.npz")
    assert len(twin) == len(memory) and twin.added == memory.added
    for one in (memory, twin):
        one.add(experience(9, 3))
    index = np.arange(len(memory))
    a, b = memory.batch(index), twin.batch(index)
    assert a.reward.equal(b.reward) and a.wrong.equal(b.wrong)
    for field in fields(a.positions):
        assert getattr(a.positions, field.name).equal(getattr(b.positions, field.name)), field.name
