# python benchmarks/defender_vs_controls.py --data ../shared/data --jobs 2
"""The shipped defender against every control, on three data sets that it was never trained on.

8 + 8 points, 60 objects a set (58 where a set has no more), in benchmarks/results/defender_vs_controls:

    flip-4         four labels flipped, 3 draws of points an object, against all controls that decode nothing
    clean          the same points without noise: what does the defender harm?
    leave-one-out  flip-4's first draw alone, against the controls that decode each removal: a hundred decodes a case

The decoder runs in bfloat16, for all methods alike (its masks' mean Dice to float32: see decoding.py). Started again,
it goes on where it was; a new agent is measured anew, the controls are not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from point_prompt_defender.cli.main import main

HERE = Path(__file__).parent
SETS = ("davis2016_val", "bsds_val", "wbc")
DECODING_NOTHING = ("keep-all", "random-4", "knn", "knn-dual", "knn-diffusion", "knn-dual-diffusion")
PPD = ("ppd-fast", "ppd-default", "ppd-thorough")
TABLES = {
    "flip-4": ("flip-4", 60, 3, (*DECODING_NOTHING, *PPD, "noise-oracle", "oracle")),
    "clean": ("clean", 60, 3, (*DECODING_NOTHING, *PPD)),
    "leave-one-out": ("flip-4", 60, 1, ("keep-all", "loo-iou", "loo-stability", *PPD, "oracle")),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=HERE.parent.parent / "shared" / "data", help="holds the three sets"
    )
    parser.add_argument("--jobs", default="2", help="processes")
    parser.add_argument("--table", nargs="+", choices=TABLES, default=list(TABLES), help="which tables (default: all)")
    args = parser.parse_args()
    folders = [args.data / name for name in SETS]
    missing = [folder.name for folder in folders if not folder.is_dir()]
    if missing:
        print(f"skipped: {args.data} does not hold {', '.join(missing)}")
        sys.exit(0)
    for table in args.table:
        noise, objects, seeds, methods = TABLES[table]
        out = HERE / "results" / Path(__file__).stem / table
        words = [
            "evaluate",
            "--data",
            *map(str, folders),
            "--objects",
            str(objects),
            "--merge",
            "wbc",
            "--out",
            str(out),
        ]
        words += ["--noise", noise, "--seeds", str(seeds), "--method", *methods]
        code = main([*words, "--precision", "bfloat16", "--jobs", args.jobs])
        if code:
            sys.exit(code)
