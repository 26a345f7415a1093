"""Training: attacker and defender in alternation, in rounds of playing and learning.

    for each round:  attack games -> attacker learns -> defence games against the league -> defender learns
                     -> validation -> log -> checkpoint

Every game's chance comes from (seed, round, kind, number) alone, and learning from (seed, round): a run that is killed
and resumed gives the same numbers as one that is not, whatever the number of processes.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..agents.dqn import DqnAgent, DqnSettings
from ..agents.files import save_network
from ..agents.q_network import QNetwork
from ..agents.replay import ReplayMemory
from ..errors import ConfigError
from ..game.rules import Role
from ..io.files import write_json
from ..runtime import in_order, keep_pages
from .checkpoint import Checkpoints
from .config import TrainingConfig
from .data import SegmentedObject, find_objects, split_by_image
from .workers import Checked, Played, Task, play_task, pool

ATTACK, DEFENCE, VALIDATION, LEARN, CHOOSE = range(5)  # first part of a seed, so that no two purposes share chance


class SelfPlay:
    """One training run in a folder.

    Args:
        config: the settings.
        data: data folders or COCO files (see `find_objects`). Files that can't be used are left out and listed in
            `problems`.
        run: the run's folder.
        cache: where embeddings are kept; by default inside the run.
        jobs: processes that play.
        resume: go on from the newest checkpoint; without it, a folder that holds a run is refused.
        start_from: another run's folder, whose agents and games this one starts with; remembered for `resume`.

    Attributes:
        train, held: the objects to train on and to validate with.
        datasets: names of the data folders.
        problems: a sentence for each file of the data that can't be used.
        agents: both roles' agents, by the role's name.
        total_rounds: rounds of the whole run, those in which the defender only learns included.

    Raises:
        ConfigError: the folder holds a run and `resume` is off, or holds a run with other settings or data.
        ImageError: a data folder that can't be used.
    """

    def __init__(
        self,
        config: TrainingConfig,
        data: Sequence[str],
        run: Path,
        cache: Path | None = None,
        jobs: int = 1,
        resume: bool = False,
        start_from: Path | None = None,
    ) -> None:
        self.config, self.run, self.jobs = config, run, jobs
        self.cache = cache or run / "embeddings"
        self.checkpoints = Checkpoints(run)
        self.start_from = start_from.resolve() if start_from else None
        self.problems: list[str] = []
        objects = find_objects(data, merge=config.merge, on_problem=self.problems.append)
        train, held = split_by_image(objects, config.validation)
        self.train = _limited(train, config)
        self.held = _limited(held, config)
        self.datasets = list(dict.fromkeys(item.dataset for item in objects))
        if not self.train or not self.held:
            raise ConfigError("There must be two images or more, so that one is kept for validation; give more data.")
        self._claim(resume)
        torch.manual_seed(config.seed)
        self.agents = {role.value: DqnAgent(role, self._network(), self._settings()) for role in Role}
        nodes = max(2 * config.game.most_points, 2 * config.game.usual_points)
        extra = {Role.DEFENDER: config.game.attack_moves, Role.ATTACKER: config.game.candidates}
        self.memories = {r.value: ReplayMemory(config.learning.replay, nodes + extra[r]) for r in Role}
        self.total_rounds = config.rounds + math.ceil(config.final_updates / max(1, config.defence_updates))

    def _claim(self, resume: bool) -> None:
        """Write down what the run depends on, or check that it is the same."""
        what = [(item.dataset, item.image_path.name, item.instance) for item in (*self.train, *self.held)]
        digest = hashlib.sha256(repr(what).encode()).hexdigest()
        needed = {
            "config.json": ("settings; resume it with those in its config.json", self.config.model_dump(mode="json")),
            "data.json": ("data; resume it with the same folders", {"datasets": self.datasets, "sha256": digest}),
        }
        if (self.run / "config.json").exists() and not resume:
            raise ConfigError(f"{self.run} holds a training run; add --resume to go on, or give another folder.")
        for name, (other, content) in needed.items():
            try:
                if not (self.run / name).exists():
                    write_json(self.run / name, content)
                elif json.loads((self.run / name).read_text(encoding="utf-8")) != content:
                    raise ConfigError(f"{self.run} was trained with other {other}, or give another folder.")
            except json.JSONDecodeError:
                raise ConfigError(f"{self.run / name} is damaged; train in another folder.") from None
            except OSError as error:
                raise ConfigError(f"The folder {self.run} can't be used ({error.strerror}); give another.") from None
        (self.run / "agents").mkdir(exist_ok=True)
        start = self.run / "start.json"
        if start.exists():
            self.start_from = Path(json.loads(start.read_text(encoding="utf-8")))
        elif self.start_from:
            write_json(start, str(self.start_from))

    def _network(self) -> QNetwork:
        n = self.config.network
        return QNetwork(n.width, n.heads, n.layers, n.graph, n.dropout)

    def _settings(self) -> DqnSettings:
        c = self.config.learning
        return DqnSettings(
            gamma=c.gamma, removal_cost=c.removal_cost, targets=c.targets, wrong_weight=c.wrong_weight,
            rank_weight=c.rank_weight, learning_rate=c.learning_rate, weight_decay=c.weight_decay,
            budget_shares=c.budget_shares, double=c.double,
        )  # fmt: skip

    def rounds(self, progress: Callable[[str, int, int], None] = lambda *_: None) -> Iterator[dict[str, Any]]:
        """Train, round by round; yields each round's log entry after its checkpoint is written.

        Args:
            progress: told (what is being done, how many are done, of how many).
        """
        torch.set_num_threads(1)  # the other cores play; two threads on a busy machine are slower than one
        keep_pages()
        log = self.checkpoints.load(self.agents, self.memories) or []
        if not log and self.start_from is not None:
            try:
                found = Checkpoints(self.start_from).load(self.agents, self.memories)
            except (RuntimeError, ValueError):
                raise ConfigError(
                    f"{self.start_from} has networks or games of other sizes; start from a run of like settings."
                ) from None
            if found is None:
                raise ConfigError(f"{self.start_from} holds no checkpoint to start from; give the folder of a run.")
            for role in self.agents:
                self._keep(role, -1)
        self._write_log(log)
        if len(log) == self.total_rounds:
            return
        with pool(self.config, self.cache, self.jobs) as workers:
            for number in range(len(log), self.total_rounds):
                log.append(self._round(number, workers, log, progress))
                self.checkpoints.save(number + 1, self.agents, self.memories, log)
                self._write_log(log)
                yield log[-1]

    def _round(self, number: int, workers: Any, log: list[dict[str, Any]], progress: Any) -> dict[str, Any]:
        c, started = self.config, time.perf_counter()
        playing = number < c.rounds
        first, last = c.epsilon
        epsilon = first + (last - first) * min(1.0, number / max(1, c.rounds - 1))
        entry: dict[str, Any] = {"round": number + 1, "epsilon": round(epsilon, 4), "decodes": 0}
        rng = np.random.default_rng((c.seed, LEARN, number))
        torch.manual_seed(int(rng.integers(2**63)))  # dropout's chance, the round's own too

        if playing and number < c.attack_rounds:
            tasks = self._tasks("attack", ATTACK, number, c.attack_games, epsilon)
            self._collect(tasks, "attacker", workers, entry, progress)
            entry |= self._learn("attacker", c.attack_updates, number, c.attack_rounds, rng, progress)
        self._keep("attacker", number)
        if playing:
            tasks = self._tasks("defence", DEFENCE, number, c.defence_games, epsilon)
            self._collect(tasks, "defender", workers, entry, progress)
        entry |= self._learn("defender", c.defence_updates, number, self.total_rounds, rng, progress)
        self._keep("defender", number)
        entry["seconds_train"] = round(time.perf_counter() - started, 1)
        self._validate(workers, entry, progress)
        before = log[-1] if log else {"total_decodes": 0, "total_seconds": 0.0}
        entry["total_decodes"] = before["total_decodes"] + entry["decodes"]
        entry["seconds"] = round(time.perf_counter() - started, 1)
        entry["total_seconds"] = round(before["total_seconds"] + entry["seconds"], 1)
        return entry

    def _tasks(self, kind: str, purpose: int, number: int, games: int, epsilon: float) -> list[Task]:
        """The round's games: objects in random order; attackers from the league, the newest most often."""
        rng = np.random.default_rng((self.config.seed, CHOOSE, purpose, number))
        chosen = rng.integers(len(self.train), size=games)
        defender, attacker = self._trained("defender", number - 1), self._trained("attacker", number - 1)
        newest = [self._trained("attacker", number - k) for k in range(self.config.league)]
        league = [path for path in newest if path is not None]
        tasks = []
        for game, index in enumerate(chosen):
            seed = (self.config.seed, purpose, number, game)
            if kind == "attack":
                tasks.append(Task(kind, self.train[index], seed, None, attacker, epsilon))
            else:
                opponent = league[int(rng.integers(len(league)))] if league else None
                tasks.append(Task(kind, self.train[index], seed, defender, opponent, epsilon))
        return tasks

    def _collect(self, tasks: list[Task], role: str, workers: Any, entry: dict[str, Any], progress: Any) -> None:
        """Play and remember, in the order of the tasks whoever finishes first."""
        if not tasks:
            return
        started, gains = time.perf_counter(), []
        for done, played in enumerate(in_order(workers, play_task, tasks), 1):
            assert isinstance(played, Played)
            for experience in played.experiences:
                self.memories[role].add(experience)
            entry["decodes"] += played.decodes
            gains.append(played.dice[-1] - played.dice[0])
            progress(f"{role} plays", done, len(tasks))
        seconds = time.perf_counter() - started
        entry[f"{role}_game_gain"] = round(float(np.mean(gains)), 4)
        entry[f"{role}_states"] = len(self.memories[role])
        entry["seconds_play"] = round(entry.get("seconds_play", 0.0) + seconds, 3)
        entry["decodes_per_second"] = round(entry["decodes"] / max(1e-3, entry["seconds_play"]), 1)

    def _learn(
        self, role: str, updates: int, number: int, rounds: int, rng: np.random.Generator, progress: Any
    ) -> dict[str, Any]:
        agent, memory, c = self.agents[role], self.memories[role], self.config.learning
        if not updates or not len(memory):
            return {}
        sums: dict[str, float] = {}
        for step in range(updates):
            done = number * updates + step
            share = done / max(1, rounds * updates)
            rate = c.learning_rate
            if not self.config.game.paper:  # the paper's rate is constant
                rate *= 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
            agent.optimizer.param_groups[0]["lr"] = rate
            losses = agent.update(memory.sample(c.batch, rng), rng)
            if (done + 1) % c.target_sync == 0:
                agent.sync()
            for key, value in losses.items():
                sums[key] = sums.get(key, 0.0) + value
            if step % 10 == 9 or step + 1 == updates:
                progress(f"{role} learns", step + 1, updates)
        return {f"{role}_{key}": round(value / updates, 5) for key, value in sums.items()}

    def _validate(self, workers: Any, entry: dict[str, Any], progress: Any) -> None:
        """Mean Dice over fixed games on held-out images; the same ones every round."""
        games = self.config.validation_games
        rng = np.random.default_rng((self.config.seed, CHOOSE, VALIDATION))
        chosen = rng.permutation(len(self.held))[:games]
        defender, attacker = (
            self._trained("defender", entry["round"] - 1),
            self._trained("attacker", entry["round"] - 1),
        )
        tasks = [
            Task("validation", self.held[i], (self.config.seed, VALIDATION, int(i)), defender,
                 attacker)
            for i in chosen
        ]  # fmt: skip
        checked: list[Checked] = []
        for done, result in enumerate(in_order(workers, play_task, tasks), 1):
            checked.append(result)
            progress("validation", done, len(tasks))
        for name in ("ideal", "flipped", "flipped_defended", "attacked", "attacked_defended", "random_attacked"):
            entry[f"val_{name}"] = round(float(np.mean([getattr(x, name) for x in checked])), 4)

    def _trained(self, role: str, number: int) -> Path | None:
        """The agent's file after that round; None where it has learned nothing yet."""
        path = self._file(role, number)
        learned = role == "defender" or self.config.attack_rounds or self.start_from is not None
        return path if learned and path.exists() else None

    def _file(self, role: str, number: int) -> Path:
        return self.run / "agents" / f"{role}_{number + 1:03d}.safetensors"

    def _keep(self, role: str, number: int) -> None:
        save_network(self.agents[role].online, self._file(role, number))

    def _write_log(self, log: list[dict[str, Any]]) -> None:
        (self.run / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))


def _limited(objects: list[SegmentedObject], config: TrainingConfig) -> list[SegmentedObject]:
    """At most so many objects an image, and so many images, chosen by the seed."""
    rng = np.random.default_rng((config.seed, CHOOSE))
    by_image: dict[Path, list[SegmentedObject]] = {}
    for item in objects:
        by_image.setdefault(item.image_path, []).append(item)
    paths = list(by_image)
    if config.images is not None and len(paths) > config.images:
        paths = [paths[i] for i in sorted(rng.permutation(len(paths))[: config.images])]
    kept = []
    for path in paths:
        items = by_image[path]
        kept += [items[i] for i in sorted(rng.permutation(len(items))[: config.objects_per_image])]
    return kept
