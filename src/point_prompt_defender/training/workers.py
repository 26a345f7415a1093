"""Play many games at once: one process a core, each with its own segmenter; the same games whatever their number."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..agents.files import load_network
from ..agents.policy import BUDGETS, kept, play_greedily
from ..agents.q_network import QNetwork
from ..game.corruptions import candidate_pool, contradicts, flip_labels, join
from ..game.rewards import dice
from ..game.rules import Role
from ..prompts import PointPrompts
from ..proposers.ideal import ideal_prompts
from ..runtime import worker_pool
from ..scene import Scene, attack
from ..segmenters import load_segmenter
from ..segmenters.cache import DiskCache, MemoryCache
from .config import TrainingConfig
from .data import SegmentedObject
from .games import Played, attack_game, defence_game


@dataclass(frozen=True)
class Task:
    """One game to play.

    Attributes:
        kind: "attack", "defence" or "validation".
        item: the object to play on.
        seed: what the game's chance comes from; nothing else does.
        defender, attacker: files of the networks, None where there is none yet.
        epsilon: share of exploring moves.
    """

    kind: str
    item: SegmentedObject
    seed: tuple[int, ...]
    defender: Path | None = None
    attacker: Path | None = None
    epsilon: float = 0.0


@dataclass(frozen=True)
class Checked:
    """A validation game: mean Dice of an object's ideal, flipped, attacked and defended points, and the decodes."""

    ideal: float
    flipped: float
    flipped_defended: float
    attacked: float
    attacked_defended: float
    random_attacked: float
    decodes: int


@contextmanager
def pool(config: TrainingConfig, cache: Path, jobs: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that `play_task` runs in; left by an exception, it ends games under way at once.

    Raises:
        SegmenterError, WeightsError: the segmenter can't be loaded.
        PPDError: a process died.
    """
    load_segmenter(config.segmenter, dtype=config.precision)  # raises here what would only break the pool in a worker
    with worker_pool(jobs, _start, config, cache) as workers:
        yield workers


_here: dict[str, Any] = {}


def _start(config: TrainingConfig, cache: Path) -> None:
    segmenter = load_segmenter(config.segmenter, dtype=config.precision, threads=1)
    on_disk = hasattr(segmenter, "attach")  # what DiskCache needs; other segmenters encode anew now and then
    _here.update(
        config=config, segmenter=segmenter, cache=DiskCache(segmenter, cache) if on_disk else MemoryCache(segmenter, 32)
    )


@functools.lru_cache(maxsize=16)
def _network(path: Path) -> QNetwork:
    return load_network(path)[0]


def play_task(task: Task) -> Played | Checked:
    """Play one game, in a process of `pool`."""
    config: TrainingConfig = _here["config"]
    rng = np.random.default_rng(task.seed)
    embedding = _here["cache"].embed(task.item.image())
    scene = Scene.of(_here["segmenter"], embedding, task.item.mask(), config.game.paper)
    defender = _network(task.defender) if task.defender else None
    attacker = _network(task.attacker) if task.attacker else None
    if task.kind == "attack":
        return attack_game(scene, config.game, attacker, task.epsilon, rng)
    if task.kind == "defence":
        return defence_game(scene, config.game, defender, attacker, task.epsilon, rng)
    return _validate(scene, config, defender, attacker, rng)


def _validate(
    scene: Scene, config: TrainingConfig, defender: QNetwork | None, attacker: QNetwork | None, rng: np.random.Generator
) -> Checked:
    usual = config.game.usual_points
    budget = BUDGETS["fast" if config.learning.budget_shares[0] == 1 else "default"]
    ideal = ideal_prompts(scene.mask, usual, usual, rng)
    pool_ = candidate_pool(scene.mask, config.game.candidates, rng)
    activations, spent = config.game.attack_moves, 0

    def judge(prompts: PointPrompts, defend: bool) -> tuple[float, float]:
        nonlocal spent
        decoder = scene.decoder(prompts)
        keep = np.ones(len(prompts), bool)
        before = float(dice(decoder(keep[None]).masks, scene.truth)[0])
        if not defend or defender is None:
            return before, before
        moves = play_greedily(defender, Role.DEFENDER, scene.graph(prompts), keep, decoder, budget, len(prompts) - 1)
        keep = kept(moves, len(prompts))
        after = float(dice(decoder(keep[None]).masks, scene.truth)[0])
        spent += decoder.decodes
        return before, after

    chosen = rng.choice(len(pool_), activations, replace=False)
    at_random = join(ideal, pool_.take(chosen))
    if attacker is not None:
        attacked, decodes = attack(scene, ideal, pool_, attacker, activations)
        spent += decodes
    else:
        wrong = np.flatnonzero(contradicts(pool_, scene.mask))[:activations]
        attacked = join(ideal, pool_.take(wrong))
    flipped_before, flipped_after = judge(flip_labels(ideal, scene.mask, 4, rng).prompts, True)
    attacked_before, attacked_after = judge(attacked, True)
    return Checked(
        judge(ideal, False)[0], flipped_before, flipped_after, attacked_before, attacked_after,
        judge(at_random, False)[0], spent,
    )  # fmt: skip
