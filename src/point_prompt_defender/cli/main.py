"""`ppd`: choose the command, run it, and turn what goes wrong into one sentence and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from .. import __version__
from ..errors import PPDError
from .common import WRONG_USE, Parser

COMMANDS = ("demo", "refine", "train", "evaluate", "weights")

# As a shell reports a program that the signal ended: 128 + SIGINT, 128 + SIGPIPE.
INTERRUPTED, PIPE_CLOSED = 130, 141


def build_parser() -> argparse.ArgumentParser:
    """The parser of `ppd` with all its commands; imports no heavy library."""
    parser = Parser(
        prog="ppd",
        description="Point Prompt Defender: take the bad points out of a segmenter's point prompts.",
        epilog="example:\n  ppd demo --out demo\n  ppd refine photo.jpg --points points.json --out result.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ppd {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"{__package__}.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `ppd`.

    Args:
        argv: the words after `ppd`; None takes the process's own.

    Returns:
        0 success, 1 some inputs failed (named, the rest done), 2 wrong use or an input that can't be used,
        130 interrupted, 141 the reader of the output went away.
    """
    args = build_parser().parse_args(argv)
    try:
        code = import_module(f"{__package__}.{args.command}").run(args)
        sys.stdout.flush()
        return code
    except PPDError as error:
        print(f"ppd: {error}", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        print("ppd: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Nothing can be written any more; point the stream away, or Python complains once more as it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        print(
            f"ppd: {error.strerror or error}{place}; make room or choose another place, and try again.", file=sys.stderr
        )
        return WRONG_USE
