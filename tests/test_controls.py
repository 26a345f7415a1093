"""The controls do what they say, on a real scene with the real segmenter."""

from __future__ import annotations

import numpy as np
import pytest

from point_prompt_defender.controls import CONTROLS, ORACLES, Case, knn, noise_oracle, oracle, random_removal
from point_prompt_defender.game.corruptions import clean, flip_labels
from point_prompt_defender.game.rewards import dice
from point_prompt_defender.prompts import PointPrompts
from point_prompt_defender.proposers.ideal import ideal_prompts
from point_prompt_defender.scene import Scene


@pytest.fixture(scope="module")
def scene(segmenter, embedding):
    """The cat's face, roughly: a circle is all that these tests need."""
    y, x = np.mgrid[: embedding.image_size[0], : embedding.image_size[1]]
    return Scene.of(segmenter, embedding, (x - 235) ** 2 / 130**2 + (y - 150) ** 2 / 110**2 < 1)


def case_of(scene, points=4, flips=2, seed=0):
    rng = np.random.default_rng(seed)
    ideal = ideal_prompts(scene.mask, points, points, rng)
    coarse = flip_labels(ideal, scene.mask, flips, rng) if flips else clean(ideal, scene.mask)
    decoder = scene.decoder(coarse.prompts)
    return Case(coarse.prompts, scene.features, scene.patches, decoder, rng, scene.truth, coarse.wrong)


@pytest.mark.parametrize("name", [*CONTROLS, *ORACLES])
def test_each_method_keeps_a_positive_and_repeats_itself(scene, name):
    method = {**CONTROLS, **ORACLES}[name]
    first, second = method(case_of(scene)), method(case_of(scene))
    assert first.dtype == bool and first.shape == (8,)
    assert (first == second).all()
    assert first[case_of(scene).prompts.labels == 1].any()


def test_knn_is_the_recipe_written_out_as_a_loop(scene):
    case = case_of(scene, flips=3, seed=3)
    vectors = case.features.at(case.prompts.coords, radius=1).numpy()
    signs = 2 * case.prompts.labels - 1
    expected = []
    for i in range(8):
        votes = [np.exp(8 * (vectors[i] @ vectors[j] - 1)) * signs[j] for j in range(8) if j != i]
        expected.append(signs[i] * sum(votes) >= 0)
    assert (knn(case) == expected).all()


def test_knn_never_drops_every_positive(scene):
    # One positive among negatives on the same object: everything contradicts it.
    points = ideal_prompts(scene.mask, 6, 0, np.random.default_rng(0))
    prompts = PointPrompts(points.coords, np.array([1, 0, 0, 0, 0, 0]))
    case = Case(prompts, scene.features, scene.patches, scene.decoder(prompts), np.random.default_rng(0))
    assert knn(case)[0]


def test_random_removal_takes_the_number_asked_for_and_stops_at_the_last_positive(scene):
    assert (~random_removal(case_of(scene), 3)).sum() == 3
    assert random_removal(case_of(scene), 100).sum() == 1


def test_the_oracle_gains_at_least_what_any_single_removal_does(scene):
    case = case_of(scene, flips=3, seed=1)
    everything = np.ones(8, bool)

    def score(keep):
        return dice(case.decode(keep[None]).masks, scene.truth)[0]

    singles = []
    for i in range(8):
        keep = everything.copy()
        keep[i] = False
        if keep[case.prompts.labels == 1].any():
            singles.append(score(keep))
    assert score(oracle(case)) >= max([score(everything), *singles])


def test_the_noise_oracle_drops_the_wrong_points_and_no_other(scene):
    case = case_of(scene, flips=2, seed=5)
    assert (noise_oracle(case) == ~case.wrong).all()
    assert noise_oracle(case_of(scene, flips=0)).all()
