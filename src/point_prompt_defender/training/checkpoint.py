"""Checkpoints: whole or not there at all, so that a killed run goes on as if nothing had happened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from ..agents.dqn import DqnAgent
from ..agents.replay import ReplayMemory


class Checkpoints:
    """The checkpoints of a run, one folder a finished round; the newest is kept, older ones go.

    Args:
        run: the run's folder.
    """

    def __init__(self, run: Path) -> None:
        self.folder = run / "checkpoints"

    def newest(self) -> Path | None:
        """The newest whole checkpoint, None where there is none."""
        if not self.folder.is_dir():
            return None
        return max((p for p in self.folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name), default=None)

    def save(self, finished: int, agents: dict[str, DqnAgent], memories: dict[str, ReplayMemory], state: Any) -> None:
        """Write everything that the next round depends on, under the number of finished rounds."""
        temporary = self.folder / f"{finished}.part"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, agent in agents.items():
            torch.save(
                {
                    "online": agent.online.state_dict(),
                    "target": agent.target.state_dict(),
                    "optimizer": agent.optimizer.state_dict(),
                },
                temporary / f"{name}.pt",
            )
            memories[name].save(temporary / f"{name}_replay.npz")
        (temporary / "state.json").write_text(json.dumps(state))
        whole = self.folder / str(finished)
        shutil.rmtree(whole, ignore_errors=True)
        temporary.rename(whole)
        for old in self.folder.iterdir():
            if old != whole:
                shutil.rmtree(old, ignore_errors=True)

    def load(self, agents: dict[str, DqnAgent], memories: dict[str, ReplayMemory]) -> Any:
        """Put the newest checkpoint's content in place and return its state; None where there is none."""
        newest = self.newest()
        if newest is None:
            return None
        for name, agent in agents.items():
            content = torch.load(newest / f"{name}.pt", weights_only=True)
            agent.online.load_state_dict(content["online"])
            agent.target.load_state_dict(content["target"])
            agent.optimizer.load_state_dict(content["optimizer"])
            memories[name].load(newest / f"{name}_replay.npz")
        return json.loads((newest / "state.json").read_text())
