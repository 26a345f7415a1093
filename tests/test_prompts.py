"""PointPrompts.checked: good points pass unchanged, bad ones are named in a sentence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from point_prompt_defender.errors import PPDError, PromptError
from point_prompt_defender.prompts import PointPrompts, RefineResult


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda v: np.array(v, np.float32)])
def test_any_array_like(kind):
    prompts = PointPrompts.checked(kind([[1, 2], [3, 4]]), kind([1, 0]), (10, 10))
    assert prompts.coords.tolist() == [[1, 2], [3, 4]] and prompts.labels.tolist() == [1, 0]
    assert prompts.coords.dtype == np.float64 and prompts.labels.dtype == np.int64 and len(prompts) == 2


def test_one_point_is_enough_and_duplicates_stay():
    assert len(PointPrompts.checked([[1, 2]], [1])) == 1
    assert len(PointPrompts.checked([[1, 2]] * 3, [1, 0, 1])) == 3


def test_labels_may_be_bool_or_float():
    assert PointPrompts.checked([[1, 2], [3, 4]], [True, False]).labels.tolist() == [1, 0]
    assert PointPrompts.checked([[1, 2], [3, 4]], [1.0, 0.0]).labels.tolist() == [1, 0]


def test_the_input_is_copied():
    coords = np.array([[1.0, 2.0]])
    prompts = PointPrompts.checked(coords, [1])
    coords[:] = 99
    assert prompts.coords.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("coords", "labels", "message"),
    [
        ([], [], "no points"),
        (np.empty((0, 2)), [], "no points"),
        ([[1, 2]], [0], "no positive point"),
        ([[1, 2], [3, 4]], [0, 0], "no positive point"),
        ([[1, 2]], [2], "must be 1 .* but one is 2"),
        ([[1, 2]], [-1], "but one is -1"),
        ([[1, 2]], [0.5], "but one is 0.5"),
        ([[1, 2]], [float("nan")], "but one is nan"),
        ([[1, float("nan")]], [1], "Point 0 .* finite"),
        ([[1, 2], [float("inf"), 2]], [1, 1], "Point 1 .* finite"),
        ([1, 2], [1, 0], "shape"),
        ([[1, 2, 3]], [1], "shape"),
        ([[[1, 2]]], [1], "shape"),
        ([[1, 2]], [1, 0], "one label a point"),
        ([[1, 2]], 1, "one label a point"),
        ([[1, 2]], [[1]], "one label a point"),
        ([[1, 2], [3]], [1, 0], "plain arrays of numbers"),
        ([["a", "b"]], [1], "plain arrays of numbers"),
        ([[1, 2]], ["yes"], "plain arrays of numbers"),
        ([[1, 2]], None, "label"),
        (None, [1], "shape"),
        ([[1, {}]], [1], "plain arrays of numbers"),
    ],
)
def test_bad_points_are_named(coords, labels, message):
    with pytest.raises(PromptError, match=message) as caught:
        PointPrompts.checked(coords, labels)
    assert isinstance(caught.value, PPDError) and "\n" not in str(caught.value)


@pytest.mark.parametrize("point", [[-1, 5], [5, -1], [30, 5], [5, 20], [20, 30]])
def test_a_point_outside_the_image_x_first(point):
    with pytest.raises(PromptError, match="Point 1 .* outside the image of 30 x 20"):
        PointPrompts.checked([[25, 15], point], [1, 0], (20, 30))


@given(st.floats(-0.5, 29.5), st.floats(-0.5, 19.5))
def test_the_whole_area_of_the_pixels_is_inside(x, y):
    assert PointPrompts.checked([[x, y]], [1], (20, 30)).coords.tolist() == [[x, y]]


def test_the_state_before_is_decoded_once_and_only_when_asked_for():
    calls = []

    def decode():
        calls.append(1)
        return np.ones((2, 2), bool), 0.5

    keep = np.ones(1, bool)
    result = RefineResult(keep, np.zeros(1), [], [""], np.zeros((2, 2), bool), 0.9, {}, decode)
    assert not calls
    assert result.mask_before.all() and result.predicted_iou_before == 0.5 and result.mask_before.all()
    assert len(calls) == 1
