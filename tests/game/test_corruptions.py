"""Each corruption does what it says, no less and no more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from point_prompt_defender.game.corruptions import (
    candidate_pool,
    clean,
    contradicts,
    flip_labels,
    jitter,
    join,
    misplace,
)
from point_prompt_defender.prompts import PointPrompts
from point_prompt_defender.proposers.ideal import ideal_prompts

seeds = st.integers(0, 2**31)


def scene(seed: int, positives: int = 8, negatives: int = 8) -> tuple[np.ndarray, PointPrompts, np.random.Generator]:
    """An ellipse somewhere on an image, and its ideal prompts."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:60, :80]
    (cx, cy), (a, b) = rng.uniform([20, 15], [60, 45]), rng.uniform(6, 14, 2)
    mask = ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1
    return mask, ideal_prompts(mask, positives, negatives, rng), rng


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_clean_is_clean(seed):
    mask, ideal, _ = scene(seed)
    coarse = clean(ideal, mask)
    assert not coarse.wrong.any() and coarse.prompts is ideal


@given(seeds, st.integers(0, 20), st.integers(1, 8), st.integers(0, 8))
@settings(max_examples=60, deadline=None)
def test_flips_turn_exactly_so_many_labels_and_move_nothing(seed, count, positives, negatives):
    mask, ideal, rng = scene(seed, positives, negatives)
    coarse = flip_labels(ideal, mask, count, rng)
    turned = coarse.prompts.labels != ideal.labels
    assert turned.sum() == min(count, len(ideal) - 1)
    np.testing.assert_array_equal(coarse.wrong, turned)
    np.testing.assert_array_equal(coarse.prompts.coords, ideal.coords)
    assert ((coarse.prompts.labels == 1) & ~coarse.wrong).any()


@given(seeds, st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_misplaced_points_contradict_the_mask_and_lie_near_its_boundary(seed, count):
    mask, ideal, rng = scene(seed)
    coarse = misplace(ideal, mask, count, rng)
    moved = (coarse.prompts.coords != ideal.coords).any(1)
    assert moved.sum() == min(count, len(ideal) - 1)
    np.testing.assert_array_equal(coarse.wrong, moved)
    np.testing.assert_array_equal(contradicts(coarse.prompts, mask), moved)
    np.testing.assert_array_equal(coarse.prompts.labels, ideal.labels)
    assert ((coarse.prompts.labels == 1) & ~coarse.wrong).any()
    # In steps from pixel to pixel to the other side: at most a tenth of the object's size, or three.
    pixels = {True: np.argwhere(mask)[:, ::-1], False: np.argwhere(~mask)[:, ::-1]}
    for (x, y), label in zip(coarse.prompts.coords[moved], coarse.prompts.labels[moved], strict=True):
        other_side = pixels[bool(label)]  # a positive lies outside: how far is the object?
        assert np.abs(other_side - [x, y]).sum(1).min() <= max(3, round(0.1 * np.sqrt(mask.sum())))


@given(seeds, st.floats(0, 3))
@settings(max_examples=60, deadline=None)
def test_jitter_keeps_labels_and_stays_inside(seed, share):
    mask, ideal, rng = scene(seed)
    coarse = jitter(ideal, mask, share, rng)
    np.testing.assert_array_equal(coarse.prompts.labels, ideal.labels)
    assert (coarse.prompts.coords >= 0).all() and (coarse.prompts.coords <= [79, 59]).all()
    np.testing.assert_array_equal(coarse.wrong, contradicts(coarse.prompts, mask))
    if share == 0:
        np.testing.assert_array_equal(coarse.prompts.coords, ideal.coords)


def test_jitter_is_of_the_size_it_says():
    mask = np.zeros((1000, 1000), bool)
    mask[450:550, 450:550] = True  # size 100
    middle = PointPrompts(np.full((4000, 2), 500.0), np.ones(4000, np.int64))
    moved = jitter(middle, mask, 0.2, np.random.default_rng(0)).prompts.coords - 500
    assert moved.std() == pytest.approx(20, rel=0.05)
    assert abs(moved.mean()) < 1


@given(seeds, st.sampled_from([4, 8, 32]))
@settings(max_examples=40, deadline=None)
def test_half_of_the_candidates_are_wrong_on_either_side(seed, count):
    mask, _, rng = scene(seed)
    pool = candidate_pool(mask, count, rng)
    x, y = pool.coords.astype(int).T
    on, wrong = mask[y, x], contradicts(pool, mask)
    assert len(pool) == count and on.sum() == count // 2
    assert wrong[on].sum() == wrong[~on].sum() == count // 4


def test_contradicts_reads_the_pixel_under_the_point():
    mask = np.zeros((3, 5), bool)
    mask[1, 3] = True
    points = [(3, 1), (3, 1), (1, 2), (1, 2), (3.4, 0.6), (4.49, 2.49), (-0.5, -0.5)]
    labels = np.array([1, 0, 1, 0, 1, 0, 0])
    wrong = contradicts(PointPrompts(np.array(points, float), labels), mask)
    np.testing.assert_array_equal(wrong, [False, True, True, False, False, False, False])


def test_join_keeps_the_order():
    a, b = (PointPrompts(np.full((n, 2), float(n)), np.ones(n, np.int64) * (n % 2)) for n in (2, 3))
    both = join(a, b)
    np.testing.assert_array_equal(both.coords[:, 0], [2, 2, 3, 3, 3])
    np.testing.assert_array_equal(both.labels, [0, 0, 1, 1, 1])


@pytest.mark.parametrize("kind", [flip_labels, misplace, jitter])
def test_same_seed_same_corruption(kind):
    mask, ideal, _ = scene(0)
    amount = 0.3 if kind is jitter else 4
    a, b, c = (kind(ideal, mask, amount, np.random.default_rng(s)).prompts for s in (1, 1, 2))
    np.testing.assert_array_equal(np.c_[a.coords, a.labels], np.c_[b.coords, b.labels])
    assert (np.c_[a.coords, a.labels] != np.c_[c.coords, c.labels]).any()
    again = candidate_pool(mask, 8, np.random.default_rng(5)).coords
    np.testing.assert_array_equal(again, candidate_pool(mask, 8, np.random.default_rng(5)).coords)
