"""An agent folder that needs no training: networks with random weights, which decide by no merit but decide."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from point_prompt_defender.agents.files import save_network
from point_prompt_defender.agents.q_network import QNetwork


@pytest.fixture(scope="session")
def random_agent(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("agent")
    torch.manual_seed(0)
    network = QNetwork(width=16, heads=2, layers=1)
    for role in ("attacker", "defender"):
        save_network(network, folder / f"{role}.safetensors")
    return folder
