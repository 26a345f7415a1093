"""`ppd demo`: a real segmenter on real photographs, attacked and defended."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from .common import OK, add_command, add_json, console, output_folder, print_json, progress_bar

if TYPE_CHECKING:
    from ..demo import DemoCase


def add_parser(subparsers: Any) -> None:
    """Add `demo`."""
    parser = add_command(
        subparsers,
        "demo",
        "see a segmenter ruined by bad points and rescued, on photographs",
        "ppd demo --out demo\nppd demo --out demo --budget thorough --json",
        "On photographs that scikit-image ships, with outlines drawn for this project: give the segmenter ideal "
        "points, let the trained attacker add bad ones, let the defender drop points. Writes demo.png and demo.json.",
    )
    parser.add_argument("--out", metavar="DIR", default="demo", help="where demo.png and demo.json go (default: demo)")
    add_defender_options(parser)
    parser.add_argument(
        "--attacker", metavar="NAME_OR_FOLDER", default="default", help="the trained attacker (default: default)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sampling of points (default: 0)")
    add_json(parser)


def add_defender_options(parser: argparse.ArgumentParser) -> None:
    """Add `--budget`, `--segmenter` and `--agent`: which defender, with which segmenter."""
    parser.add_argument(
        "--budget",
        choices=("fast", "default", "thorough"),
        default="default",
        help="how often the defender may ask the segmenter: never, once a step, or for every point (default: default)",
    )
    parser.add_argument(
        "--segmenter",
        metavar="NAME",
        default="mobile-sam",
        help="mobile-sam, a Hugging Face id or a model's folder (default: mobile-sam)",
    )
    parser.add_argument(
        "--agent",
        metavar="NAME_OR_FOLDER",
        default="default",
        help="the trained defender: default, a training run's folder or a Hub id (default: default)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo and write its picture and figures.

    Raises:
        PPDError: the folder can't be written to, or weights, agents or photographs are missing.
    """
    folder = output_folder(args.out)
    started = time.perf_counter()

    from ..defender import PointPromptDefender
    from ..demo import as_dict, load_scenes, picture, play, trained_attack
    from ..images import save_image
    from ..io.files import write_json

    scenes = load_scenes()
    defender = PointPromptDefender.from_pretrained(args.agent, segmenter=args.segmenter, budget=args.budget)
    attack = trained_attack(defender.segmenter, args.attacker)
    with progress_bar() as bar:
        cases = list(bar.track(play(scenes, defender, attack, args.seed), len(scenes), description="demo"))
    figures = as_dict(cases, round(time.perf_counter() - started, 2))
    save_image(folder / "demo.png", picture(cases))
    write_json(folder / "demo.json", figures)
    if args.json:
        print_json(figures)
    else:
        _print_table(cases, figures)
    console().print(f"Wrote {folder / 'demo.png'} and {folder / 'demo.json'}", highlight=False, soft_wrap=True)
    return OK


def _print_table(cases: list[DemoCase], figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..game.corruptions import contradicts

    table = Table(title="Dice against the drawn outlines")
    table.add_column("object", no_wrap=True)
    for name in ("ideal", "attacked", "defended", "dropped", "of the wrong"):
        table.add_column(name, justify="right")
    for case in cases:
        wrong, dropped = contradicts(case.attacked, case.scene.mask), ~case.result.keep
        dice = (case.dice_ideal, case.dice_attacked, case.dice_defended)
        counts = f"{dropped.sum()} of {dropped.size}", f"{(dropped & wrong).sum()} of {wrong.sum()}"
        table.add_row(case.scene.name, *(f"{d:.3f}" for d in dice), *counts)
    table.add_section()
    ideal, attacked, defended = figures["means"].values()
    table.add_row("mean", *(f"{mean:.3f}" for mean in (ideal, attacked, defended)), style="bold")
    to = Console()
    to.print(table)
    share = "" if figures["won_back"] is None else f" ({figures['won_back']:.0%})"
    to.print(f"The attack took {ideal - attacked:.3f} Dice, the defender won back {defended - attacked:.3f}{share}.")
    to.print(f"{figures['seconds']:.1f} s")
