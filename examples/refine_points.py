"""Refine points from Python: a photograph, seven clicks of which one is wrong, and what the defender makes of them.

    python examples/refine_points.py

Needs the extra `demo` for the photograph.
"""

from __future__ import annotations

import skimage.data

import point_prompt_defender as ppd

# The cat's nose, (x, y); the fifth click went astray.
COORDS = [[269, 236], [261, 253], [277, 236], [285, 240], [100, 100], [20, 20], [430, 30]]
LABELS = [1, 1, 1, 1, 1, 0, 0]


def main() -> None:
    """Refine, and tell what was dropped and why."""
    image = skimage.data.chelsea()
    segmenter = ppd.load_segmenter("mobile-sam")
    embedding = segmenter.embed(image)  # the slow part, once; any number of point sets can follow
    for budget in ("fast", "default", "thorough"):
        defender = ppd.PointPromptDefender.from_pretrained("default", segmenter=segmenter, budget=budget)
        result = defender.refine(embedding, COORDS, LABELS)
        decodes, seconds = result.timings["decodes_deciding"], result.timings["total"]
        print(f"{budget}: kept {result.keep.sum()} of {len(LABELS)}, {decodes:.0f} decodes, {seconds:.2f} s")
        for point in result.removal_order:
            print(f"  dropped {COORDS[point]}: {result.reasons[point]}")
        before, after = result.mask_before.mean(), result.mask.mean()
        print(f"  the mask covers {after:.1%} of the image, {before:.1%} with all points")


if __name__ == "__main__":
    main()
