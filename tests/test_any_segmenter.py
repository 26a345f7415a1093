"""One trained defender serves every segmenter: the shipped one refines with each family of transformers' models."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import point_prompt_defender as ppd

sys.path.append(str(Path(__file__).parent / "segmenters"))
import tiny_models  # noqa: E402

COORDS = [[60, 50], [90, 60], [75, 80], [10, 10], [140, 15], [15, 100]]
LABELS = [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("family", ["sam", "sam_hq", "sam2", "sam3_tracker"])
@pytest.mark.parametrize("budget", ["fast", "default", "thorough"])
def test_the_shipped_defender_refines_with_it(family, budget, tmp_path, photo):
    folder = tiny_models.save_tiny(family, tmp_path / family)
    defender = ppd.PointPromptDefender.from_pretrained("default", segmenter=str(folder), budget=budget)
    image = photo[50:170, 100:260]
    first, second = (defender.refine(image, COORDS, LABELS) for _ in range(2))
    assert first.mask.shape == first.mask_before.shape == image.shape[:2]
    assert first.keep[np.array(LABELS) == 1].any()
    assert (first.keep == second.keep).all() and (first.mask == second.mask).all()
    assert first.timings["encodes"] == 1 and second.timings["encodes"] == 0
    assert sorted(first.removal_order) == np.flatnonzero(~first.keep).tolist()
    assert [bool(reason) for reason in first.reasons] == (~first.keep).tolist()
