"""`ppd evaluate`: measure the defender against every control on one's own data."""

from __future__ import annotations

import argparse
import os
from typing import Any

from .common import OK, add_command, add_json, console, output_folder, print_json, progress_bar


def add_parser(subparsers: Any) -> None:
    """Add `evaluate`."""
    parser = add_command(
        subparsers,
        "evaluate",
        "measure the defender against every control, with the ground truth in hand",
        "ppd evaluate --data davis --data bsds --objects 60 --out results\n"
        "ppd evaluate --data cells --merge cells --noise flip-4 --method keep-all knn ppd-default oracle --out results",
        "Corrupt ideal prompts of every object in known ways, let every method refine them, and compare the masks with "
        "the ground truth. Writes results.json, results.md and cases.jsonl; started again, it goes on where it was.",
    )
    parser.add_argument(
        "--data", nargs="+", action="extend", required=True, metavar="DIR", help="images/ + masks/, or a COCO json"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="where the results go")
    parser.add_argument(
        "--noise", nargs="+", default=["clean", "flip-4"], help="kinds of noise (default: clean flip-4)"
    )
    parser.add_argument("--method", nargs="+", help="methods (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="draws of points an object (default: 3)")
    parser.add_argument("--objects", type=int, help="most objects a data folder (default: all)")
    parser.add_argument("--points", type=int, default=8, help="positives, and as many negatives (default: 8)")
    parser.add_argument(
        "--merge",
        nargs="+",
        default=[],
        metavar="NAME",
        help="folders whose masks are class maps: all classes are one object",
    )
    parser.add_argument("--agent", default="default", help="which agents: default, or the folder of a training run")
    parser.add_argument("--segmenter", default="mobile-sam", help="which segmenter (default: mobile-sam)")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help="of its decoder (default: float32)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and report.

    Raises:
        PPDError: data, names or folders that can't be used.
    """
    import json

    from ..evaluation.protocol import METHODS, Protocol, measure
    from ..evaluation.report import markdown, summarise

    out = output_folder(args.out)
    protocol = Protocol(
        data=tuple(args.data),
        noises=tuple(args.noise),
        methods=tuple(args.method or METHODS),
        seeds=args.seeds,
        objects=args.objects,
        points=args.points,
        agent=args.agent,
        segmenter=args.segmenter,
        precision=args.precision,
        merge=tuple(args.merge),
    )
    with progress_bar() as bar:
        task = bar.add_task("measuring", total=None)
        rows = measure(protocol, out, args.jobs, lambda done, total: bar.update(task, completed=done, total=total))
    summary = summarise(rows)
    (out / "results.json").write_text(json.dumps(summary, indent=1))
    (out / "results.md").write_text(markdown(summary))
    if args.json:
        print_json(summary)
    else:
        from rich.markdown import Markdown

        console().print(Markdown(markdown(summary)))
        print(out / "results.md")
    return OK
