"""Dice and rewards against independent formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import distance

from point_prompt_defender.game.rewards import dice, reward
from point_prompt_defender.game.rules import Role

unit = st.floats(0, 1)


@given(st.integers(0, 2**31), st.integers(1, 5))
@settings(max_examples=50)
def test_dice_is_scipy_s(seed, batch):
    rng = np.random.default_rng(seed)
    masks, truth = rng.random((batch, 7, 9)) < rng.random(), rng.random((7, 9)) < 0.4
    truth[0, 0] = True  # scipy gives no number for two empty masks
    expected = [1 - distance.dice(mask.ravel(), truth.ravel()) for mask in masks]
    np.testing.assert_allclose(dice(masks, truth), expected, atol=1e-12)


def test_dice_of_empty_masks():
    empty, full = np.zeros((3, 3), bool), np.ones((3, 3), bool)
    np.testing.assert_array_equal(dice(np.stack([empty, full]), empty), [1, 0])
    np.testing.assert_array_equal(dice(np.stack([empty, full]), full), [0, 1])


@given(unit, unit, st.floats(0, 0.5))
def test_a_defender_gets_the_gain_less_the_cost_and_an_attacker_the_loss(before, after, cost):
    assert reward(before, after, Role.DEFENDER, cost) == pytest.approx(after - before - cost)
    assert reward(before, after, Role.ATTACKER, cost) == pytest.approx(before - after)
    assert reward(before, after, Role.ATTACKER) == -reward(before, after, Role.DEFENDER)


@given(st.lists(unit, min_size=2, max_size=9), st.sampled_from(Role))
def test_rewards_on_the_way_add_up_to_the_whole_change(trail, role):
    total = sum(reward(a, b, role) for a, b in zip(trail, trail[1:], strict=False))
    assert total == pytest.approx(reward(trail[0], trail[-1], role), abs=1e-12)
