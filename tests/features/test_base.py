"""Which patch a pixel lies in, and what is read there."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from point_prompt_defender.features.base import PatchFeatures


def features(rows: int = 4, columns: int = 6, size: tuple[int, int] = (40, 90)) -> PatchFeatures:
    """Patches that say where they are: (row + 1, column + 1)."""
    r, c = np.mgrid[1 : rows + 1, 1 : columns + 1]
    grid = torch.tensor(np.stack([r, c], -1), dtype=torch.float32)
    return PatchFeatures(grid, size, (columns / size[1], rows / size[0]))


@given(st.floats(0, 89), st.floats(0, 39))
@settings(max_examples=100)
def test_a_point_lies_in_the_patch_that_covers_it(x, y):
    row, column = features().cell_of(np.array([[x, y]]))[0]
    assert 15 * column <= x + 0.5 <= 15 * (column + 1) and 10 * row <= y + 0.5 <= 10 * (row + 1)
    np.testing.assert_array_equal(features().at(np.array([[x, y]]))[0], [row + 1, column + 1])


def test_points_on_the_outer_edge_stay_inside():
    corners = np.array([[-0.5, -0.5], [89.5, 39.5], [89.5, -0.5], [-0.5, 39.5]])
    np.testing.assert_array_equal(features().cell_of(corners), [[0, 0], [3, 5], [0, 5], [3, 0]])


def test_unit_patches_have_length_one():
    np.testing.assert_allclose(features().unit.norm(dim=-1), 1, atol=1e-6)


@given(st.integers(0, 3), st.integers(0, 5), st.integers(0, 10_000))
@settings(max_examples=60)
def test_radius_one_is_the_mean_of_the_unit_patches_around(row, column, seed):
    grid = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(seed))
    patches = PatchFeatures(grid, (40, 90), (6 / 90, 4 / 40))
    around = [
        (grid[r, c] / grid[r, c].norm()).numpy()
        for r in range(row - 1, row + 2)
        for c in range(column - 1, column + 2)
        if 0 <= r < 4 and 0 <= c < 6
    ]
    expected = np.mean(around, 0)
    got = patches.at(np.array([[15 * column + 7.0, 10 * row + 5.0]]), radius=1)[0]
    np.testing.assert_allclose(got, expected / np.linalg.norm(expected), atol=1e-5)
