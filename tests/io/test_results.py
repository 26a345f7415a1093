"""Results as JSON: every field, readable by others, and as points again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from point_prompt_defender.io import read_points, result_as_dict, write_result
from point_prompt_defender.io.json_points import _run_lengths
from point_prompt_defender.prompts import RefineResult

COORDS, LABELS = [[1.0, 2.0], [3.5, 0.0], [2.0, 1.0]], [1, 0, 1]


@pytest.fixture
def result() -> RefineResult:
    mask = np.zeros((3, 4), bool)
    mask[1:, 2] = True
    return RefineResult(
        keep=np.array([True, False, True]),
        q_values=np.array([np.nan, 0.25, -0.5]),
        removal_order=[np.int64(1)],
        reasons=["", "labelled negative, but …", ""],
        mask=mask,
        predicted_iou=0.83,
        timings={"total": 0.5, "decodes": 3.0},
        decode_before=lambda: (np.ones((3, 4), bool), 0.61),
    )


def decoded(run_lengths):
    flat = np.repeat(np.arange(len(run_lengths["counts"])) % 2 == 1, run_lengths["counts"])
    return flat.reshape(run_lengths["size"], order="F")


def test_all_fields_and_one_object_a_point(tmp_path, result):
    write_result(tmp_path / "r.json", result, COORDS, LABELS, image="photo.jpg")
    r = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert r["image"] == "photo.jpg"
    assert r["points"][1] == {
        "x": 3.5,
        "y": 0,
        "label": 0,
        "kept": False,
        "q": 0.25,
        "reason": "labelled negative, but …",
    }
    assert r["points"][0]["q"] is None and r["q_values"] == [None, 0.25, -0.5]
    assert r["keep"] == [True, False, True] and r["removal_order"] == [1] and r["reasons"][0] == ""
    assert (r["predicted_iou"], r["predicted_iou_before"]) == (0.83, 0.61)
    assert r["timings"] == {"total": 0.5, "decodes": 3}
    np.testing.assert_array_equal(decoded(r["mask"]), result.mask)
    assert decoded(r["mask_before"]).all()


def test_a_result_reads_as_points_again(tmp_path, result):
    write_result(tmp_path / "r.json", result, COORDS, LABELS)
    coords, labels = read_points(tmp_path / "r.json")
    assert coords.tolist() == COORDS and labels.tolist() == LABELS


def test_masks_can_be_left_out(result):
    assert "mask" not in result_as_dict(result, COORDS, LABELS, masks=False)


@given(mask=hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_run_lengths_hold_any_mask(mask):
    lengths = _run_lengths(mask)
    assert sum(lengths["counts"]) == mask.size and all(lengths["counts"][1:])
    np.testing.assert_array_equal(decoded(lengths), mask)
