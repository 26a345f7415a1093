"""What the commands share: parsers that speak in one sentence, JSON, the console, output folders."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import PPDError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

OK, SOME_FAILED, WRONG_USE = 0, 1, 2


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence with the way to the help."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(WRONG_USE, f"{self.prog}: {message}; see `{self.prog} --help`.\n")


def add_command(subparsers: Any, name: str, summary: str, example: str, description: str | None = None) -> Parser:
    """Add the parser of one command.

    Args:
        subparsers: what `add_subparsers` returned.
        name: as it is typed after `ppd`.
        summary: one line, for the list of commands.
        example: one or more command lines, shown at the end of the help.
        description: what the command does, where the summary says too little.
    """
    lines = "\n".join(f"  {line.strip()}" for line in example.strip().splitlines())
    return subparsers.add_parser(
        name,
        help=summary,
        description=description or summary,
        epilog=f"example:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`: print the result as JSON on the standard output and nothing else there."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def print_json(value: Any) -> None:
    """Print a result as JSON on the standard output; paths become strings, arrays lists."""
    print(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} can't be written as JSON")


@cache
def console() -> Console:
    """The console for people, on the standard error: the standard output stays free for results."""
    from rich.console import Console

    return Console(stderr=True)


def progress_bar() -> Progress:
    """A bar on `console()` with the count and the time left, drawn on terminals only; a context manager."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(),
        disable=not console().is_terminal,
    )


def output_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder for results, and see that it can be written to before any work is done.

    Raises:
        PPDError: it can't be made or written to.
    """
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise PPDError(f"The output folder {folder} can't be written to ({reason}); name another.") from None
    return folder
