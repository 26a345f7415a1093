"""`ppd train`: train an attacker and a defender on one's own images and masks."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, PPDError
from .common import OK, SOME_FAILED, add_command, add_json, console, output_folder, print_json, progress_bar

if TYPE_CHECKING:
    from ..training.config import TrainingConfig
    from ..training.curves import TensorBoardLog

INTERRUPTED = 130

_DESCRIPTION = """\
Train an attacker and a defender.

A data folder holds images/ and masks/ with the same stems, masks binary or integer
instance maps (0 is background); or give a COCO json beside its images. All files
are checked first: images without a mask are left out; files that can't be used are
named and left out, and the exit code is 1 at the end.

The run's folder gets attacker.safetensors, defender.safetensors, README.md,
curves.png, log.jsonl, tensorboard/ and checkpoints/. The table shows mean Dice on
images kept for validation. A run that was stopped in any way goes on with --resume,
to the same numbers as if it had not been stopped."""

COLUMNS = {  # heading -> key of a log entry, format
    "round": ("round", "d"),
    "ideal": ("val_ideal", ".3f"),
    "flipped": ("val_flipped", ".3f"),
    "defended": ("val_flipped_defended", ".3f"),
    "attacked": ("val_attacked", ".3f"),
    "defended ": ("val_attacked_defended", ".3f"),
    "loss att": ("attacker_loss_q", ".4f"),
    "loss def": ("defender_loss_q", ".4f"),
    "epsilon": ("epsilon", ".2f"),
    "decodes/s": ("decodes_per_second", ".1f"),
    "minutes": ("total_minutes", ".1f"),
}


def add_parser(subparsers: Any) -> None:
    """Add `train`."""
    parser = add_command(
        subparsers,
        "train",
        "train an attacker and a defender on your own images and masks",
        "ppd train --data cells cats --out runs/mine\n"
        "ppd train --data cells cats --out runs/mine --resume\n"
        "ppd train --data cells --out runs/long --preset paper --set rounds=20 --set learning.gamma=0.95\n"
        "ppd train --list-settings",
        _DESCRIPTION,
    )
    parser.add_argument(
        "--data", nargs="+", action="extend", required=True, metavar="DIR", help="images/ + masks/, or a COCO json"
    )
    parser.add_argument("--out", required=True, metavar="RUN", help="the run's folder")
    parser.add_argument("--preset", metavar="NAME", help="default (the default), paper, or a .toml file")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change one of its settings")
    parser.add_argument("--seed", type=int, help="seed of everything (default: the preset's)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on where the run in RUN was left, with its settings; starts it where there is none",
    )
    parser.add_argument("--from", dest="start_from", metavar="RUN", help="start with the agents and games of a run")
    parser.add_argument("--jobs", type=_count, default=_cores(), help="processes that play (default: one a core)")
    parser.add_argument("--cache", metavar="DIR", help="where image embeddings are kept (default: RUN/embeddings)")
    parser.add_argument("--list-settings", action=_ListSettings, help="print every setting with its default and leave")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Train.

    Returns:
        0; 1 where files of the data could not be used and were left out; 130 where it was interrupted.

    Raises:
        PPDError: settings, data or folders that can't be used.
    """
    _check_installed()
    out = output_folder(args.out)
    try:
        return _train(args, out)
    except KeyboardInterrupt:
        print(
            "ppd train: interrupted; the same command with --resume goes on, and only the round under way is lost.",
            file=sys.stderr,
        )
        return INTERRUPTED


def _train(args: argparse.Namespace, out: Path) -> int:
    config = _settings(args, out)
    cache = output_folder(args.cache) if args.cache else None

    from ..training.curves import draw_curves
    from ..training.export import export_agents
    from ..training.self_play import SelfPlay

    start_from = Path(args.start_from) if args.start_from else None
    play = SelfPlay(config, args.data, out, cache, args.jobs, args.resume, start_from)
    for problem in play.problems:
        print(f"ppd train: left out: {problem}", file=sys.stderr)
    print(
        f"{len(play.train)} objects to train on, {len(play.held)} to validate with; {play.total_rounds} rounds, "
        f"{args.jobs} processes",
        file=sys.stderr,
    )
    board = _tensorboard(out)
    with _live() as (show, say):
        say("  ".join(COLUMNS))
        for entry in play.rounds(show):
            say(_row(entry))
            log = _read_log(out)
            draw_curves(log, out / "curves.png")
            if board:
                board.add(log)
    if board:
        board.close()
    log = _read_log(out)
    cards = export_agents(play, log)
    if args.json:
        files = {role: out / f"{role}.safetensors" for role in cards}
        print_json({"run": out, **files, "card": cards["defender"], "left_out": play.problems})
    else:
        print(out / "defender.safetensors")
    return SOME_FAILED if play.problems else OK


def _settings(args: argparse.Namespace, out: Path) -> TrainingConfig:
    """What the arguments ask for; the settings of the run that is resumed where they ask for nothing."""
    from ..training.config import parse_config
    from ..training.settings import config_of

    kept = out / "config.json"
    if args.resume and kept.exists() and args.preset is None and not args.set and args.seed is None:
        try:
            return parse_config(json.loads(kept.read_text(encoding="utf-8")), str(kept))
        except json.JSONDecodeError:
            raise ConfigError(f"{kept} is damaged; train in another folder.") from None
    return config_of(args.preset or "default", args.set, args.seed)


def _tensorboard(out: Path) -> TensorBoardLog | None:
    from ..training.curves import TensorBoardLog

    try:
        return TensorBoardLog(out / "tensorboard")
    except ImportError:
        print("ppd train: no TensorBoard logs; pip install tensorboard to have them.", file=sys.stderr)
        return None


@contextmanager
def _live() -> Iterator[tuple[Callable[[str, int, int], None], Callable[[str], None]]]:
    """A bar for what is being done and lines above it; lines alone where the standard error is no terminal.

    Gives a function for the bar (what, done, total) and one for a line.
    """
    with progress_bar() as bar:
        task = bar.add_task("starting", total=None)

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        def say(line: str) -> None:
            if console().is_terminal:
                bar.console.print(line, highlight=False, soft_wrap=True)
            else:
                print(line, file=sys.stderr, flush=True)

        yield show, say


def _row(entry: dict[str, Any]) -> str:
    """A log entry as a line under the headings of COLUMNS; "-" for what did not happen in that round."""
    entry = {**entry, "total_minutes": entry["total_seconds"] / 60}
    return "  ".join(
        (format(entry[key], form) if key in entry else "-").rjust(len(title)) for title, (key, form) in COLUMNS.items()
    )


def _read_log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def _check_installed() -> None:
    if missing := [name for name in ("pydantic", "matplotlib") if find_spec(name) is None]:
        raise PPDError(
            f"Training needs {' and '.join(missing)}; install what is missing with "
            "pip install 'point-prompt-defender[train]'."
        )


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


class _ListSettings(argparse.Action):
    """Print the settings and leave, as `--help` does: whatever else is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print and leave."""
        try:
            _check_installed()
        except PPDError as error:
            parser.exit(2, f"ppd: {error}\n")
        from ..training.settings import describe

        print(describe())
        parser.exit()
