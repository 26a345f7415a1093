"""Geometry: where points, cells and masks of the original image lie in the model's square input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from point_prompt_defender.errors import ImageError
from point_prompt_defender.segmenters.base import Frame, Prediction, best_of, wants_multimask

# Up to 1500: below 2048 no side scales to exactly half an input pixel, where ways of rounding part.
sizes = st.tuples(st.integers(1, 1500), st.integers(1, 1500))
frames = st.builds(lambda make, size, side: make(size, side), st.sampled_from([Frame.padded, Frame.stretched]), sizes,
                   st.sampled_from([64, 1008, 1024]))  # fmt: skip
unit = st.floats(0, 1)


def points_on(frame: Frame, u: float, v: float) -> np.ndarray:
    """A point of the image's surface, which reaches half a pixel beyond the outer pixel centres."""
    height, width = frame.image_size
    return np.array([[u * width - 0.5, v * height - 0.5]])


@given(sizes)
def test_the_padded_frame_is_sams(size):
    frame = Frame.padded(size, 1024)
    scale = 1024 / max(size)
    assert frame.scale_x == frame.scale_y == scale
    # segment-anything rounds so; a side that would vanish stays one pixel.
    assert frame.content_size == tuple(max(1, int(side * scale + 0.5)) for side in size)
    assert max(frame.content_size) == 1024


@given(sizes)
def test_the_stretched_frame_fills_the_square(size):
    frame = Frame.stretched(size, 1024)
    assert frame.content_size == (1024, 1024)
    corner = frame.to_input(np.array([[size[1], size[0]]]))
    np.testing.assert_allclose(corner, [[1024, 1024]])


def test_to_input_scales_x_and_y_apart():
    wide = Frame.stretched((100, 200), 1000)
    np.testing.assert_allclose(wide.to_input(np.array([[[20, 30]]])), [[[100, 300]]])
    np.testing.assert_allclose(Frame.padded((100, 200), 1000).to_input(np.array([[20, 30]])), [[100, 150]])


@given(frames, unit, unit, st.sampled_from([8, 64, 72]))
def test_every_point_of_the_image_lies_in_a_cell_of_the_image(frame, u, v, side):
    rows, columns = frame.cells(side)
    assert 1 <= rows <= side and 1 <= columns <= side
    (row, column), = frame.cell_of(points_on(frame, u, v), side)  # fmt: skip
    assert 0 <= row < rows and 0 <= column < columns


@given(frames, unit, unit, st.sampled_from([8, 64]))
def test_the_cell_is_the_one_that_holds_the_point(frame, u, v, side):
    point = points_on(frame, u, v)
    (row, column), = frame.cell_of(point, side)  # fmt: skip
    x, y = ((point + 0.5) * [frame.scale_x, frame.scale_y] * side / frame.input_size)[0]
    rows, columns = frame.cells(side)
    assert row <= y <= row + 1 or row == rows - 1  # the last cell also takes what rounding pushed over the edge
    assert column <= x <= column + 1 or column == columns - 1


def test_cell_of_knows_rows_from_columns():
    frame = Frame.padded((256, 512), 1024)  # 2 input pixels a pixel, 16 a cell: 8 original pixels a cell
    cells = frame.cell_of(np.array([[0, 0], [7, 0], [8, 0], [0, 8], [511, 255], [100, 20]]), 64)
    assert cells.tolist() == [[0, 0], [0, 0], [0, 1], [1, 0], [31, 63], [2, 12]]


@settings(max_examples=50)
@given(frames, st.sampled_from([16, 64, 256]))
def test_a_full_mask_covers_the_cells_whose_centre_is_on_the_image(frame, side):
    assume(side <= frame.input_size)  # a grid finer than the input sees sides rounded to whole input pixels
    grid = frame.mask_to_grid(np.ones(frame.image_size, bool), side)
    rows, columns = frame.cells(side)
    assert grid.shape == (side, side)
    assert not grid[rows:].any() and not grid[:, columns:].any(), "the padding is no part of the mask"
    assert grid[: rows - 1, : columns - 1].all(), "cells inside are covered; the last may reach over the edge"


def test_mask_to_grid_puts_an_object_where_it_is():
    frame = Frame.stretched((100, 200), 1000)
    mask = np.zeros((100, 200), bool)
    mask[10:20, 100:150] = True  # a tenth of the height, a quarter of the width
    grid = frame.mask_to_grid(mask, 20)
    expected = np.zeros((20, 20), bool)
    expected[2:4, 10:15] = True
    assert np.array_equal(grid, expected)
    with pytest.raises(ImageError, match="must agree"):
        frame.mask_to_grid(mask.T, 20)


@settings(max_examples=15, deadline=None)
@given(st.tuples(st.integers(1, 300), st.integers(1, 300)), st.integers(0, 2**16))
def test_upsampling_is_sams_formula(size, seed):
    """Sam.postprocess_masks: to the input size, cut, to the original size, bilinear each."""
    logits = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(seed))
    scale = 128 / max(size)
    height, width = (max(1, int(side * scale + 0.5)) for side in size)
    full = F.interpolate(logits[:, None], (128, 128), mode="bilinear", align_corners=False)
    expected = F.interpolate(full[..., :height, :width], size, mode="bilinear", align_corners=False)[:, 0]
    frame = Frame.padded(size, 128)
    torch.testing.assert_close(frame.upsample(logits), expected, rtol=0, atol=1e-6)
    out = Prediction(logits, torch.zeros(2), frame)
    assert np.array_equal(out.masks, (expected > 0).numpy())


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([Frame.padded, Frame.stretched]), st.integers(16, 200), st.integers(16, 200))
def test_a_mask_survives_the_way_to_the_grid_and_back(make, height, width):
    frame = make((height, width), 256)
    yy, xx = np.mgrid[:height, :width]
    mask = ((xx - 0.6 * width) / (0.3 * width)) ** 2 + ((yy - 0.4 * height) / (0.2 * height)) ** 2 < 1
    logits = torch.from_numpy(frame.mask_to_grid(mask, 256) * 2.0 - 1.0)[None]
    back = (frame.upsample(logits)[0] > 0).numpy()
    assert 2 * (mask & back).sum() / (mask.sum() + back.sum()) > 0.9


def test_best_of_takes_each_sets_own_best():
    logits = torch.arange(6.0).view(2, 3, 1, 1)
    best, iou = best_of(logits, torch.tensor([[0.1, 0.9, 0.2], [0.7, 0.1, 0.2]]))
    assert best.flatten().tolist() == [1.0, 3.0]
    torch.testing.assert_close(iou, torch.tensor([0.9, 0.7]))


def test_auto_asks_for_three_masks_for_one_positive_point_alone():
    one, negative, two = np.ones((3, 1), int), np.zeros((1, 1), int), np.ones((1, 2), int)
    assert wants_multimask("auto", one)
    assert not wants_multimask("auto", negative)
    assert not wants_multimask("auto", two)
    assert wants_multimask(True, two) and not wants_multimask(False, one)
