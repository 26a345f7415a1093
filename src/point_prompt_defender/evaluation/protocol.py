"""The protocol: which cases, which noise, which methods; measured case by case, resumable.

objects x seeds x noises -> Trial -> every method on the same points -> one row a method -> cases.jsonl
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..agents.files import find_agent, load_network
from ..agents.policy import BUDGETS, kept, play_greedily
from ..controls import CONTROLS, ORACLES, Case, Keep
from ..errors import ConfigError
from ..game.corruptions import Corrupted, candidate_pool, clean, flip_labels, jitter, misplace
from ..game.rewards import iou
from ..game.rules import Role
from ..graph import build_graph
from ..proposers.ideal import ideal_prompts
from ..runtime import in_order, worker_pool
from ..scene import Scene, attack
from ..segmenters import load_segmenter
from ..training.data import SegmentedObject, find_objects
from .metrics import boundary_f, dice, hd95

METHODS = (*CONTROLS, *(f"ppd-{budget}" for budget in BUDGETS), *ORACLES)
NOISES = ("clean", "flip-2", "flip-4", "flip-6", "misplaced", "jitter", "attacked")
ATTACK_MOVES, ATTACK_CANDIDATES = 4, 32


@dataclass(frozen=True)
class Protocol:
    """What to measure.

    Attributes:
        data: data folders (see `find_objects`).
        noises: some of NOISES.
        methods: some of METHODS.
        seeds: how many draws of points an object.
        objects: most objects a data folder, chosen by a fixed seed, spread over its images; None for all.
        points: positives, and as many negatives.
        agent: the defender and attacker (see `find_agent`).
        segmenter, precision: see `load_segmenter`.
        merge: data folders whose masks are class maps.
    """

    data: tuple[str, ...]
    noises: tuple[str, ...] = ("clean", "flip-4")
    methods: tuple[str, ...] = METHODS
    seeds: int = 3
    objects: int | None = None
    points: int = 8
    agent: str = "default"
    segmenter: str = "mobile-sam"
    precision: str = "float32"
    merge: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for kind, given, known in (("noise", self.noises, NOISES), ("method", self.methods, METHODS)):
            for name in given:
                if name not in known:
                    raise ConfigError(f"There is no {kind} {name!r}; give some of {', '.join(known)}.")


@dataclass(frozen=True)
class Trial:
    """One coarse point set to measure every method on."""

    item: SegmentedObject
    seed: int
    noise: str

    @property
    def key(self) -> str:
        """A name that is the same in every run."""
        item = self.item
        return f"{item.dataset}/{item.image_path.stem}/{item.instance}/{self.seed}/{self.noise}"


_Work = tuple[Trial, tuple[str, ...]]  # and the methods to measure it with


def trials(protocol: Protocol) -> list[Trial]:
    """All trials of a protocol, always the same ones in the same order."""
    found = []
    for folder in protocol.data:
        objects = find_objects([folder], merge=protocol.merge)
        found += [
            Trial(item, seed, noise)
            for item in _spread_over_images(objects, protocol.objects)
            for seed in range(protocol.seeds)
            for noise in protocol.noises
        ]
    return found


def _spread_over_images(objects: list[SegmentedObject], count: int | None) -> list[SegmentedObject]:
    """`count` objects, one of each image first, then second ones, in a fixed random order."""
    rng = np.random.default_rng(0)
    by_image: dict[Path, list[SegmentedObject]] = {}
    for index in rng.permutation(len(objects)):
        by_image.setdefault(objects[index].image_path, []).append(objects[index])
    rounds = [[items[k] for items in by_image.values() if k < len(items)] for k in range(len(objects))]
    return [item for one in rounds for item in one][:count]


def measure(
    protocol: Protocol, out: Path, jobs: int = 1, progress: Callable[[int, int], None] = lambda *_: None
) -> list[dict[str, Any]]:
    """Measure what `out`/cases.jsonl does not hold yet: missing trials, methods, and those of other agents.

    Args:
        protocol: what to measure.
        out: a folder that exists; rows are appended to its cases.jsonl as they come.
        jobs: processes.
        progress: told how many trials are done, of how many.

    Returns:
        All rows of the protocol.

    Raises:
        ConfigError: the folder holds results with other points, another segmenter or precision.
    """
    settings, path = out / "protocol.json", out / "cases.jsonl"
    content = json.dumps({name: getattr(protocol, name) for name in ("points", "segmenter", "precision", "merge")})
    if settings.exists() and settings.read_text() != content:
        raise ConfigError(f"{out} holds results of another protocol; give another folder, or delete this one.")
    settings.write_text(content)
    wanted = trials(protocol)
    agents = _agents(protocol)
    known = {
        (r["trial"], r["method"]): r for r in _read_rows(path) if r["agent"] == agents.get((r["noise"], r["method"]))
    }
    missing = {t.key: [m for m in protocol.methods if (t.key, m) not in known] for t in wanted}
    todo = [(trial, tuple(missing[trial.key])) for trial in wanted if missing[trial.key]]
    with open(path, "a") as file:
        for count, fresh in enumerate(_played(protocol, todo, jobs), len(wanted) - len(todo) + 1):
            for row in fresh:
                row["agent"] = agents[row["noise"], row["method"]]
                known[row["trial"], row["method"]] = row
            file.write("".join(json.dumps(row) + "\n" for row in fresh))
            file.flush()
            progress(count, len(wanted))
    return [known[trial.key, method] for trial in wanted for method in protocol.methods]


def _agents(protocol: Protocol) -> dict[tuple[str, str], str]:
    """By noise and method, the checksums of the agents that a row depends on; "" where on none."""

    @functools.cache
    def sum_of(role: Role) -> str:
        return hashlib.sha256(find_agent(protocol.agent, role).read_bytes()).hexdigest()[:12]

    return {
        (noise, method): ":".join(
            ([sum_of(Role.ATTACKER)] if noise == "attacked" else [])
            + ([sum_of(Role.DEFENDER)] if method.startswith("ppd-") else [])
        )
        for noise in protocol.noises
        for method in protocol.methods
    }


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that a killed run may have left with a torn last line; that line is dropped."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            pass
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def _played(protocol: Protocol, todo: list[_Work], jobs: int) -> Iterator[list[dict[str, Any]]]:
    """The rows of each trial. All trials of an object go to one process, which encodes the image once."""
    if not todo:
        return
    batches = [list(batch) for _, batch in itertools.groupby(todo, key=lambda work: work[0].item)]
    with worker_pool(jobs, _start, protocol) as workers:
        for played in in_order(workers, _play_all, batches):
            yield from played


def _play_all(batch: list[_Work]) -> list[list[dict[str, Any]]]:
    return [_play(trial, methods) for trial, methods in batch]


_here: dict[str, Any] = {}


def _start(protocol: Protocol) -> None:
    _here["protocol"] = protocol
    _here["segmenter"] = load_segmenter(protocol.segmenter, dtype=protocol.precision, threads=1)
    _here["paper"] = False
    if any(name.startswith("ppd-") for name in protocol.methods):
        _here["defender"], card = load_network(find_agent(protocol.agent, Role.DEFENDER))
        _here["paper"] = bool(card.get("paper", False))
    if "attacked" in protocol.noises:
        _here["attacker"] = load_network(find_agent(protocol.agent, Role.ATTACKER))[0]


def _scene(item: SegmentedObject) -> Scene:
    if _here.get("path") != item.image_path:
        _here["path"], _here["embedding"] = item.image_path, _here["segmenter"].embed(item.image())
    return Scene.of(_here["segmenter"], _here["embedding"], item.mask())


def noisy(kind: str, scene: Scene, points: int, rng: np.random.Generator) -> Corrupted:
    """Coarse prompts of one kind of noise, from `points` ideal positives and as many negatives."""
    ideal = ideal_prompts(scene.mask, points, points, rng)
    if kind == "clean":
        return clean(ideal, scene.mask)
    if kind.startswith("flip-"):
        return flip_labels(ideal, scene.mask, int(kind.removeprefix("flip-")) * points // 8, rng)
    if kind == "misplaced":
        return misplace(ideal, scene.mask, points // 2, rng)
    if kind == "jitter":
        return jitter(ideal, scene.mask, 0.15, rng)
    pool = candidate_pool(scene.mask, ATTACK_CANDIDATES, rng)
    return clean(attack(scene, ideal, pool, _here["attacker"], ATTACK_MOVES)[0], scene.mask)


def _play(trial: Trial, methods: tuple[str, ...]) -> list[dict[str, Any]]:
    protocol: Protocol = _here["protocol"]
    scene = _scene(trial.item)
    rng = np.random.default_rng(zlib.crc32(trial.key.encode()))
    coarse = noisy(trial.noise, scene, protocol.points, rng)
    # Bounded memory of answers for all methods together: what one method decoded, the next need not.
    decoder = scene.decoder(coarse.prompts)
    assert scene.patches is not None
    rows = []
    everything = np.ones(len(coarse.prompts), bool)
    before = dice(decoder.full_mask(everything), scene.mask)
    for method in methods:
        counted = _Counted(decoder)
        chance = np.random.default_rng(zlib.crc32(f"{trial.key}/{method}".encode()))
        case = Case(
            coarse.prompts, scene.features, scene.patches, counted, chance,
            truth=scene.truth if method == "oracle" else None,
            wrong=coarse.wrong if method == "noise-oracle" else None,
        )  # fmt: skip
        started = time.perf_counter()
        keep = _method(method, case, scene)
        seconds = time.perf_counter() - started
        mask = decoder.full_mask(keep)
        dropped = ~keep
        rows.append(
            {
                "trial": trial.key, "dataset": trial.item.dataset, "image": trial.item.image_path.stem,
                "object": trial.item.instance, "seed": trial.seed, "noise": trial.noise, "method": method,
                "dice_before": before, "dice_after": dice(mask, scene.mask), "iou_after": iou(mask, scene.mask),
                "hd95": hd95(mask, scene.mask), "boundary_f": boundary_f(mask, scene.mask),
                "removed": int(dropped.sum()), "wrong": int(coarse.wrong.sum()),
                "hits": int((dropped & coarse.wrong).sum()), "decodes": counted.distinct, "seconds": seconds,
            }
        )  # fmt: skip
    return rows


class _Counted:
    """A decoder that counts the distinct sets one method asks for, whoever asked before."""

    def __init__(self, decode: Any) -> None:
        self._decode, self._asked = decode, set[bytes]()

    def __call__(self, active: Any) -> Any:
        self._asked.update(row.tobytes() for row in active)
        return self._decode(active)

    @property
    def distinct(self) -> int:
        return len(self._asked)


def _method(name: str, case: Case, scene: Scene) -> Keep:
    control = {**CONTROLS, **ORACLES}.get(name)
    if control is not None:
        return control(case)
    everything = np.ones(len(case.prompts), bool)
    graph = build_graph(scene.features, case.prompts, patches=scene.patches, paper=_here["paper"])
    budget, most = BUDGETS[name.removeprefix("ppd-")], len(everything) - 1
    moves = play_greedily(_here["defender"], Role.DEFENDER, graph, everything, case.decode, budget, most)
    return kept(moves, len(everything))
