"""Replay memory: states, each with every action that was tried in it and where that led."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..feedback import SCALARS
from .dqn import Batch
from .observation import Positions


@dataclass(frozen=True, eq=False)
class Experience:
    """One state of N nodes, everything known of it, and what each tried action did. Shapes as in `Positions`, less B.

    Attributes:
        reward: (N,) change of Dice by each probed action, in the role's favour; 0 elsewhere.
        wrong: (N,) bool, which labels contradict the truth.
        Others: see `Positions`.
    """

    sign: NDArray[np.float32]
    active: NDArray[np.bool_]
    semantic: NDArray[np.float32]
    physical: NDArray[np.float32]
    diffusion: NDArray[np.float32]
    moves_left: float
    logits: NDArray[np.float32]
    contrast: NDArray[np.float32]
    scalars: NDArray[np.float32]
    probed: NDArray[np.bool_]
    next_logits: NDArray[np.float32]
    next_contrast: NDArray[np.float32]
    next_scalars: NDArray[np.float32]
    overlap: NDArray[np.float32]
    reward: NDArray[np.float32]
    wrong: NDArray[np.bool_]


# The axes of each field: N stands for the nodes.
_AXES: dict[str, tuple[str | int, ...]] = {
    **dict.fromkeys(("sign", "active", "logits", "contrast", "probed", "overlap", "reward", "wrong"), ("N",)),
    **dict.fromkeys(("semantic", "physical", "diffusion", "next_logits", "next_contrast"), ("N", "N")),
    "moves_left": (),
    "scalars": (len(SCALARS),),
    "next_scalars": ("N", len(SCALARS)),
}
_BOOL = {"active", "probed", "wrong"}
# The large arrays are kept in half precision: they are distances and logits, read as network inputs only.
_HALF = {"semantic", "physical", "diffusion", "next_logits", "next_contrast", "logits", "contrast"}


class ReplayMemory:
    """The last `capacity` states, in arrays that are written once and sampled by index.

    Args:
        capacity: how many states; the oldest go first.
        nodes: most nodes a state may have.
    """

    def __init__(self, capacity: int, nodes: int) -> None:
        self.capacity, self.nodes = capacity, nodes
        self.added = 0
        self.count = np.zeros(capacity, np.int64)  # nodes of each state
        self._arrays: dict[str, NDArray] = {}
        for name, axes in _AXES.items():
            dtype = np.bool_ if name in _BOOL else np.float16 if name in _HALF else np.float32
            shape = [capacity] + [nodes if isinstance(n, str) else n for n in axes]
            self._arrays[name] = np.zeros(shape, dtype)

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, experience: Experience) -> None:
        """Keep one state.

        Raises:
            ValueError: it has more nodes than this memory holds.
        """
        count = len(experience.sign)
        if count > self.nodes:
            raise ValueError(f"a state of {count} nodes does not fit a replay memory of {self.nodes}")
        at = self.added % self.capacity
        for name, axes in _AXES.items():
            array = self._arrays[name]
            array[at] = 0
            place = (at, *(slice(0, count) if n == "N" else slice(None) for n in axes))
            array[place] = getattr(experience, name)
        self.count[at] = count
        self.added += 1

    def sample(self, size: int, rng: np.random.Generator) -> Batch:
        """`size` states, drawn with replacement from those of about one number of nodes (less padding, more speed)."""
        bucket = (self.count[: len(self)] + 7) // 8
        pool = np.flatnonzero(bucket == bucket[rng.integers(len(self))])
        return self.batch(pool[rng.integers(len(pool), size=size)])

    def batch(self, index: NDArray[np.int64]) -> Batch:
        """The states with the given places in memory, padded to the longest of them."""
        longest = int(self.count[index].max())

        def get(name: str) -> torch.Tensor:
            place = (index, *(slice(0, longest) if n == "N" else slice(None) for n in _AXES[name]))
            value = torch.from_numpy(self._arrays[name][place])
            return value if value.dtype == torch.bool else value.float()

        real = torch.from_numpy(np.arange(longest)[None] < self.count[index][:, None])
        known = {f.name: get(f.name) for f in fields(Positions) if f.name not in ("real", "told")}
        positions = Positions(real=real, told=torch.ones(len(index), dtype=torch.bool), **known)
        return Batch(positions, get("reward"), get("wrong"))

    def save(self, path: Path) -> None:
        """Write the memory to an .npz file (by a path that is renamed into place by the caller)."""
        with open(path, "wb") as file:
            held: dict[str, Any] = {name: array[: len(self)] for name, array in self._arrays.items()}
            np.savez(file, added=self.added, count=self.count[: len(self)], **held)

    def load(self, path: Path) -> None:
        """Take the content of a file that `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            kept = len(file["count"])
            self.added = int(file["added"])
            self.count[:kept] = file["count"]
            for name, array in self._arrays.items():
                array[:kept] = file[name]
