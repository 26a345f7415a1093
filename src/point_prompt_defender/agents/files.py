"""Agents on disk: safetensors, with the network's shape and its card in the header."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from ..errors import ConfigError
from ..game.rules import Role
from ..io.files import replace_atomically
from .q_network import QNetwork

ASSETS = Path(__file__).parent.parent / "assets"


def save_network(network: QNetwork, path: Path, card: dict[str, Any] | None = None) -> None:
    """Write a Q-network and its settings to a safetensors file, atomically."""
    metadata = {"settings": json.dumps(network.settings), "card": json.dumps(card or {})}
    with replace_atomically(path) as temporary:
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, temporary, metadata)


def load_network(path: str | os.PathLike[str]) -> tuple[QNetwork, dict[str, Any]]:
    """Read a Q-network that `save_network` wrote, in evaluation mode and without gradients, and its card.

    Raises:
        ConfigError: no such file, or not such a file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), "pt") as file:
            metadata = file.metadata()
        settings, card = json.loads(metadata["settings"]), json.loads(metadata["card"])
        network = QNetwork(**settings)
        network.load_state_dict(load_file(os.fspath(path)))
    except FileNotFoundError:
        raise ConfigError(f"There is no agent at {path}; give the folder of a training run, or a known name.") from None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(":.")
        raise ConfigError(f"{path} holds no agent of this version ({reason}); give another file.") from None
    return network.eval().requires_grad_(False), card


def find_agent(name_or_folder: str | os.PathLike[str], role: Role) -> Path:
    """The file of an agent.

    Args:
        name_or_folder: a shipped agent ("default"), the folder of a training run, a file, or a Hub id.
        role: which of the two agents.

    Raises:
        ConfigError: there is none; the sentence names the shipped ones.
    """
    path, file = Path(name_or_folder), f"{role.value}.safetensors"
    if path.is_file():
        return path
    for folder in (ASSETS / str(name_or_folder), path):
        if (folder / file).is_file():
            return folder / file
    known = ", ".join(sorted(p.parent.name for p in ASSETS.glob(f"*/{file}")))
    if path.is_dir():
        raise ConfigError(f"{path} holds no {file}; give the folder of a finished training run, or one of: {known}.")
    if str(name_or_folder).count("/") == 1:
        return _from_hub(str(name_or_folder), file)
    raise ConfigError(f"There is no agent {str(name_or_folder)!r}; give one of {known}, a run's folder, or a Hub id.")


def _from_hub(repository: str, file: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise ConfigError("Agents from the Hub need huggingface_hub; pip install huggingface_hub.") from None
    try:
        return Path(hf_hub_download(repository, file))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"The Hub does not give the agent {repository} ({reason}); give a local folder.") from None
