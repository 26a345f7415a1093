"""Random positions and networks: what the agents' tests play with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from point_prompt_defender.agents.observation import Positions
from point_prompt_defender.agents.q_network import QNetwork


def random_positions(seed: int, batch: int, nodes: int, real: list[int] | None = None) -> Positions:
    """Positions in which everything is known and nothing has a pattern; the first `real` nodes of a row are real."""
    rng = np.random.default_rng(seed)

    def floats(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.from_numpy((scale * rng.standard_normal(shape)).astype(np.float32))

    def distances() -> torch.Tensor:
        d = floats(batch, nodes, nodes).abs()
        return (d + d.transpose(1, 2)) * (1 - torch.eye(nodes))

    counts = torch.tensor(real or [nodes] * batch)
    mask = torch.arange(nodes)[None] < counts[:, None]
    active = torch.from_numpy(rng.random((batch, nodes)) < 0.7)
    active[:, 0] = True
    return Positions(
        real=mask,
        sign=torch.from_numpy(rng.choice([-1.0, 1.0], (batch, nodes)).astype(np.float32)) * mask,
        active=active & mask,
        semantic=distances(),
        physical=distances() / 3,
        diffusion=torch.exp(-distances()),
        moves_left=torch.from_numpy(rng.integers(1, 9, batch).astype(np.float32)),
        told=torch.ones(batch, dtype=torch.bool),
        logits=floats(batch, nodes, scale=5),
        contrast=floats(batch, nodes),
        scalars=floats(batch, 4).abs(),
        probed=torch.from_numpy(rng.random((batch, nodes)) < 0.8) & mask,
        next_logits=floats(batch, nodes, nodes, scale=5),
        next_contrast=floats(batch, nodes, nodes),
        next_scalars=floats(batch, nodes, 4).abs(),
        overlap=floats(batch, nodes).abs().clamp_max(1),
    )


@pytest.fixture(scope="session")
def positions() -> Callable[..., Positions]:
    return random_positions


@pytest.fixture
def network() -> QNetwork:
    torch.manual_seed(0)
    return QNetwork(width=16, heads=2, layers=2).eval()
