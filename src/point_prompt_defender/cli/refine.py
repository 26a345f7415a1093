"""`ppd refine`: drop the bad points of one image."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PPDError
from .common import OK, add_command, add_json, console, output_folder, print_json
from .demo import add_defender_options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from ..prompts import PointPrompts, RefineResult


def add_parser(subparsers: Any) -> None:
    """Add `refine`."""
    parser = add_command(
        subparsers,
        "refine",
        "drop the bad points of your own image",
        "ppd refine photo.jpg --points points.json --out result.json\n"
        "ppd refine photo.jpg --points points.csv --out result.json --mask mask.png --overlay overlay.png",
        "Choose which of an image's point prompts to keep. Points are JSON, "
        '{"points": [[x, y], ...], "labels": [1, 0, ...]}, or CSV with the header x,y,label; pixels of the image, '
        "label 1 on the object, 0 off it.",
    )
    parser.add_argument("image", metavar="IMAGE", help="the image: PNG, JPEG, TIFF and others")
    parser.add_argument("--points", metavar="POINTS", required=True, help="the points, JSON or CSV")
    parser.add_argument("--out", metavar="R.json", required=True, help="where the result goes")
    parser.add_argument("--mask", metavar="M.png", help="also write the mask from the kept points, 0 and 255")
    parser.add_argument("--overlay", metavar="O.png", help="also write a picture of the points and masks")
    add_defender_options(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Refine, write what was asked for, and print what was dropped and why.

    Raises:
        PPDError: an input that can't be used, or an output that can't be written; checked before the slow work.
    """
    outputs = {name: path for name in ("out", "mask", "overlay") if (path := getattr(args, name))}
    _check_outputs(outputs, {"image": args.image, "points": args.points})

    from ..images import load_image, save_image, save_mask
    from ..io import read_points, result_as_dict, write_result
    from ..prompts import PointPrompts

    prompts = PointPrompts(*read_points(args.points))
    image = load_image(args.image)
    _check_inside(prompts, image.shape[:2], args.points)

    from ..defender import PointPromptDefender

    defender = PointPromptDefender.from_pretrained(args.agent, segmenter=args.segmenter, budget=args.budget)
    result = defender.refine(image, prompts.coords, prompts.labels)

    about = {"image": os.fspath(args.image), "segmenter": args.segmenter, "agent": args.agent, "budget": args.budget}
    write_result(args.out, result, prompts.coords, prompts.labels, **about)
    if args.mask:
        save_mask(args.mask, result.mask)
    if args.overlay:
        save_image(args.overlay, _overlay(image, prompts, result))
    if args.json:
        print_json(result_as_dict(result, prompts.coords, prompts.labels, masks=False, **about))
    else:
        _print_table(prompts, result)
    console().print(f"Wrote {', '.join(outputs.values())}", highlight=False, markup=False, soft_wrap=True)
    return OK


def _check_outputs(outputs: dict[str, str], inputs: dict[str, str]) -> None:
    """See that every output can be written, and that none takes the place of another file of this run."""
    taken = {Path(path).expanduser().resolve(): name for name, path in inputs.items()}
    for name, path in outputs.items():
        target = Path(path).expanduser()
        if target.is_dir():
            raise PPDError(f"--{name} {path} is a folder; name a file in it.")
        if (other := taken.setdefault(target.resolve(), name)) != name:
            raise PPDError(f"--{name} {path} is the same file as the {other}; name another.")
        output_folder(target.parent)


def _check_inside(prompts: PointPrompts, image_size: tuple[int, int], path: str) -> None:
    from ..errors import PromptError
    from ..prompts import PointPrompts

    try:
        PointPrompts.checked(prompts.coords, prompts.labels, image_size)
    except PromptError as error:
        raise PromptError(f"{path}: {error}") from None


def _overlay(image: NDArray[np.uint8], prompts: PointPrompts, result: RefineResult) -> Image:
    from ..drawing import Panel, figure

    estimate = "SAM's own IoU estimate"
    panels = [
        Panel(image, result.mask_before, prompts, caption=f"{estimate} {result.predicted_iou_before:.2f}"),
        Panel(image, result.mask, prompts, result.keep, f"{estimate} {result.predicted_iou:.2f}"),
    ]
    width = min(max(image.shape[1], 480), 1200)
    return figure([panels], ["all points", "kept points"], width)


def _print_table(prompts: PointPrompts, result: RefineResult) -> None:
    from rich.console import Console
    from rich.table import Table

    to = Console()
    if result.removal_order:
        table = Table(title="Dropped points, in this order")
        for name in ("point", "x", "y", "label"):
            table.add_column(name, justify="right")
        table.add_column("why")
        for index in result.removal_order:
            x, y = prompts.coords[index]
            label = "positive" if prompts.labels[index] else "negative"
            table.add_row(str(index), f"{x:g}", f"{y:g}", label, result.reasons[index])
        to.print(table)
    kept = int(result.keep.sum())
    to.print(
        f"Kept {kept} of {len(prompts)} points; SAM's own IoU estimate "
        f"{result.predicted_iou_before:.2f} -> {result.predicted_iou:.2f}; {result.timings['total']:.1f} s"
    )
