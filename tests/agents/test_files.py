from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from point_prompt_defender.agents import files
from point_prompt_defender.agents.files import find_agent, load_network, save_network
from point_prompt_defender.agents.q_network import QNetwork
from point_prompt_defender.errors import ConfigError
from point_prompt_defender.game.rules import Role


def test_saved_and_loaded_it_is_the_same(tmp_path: Path, network: QNetwork, positions) -> None:
    card = {"name": "mine", "paper": True, "validation": {"ideal": 0.75}}
    save_network(network, tmp_path / "defender.safetensors", card)
    loaded, read = load_network(tmp_path / "defender.safetensors")
    assert read == card
    assert loaded.settings == network.settings and not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    p = positions(0, 2, 5)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(loaded(p), network(p), strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["defender.safetensors"]


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, network: QNetwork, monkeypatch) -> None:
    path = tmp_path / "defender.safetensors"
    save_network(network, path, {"version": "old"})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError):
        save_network(network, path, {"version": "new"})
    assert load_network(path)[1] == {"version": "old"}


def damaged(kind: str, whole: bytes) -> bytes:
    return {
        "empty": b"",
        "text": b"not a network at all, but a sentence that is long enough",
        "cut short": whole[: len(whole) // 2],
        "header cut": whole[:20],
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "text", "cut short", "header cut"])
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, network: QNetwork, kind: str) -> None:
    path = tmp_path / "defender.safetensors"
    save_network(network, path)
    path.write_bytes(damaged(kind, path.read_bytes()))
    assert_refused(path)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"settings": "{", "card": "{}"},
        {"settings": json.dumps({"depth": 3}), "card": "{}"},
        {"settings": json.dumps({"width": 32, "heads": 2, "layers": 2}), "card": "{}"},
        {"settings": json.dumps({"width": 16, "heads": 2, "layers": 2, "graph": True}), "card": "{}"},
    ],
)
def test_another_network_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors", metadata)
    assert_refused(tmp_path / "other.safetensors")


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.safetensors"):
        assert_refused(path)


def assert_refused(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_network(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_agents_are_found_by_name_run_or_file(tmp_path: Path, network: QNetwork, monkeypatch) -> None:
    monkeypatch.setattr(files, "ASSETS", tmp_path / "assets")
    for folder in ("assets/default", "run"):
        (tmp_path / folder).mkdir(parents=True)
        for role in Role:
            save_network(network, tmp_path / folder / f"{role.value}.safetensors")
    assert find_agent("default", Role.ATTACKER) == tmp_path / "assets/default/attacker.safetensors"
    assert find_agent(tmp_path / "run", Role.DEFENDER) == tmp_path / "run/defender.safetensors"
    file = tmp_path / "run/attacker.safetensors"
    assert find_agent(str(file), Role.DEFENDER) == file


@pytest.mark.parametrize("name", ["defalt", "", "a/b/c"])
def test_an_unknown_name_is_answered_with_the_known_ones(
    name: str, tmp_path: Path, network: QNetwork, monkeypatch
) -> None:
    monkeypatch.setattr(files, "ASSETS", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").mkdir()
    save_network(network, tmp_path / "default/defender.safetensors")
    with pytest.raises(ConfigError, match="default"):
        find_agent(name, Role.DEFENDER)


def test_an_unfinished_run_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no defender.safetensors"):
        find_agent(tmp_path, Role.DEFENDER)


def test_a_hub_id_offline_is_one_sentence(monkeypatch, tmp_path: Path) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="someone/an-agent") as caught:
        find_agent("someone/an-agent", Role.DEFENDER)
    assert "\n" not in str(caught.value)


def test_weights_survive_to_the_last_bit(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = QNetwork(width=8, heads=1, layers=1)
    save_network(network, tmp_path / "x.safetensors")
    loaded = load_network(tmp_path / "x.safetensors")[0]
    for name, value in network.state_dict().items():
        assert np.array_equal(value.numpy(), loaded.state_dict()[name].numpy()), name
