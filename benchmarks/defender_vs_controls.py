# python benchmarks/defender_vs_controls.py --data ../shared/data --jobs 2
"""The shipped defender against every control, on three data sets that it was never trained on.

8 + 8 points, four labels flipped, and the clean points; 3 seeds; at least 60 objects a set (all there are, where a set
has fewer images than that). Writes benchmarks/results/defender_vs_controls/{results.json, results.md}; started again,
it goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from point_prompt_defender.cli.main import main

HERE = Path(__file__).parent
SETS = ("davis2016_val", "bsds_val", "wbc")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=HERE.parent.parent / "shared" / "data", help="holds the three sets"
    )
    parser.add_argument("--jobs", default="2", help="processes")
    parser.add_argument("--objects", default="60", help="objects a set")
    args = parser.parse_args()
    folders = [args.data / name for name in SETS]
    missing = [folder.name for folder in folders if not folder.is_dir()]
    if missing:
        print(f"skipped: {args.data} does not hold {', '.join(missing)}")
        sys.exit(0)
    out = HERE / "results" / Path(__file__).stem
    sys.exit(
        main(
            ["evaluate", "--data", *map(str, folders), "--objects", args.objects, "--merge", "wbc"]
            + ["--jobs", args.jobs, "--out", str(out)]
        )
    )
