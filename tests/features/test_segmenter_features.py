"""The embedding as patch features: the padding is cut, and each patch lies where the segmenter saw it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from point_prompt_defender.features.segmenter_features import SegmenterFeatures
from point_prompt_defender.segmenters.base import Embedding, Frame

SIDE = 16


def located_embedding(frame: Frame, side: int = SIDE) -> Embedding:
    """Features that say where they are: (row, column) of the square grid."""
    return Embedding(frame, torch.tensor(np.mgrid[:side, :side], dtype=torch.float32))


@given(st.integers(1, 500), st.integers(1, 500), st.booleans(), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=100)
def test_a_pixel_finds_the_cell_that_its_input_pixel_lies_in(height, width, padded, u, v):
    frame = (Frame.padded if padded else Frame.stretched)((height, width), 256)
    features = SegmenterFeatures().extract(located_embedding(frame))
    coords = np.array([[u * (width - 1), v * (height - 1)]])
    x, y = (coords[0] + 0.5) * [frame.scale_x, frame.scale_y] * SIDE / 256
    row, column = features.at(coords)[0].numpy()
    # Exactly where it lies, but for rounding on a border; a content of less than a pixel rounds up to one.
    assert abs(row + 0.5 - y) <= 0.5 + 1e-3 and abs(column + 0.5 - x) <= 0.5 + 1e-3


@pytest.mark.parametrize(
    ("size", "shape"), [((100, 100), (16, 16)), ((50, 100), (8, 16)), ((100, 30), (16, 5)), ((1, 100), (1, 16))]
)
def test_padding_is_cut(size, shape):
    assert SegmenterFeatures().extract(located_embedding(Frame.padded(size, 256))).shape == shape


def test_a_stretched_image_has_no_padding():
    assert SegmenterFeatures().extract(located_embedding(Frame.stretched((50, 100), 256))).shape == (SIDE, SIDE)


def test_the_real_embedding(embedding, photo):
    features = SegmenterFeatures().extract(embedding)
    assert features.image_size == photo.shape[:2]
    assert features.shape == (43, 64)  # 300 of 451 pixels high: 42.6 of 64 cells
    np.testing.assert_array_equal(features.grid[10, 20], embedding.features[:, 10, 20])
