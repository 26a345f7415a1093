"""Ideal prompts lie where their labels say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from point_prompt_defender.errors import ImageError
from point_prompt_defender.proposers.ideal import ideal_prompts, off_boundary, spaced_points


def disc(height: int = 60, width: int = 90, radius: float = 20) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.hypot(x - 40, y - 30) < radius


def blob(seed: int) -> np.ndarray:
    """An object of any shape, holes and several parts included; neither empty nor everything."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(50, 70)), rng.uniform(0.5, 6))
    return noise > np.quantile(noise, rng.uniform(0.05, 0.98))


def under(mask: np.ndarray, coords: np.ndarray) -> np.ndarray:
    assert (coords == np.round(coords)).all()
    return mask[coords[:, 1].astype(int), coords[:, 0].astype(int)]


@given(st.integers(0, 2**31), st.integers(1, 20), st.integers(0, 20), st.booleans())
@settings(max_examples=100, deadline=None)
def test_positives_inside_negatives_outside_in_the_numbers_asked_for(seed, positives, negatives, spaced):
    mask = blob(seed)
    prompts = ideal_prompts(mask, positives, negatives, np.random.default_rng(seed), spaced=spaced)
    np.testing.assert_array_equal(prompts.labels, [1] * positives + [0] * negatives)
    np.testing.assert_array_equal(under(mask, prompts.coords), prompts.labels == 1)
    for label, region in ((1, mask), (0, ~mask)):
        chosen = prompts.coords[prompts.labels == label]
        if region.sum() >= len(chosen):
            assert len(np.unique(chosen, axis=0)) == len(chosen), "the same point twice"


@given(st.integers(0, 2**31), st.booleans())
@settings(max_examples=20, deadline=None)
def test_thick_regions_keep_points_off_the_boundary(seed, spaced):
    mask = disc()
    prompts = ideal_prompts(mask, 8, 8, np.random.default_rng(seed), spaced=spaced)
    inside, outside = (ndimage.distance_transform_cdt(region, "taxicab") for region in (mask, ~mask))
    x, y = prompts.coords.astype(int).T
    assert (np.maximum(inside, outside)[y, x] > 2).all()


@pytest.mark.parametrize("spaced", [True, False])
def test_same_seed_same_points(spaced):
    a, b, c = (ideal_prompts(disc(), 8, 8, np.random.default_rng(s), spaced=spaced).coords for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_spaced_points_lie_on_a_square_grid_over_all_of_the_region():
    points = spaced_points(np.ones((100, 100), bool), 16, np.random.default_rng(0))
    for axis in (0, 1):
        steps = np.diff(np.unique(points[:, axis]))
        assert steps.min() >= 15 and steps.max() - steps.min() <= 1
        assert np.ptp(points[:, axis]) > 60
    spread = [np.linalg.norm(points - p, axis=1)[np.linalg.norm(points - p, axis=1) > 0].min() for p in points]
    assert min(spread) >= 15


@pytest.mark.parametrize("spaced", [True, False])
def test_thin_objects_get_their_points(spaced):
    line = np.zeros((40, 40), bool)
    line[20, 5:35] = True
    prompts = ideal_prompts(line, 8, 4, np.random.default_rng(0), spaced=spaced)
    assert under(line, prompts.coords[:8]).all()
    assert len(np.unique(prompts.coords[:8], axis=0)) == 8


def test_an_object_of_one_pixel_gets_the_same_point_again():
    dot = np.zeros((20, 20), bool)
    dot[7, 12] = True
    prompts = ideal_prompts(dot, 3, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(prompts.coords[:3], [[12, 7]] * 3)


def test_an_object_with_a_small_core_is_not_reduced_to_it():
    mask = np.zeros((40, 40), bool)
    mask[10:15, 10:15] = True  # two pixels off its boundary only one pixel is left
    assert ndimage.binary_erosion(mask, iterations=2).sum() == 1
    coords = ideal_prompts(mask, 8, 8, np.random.default_rng(0)).coords[:8]
    assert len(np.unique(coords, axis=0)) == 8


def test_the_image_s_edge_is_no_boundary():
    mask = np.zeros((20, 20), bool)
    mask[:, :10] = True
    inner = off_boundary(mask, 1)
    np.testing.assert_array_equal(inner, np.arange(20)[None].repeat(20, 0) < 8)


def test_empty_and_full_masks_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ImageError, match="empty"):
        ideal_prompts(np.zeros((9, 9), bool), 1, 0, rng)
    with pytest.raises(ImageError, match="no place"):
        ideal_prompts(np.ones((9, 9), bool), 1, 1, rng)
    assert len(ideal_prompts(np.ones((9, 9), bool), 2, 0, rng)) == 2
