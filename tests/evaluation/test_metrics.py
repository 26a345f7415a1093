"""Measures against independent formulas, and at their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.spatial import distance

from point_prompt_defender.evaluation.metrics import bootstrap, boundary, boundary_f, dice, hd95, recovery
from point_prompt_defender.game.rewards import iou

masks = arrays(bool, (9, 12))


@given(masks, masks)
def test_dice_and_iou_agree_with_scipy(a, b):
    if a.any() or b.any():
        assert dice(a, b) == pytest.approx(1 - distance.dice(a.ravel(), b.ravel()))
        assert iou(a, b) == pytest.approx(1 - distance.jaccard(a.ravel(), b.ravel()))
    else:
        assert dice(a, b) == iou(a, b) == 1


@given(masks, masks)
def test_distances_are_symmetric_and_zero_for_equal_masks(a, b):
    assert hd95(a, b) == pytest.approx(hd95(b, a))
    assert boundary_f(a, b) == pytest.approx(boundary_f(b, a))
    assert hd95(a, a) == 0 and boundary_f(a, a) == 1


@given(masks.filter(np.any), masks.filter(np.any))
def test_hd95_agrees_with_brute_force(a, b):
    pa, pb = np.argwhere(boundary(a)), np.argwhere(boundary(b))
    between = distance.cdist(pa, pb)
    expected = max(np.percentile(between.min(1), 95), np.percentile(between.min(0), 95))
    assert hd95(a, b) == pytest.approx(expected)


def test_one_empty_mask_is_as_far_as_the_image_is_wide():
    empty, full = np.zeros((3, 4), bool), np.ones((3, 4), bool)
    assert hd95(empty, full) == 5
    assert boundary_f(empty, full) == 0
    assert hd95(empty, empty) == 0 and boundary_f(empty, empty) == 1


def test_boundary_f_counts_what_lies_within_the_tolerance():
    a = np.zeros((20, 20), bool)
    a[5:15, 5:15] = True
    assert boundary_f(a, np.roll(a, 1, 0), tolerance=1) == 1
    assert boundary_f(a, np.roll(a, 3, 0), tolerance=1) < 1


def test_recovery_takes_means_first():
    before, after, best = np.array([0.0, 0.5]), np.array([0.5, 0.5]), np.array([1.0, 0.5])
    assert recovery(before, after, best) == pytest.approx(0.5)
    assert math.isnan(recovery(best, best, best))


def test_bootstrap_agrees_with_scipy_on_independent_cases():
    values = np.random.default_rng(0).normal(size=80)
    low, high = bootstrap(lambda x: float(x.mean()), [values], np.arange(80), draws=4000)
    other = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1))
    assert low == pytest.approx(other.confidence_interval.low, abs=0.02)
    assert high == pytest.approx(other.confidence_interval.high, abs=0.02)


def test_bootstrap_draws_whole_images():
    # Ten copies of each of eight cases say no more than the eight cases do.
    values = np.random.default_rng(0).normal(size=8)
    mean = lambda x: float(x.mean())  # noqa: E731
    once = bootstrap(mean, [values], np.arange(8))
    copied = bootstrap(mean, [np.repeat(values, 10)], np.repeat(np.arange(8), 10))
    assert copied == pytest.approx(once)
    assert all(map(math.isnan, bootstrap(mean, [values], np.zeros(8))))
