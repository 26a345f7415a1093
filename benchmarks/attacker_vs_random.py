# python benchmarks/attacker_vs_random.py --data ../shared/data
"""What the shipped attacker costs, against as many random activations, on validation images of its training sets.

8 + 8 ideal points, 32 candidates of which half are wrong, 4 activations, 3 seeds, 60 objects. The images are those that
training holds out (the split is by a hash of the file's name). Writes benchmarks/results/attacker_vs_random.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from rich.progress import track

from point_prompt_defender.agents.files import find_agent, load_network
from point_prompt_defender.evaluation.metrics import bootstrap, dice
from point_prompt_defender.game.corruptions import candidate_pool, join
from point_prompt_defender.game.rules import Role
from point_prompt_defender.proposers.ideal import ideal_prompts
from point_prompt_defender.scene import Scene, attack
from point_prompt_defender.segmenters import load_segmenter
from point_prompt_defender.training.data import find_objects, split_by_image

HERE = Path(__file__).parent
SETS = ("coco128_seg", "feral_cats", "clothing_ccp", "dsb2018")
MOVES, CANDIDATES, POINTS, SEEDS = 4, 32, 8, 3


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data", help="holds the sets")
    parser.add_argument("--objects", type=int, default=60)
    args = parser.parse_args()
    folders = [args.data / name for name in SETS]
    if not all(folder.is_dir() for folder in folders):
        print(f"skipped: {args.data} does not hold {', '.join(SETS)}")
        return 0
    segmenter = load_segmenter()
    attacker, _ = load_network(find_agent("default", Role.ATTACKER))
    _, held = split_by_image(find_objects(folders, merge=("clothing_ccp",)))
    chosen = [held[i] for i in np.random.default_rng(0).permutation(len(held))[: args.objects]]
    costs = []
    for number, item in enumerate(track(chosen, "attacking")):
        scene = Scene.of(segmenter, segmenter.embed(item.image()), item.mask())
        for seed in range(SEEDS):
            rng = np.random.default_rng((seed, number))
            ideal = ideal_prompts(scene.mask, POINTS, POINTS, rng)
            pool = candidate_pool(scene.mask, CANDIDATES, rng)
            some = rng.choice(CANDIDATES, MOVES, replace=False)
            sets = {
                "ideal": ideal,
                "random": join(ideal, pool.take(some)),
                "attacked": attack(scene, ideal, pool, attacker, MOVES)[0],
            }
            score = {
                name: dice(segmenter.predict(scene.embedding, p.coords[None], p.labels[None]).masks[0], scene.mask)
                for name, p in sets.items()
            }
            costs.append((score["ideal"], score["random"], score["attacked"], str(item.image_path)))
    ideal_, random_, attacked = (np.array([c[k] for c in costs]) for k in range(3))
    groups = np.array([c[3] for c in costs])

    def ratio(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
        return float((a.mean() - c.mean()) / (a.mean() - b.mean()))

    result = {
        "n": len(costs),
        "dice_ideal": ideal_.mean(),
        "dice_random": random_.mean(),
        "dice_attacked": attacked.mean(),
        "cost_ratio": ratio(ideal_, random_, attacked),
        "cost_ratio_ci95": bootstrap(ratio, [ideal_, random_, attacked], groups),
    }
    text = json.dumps(result, indent=1, default=float)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "attacker_vs_random.json").write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
