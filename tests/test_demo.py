"""The demo: its outlines, and the play on the real segmenter with an attack that needs no trained agent."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from point_prompt_defender.agents.files import save_network
from point_prompt_defender.agents.q_network import QNetwork
from point_prompt_defender.defender import PointPromptDefender
from point_prompt_defender.demo import as_dict, fill, load_scenes, picture, play, trained_attack
from point_prompt_defender.errors import ConfigError
from point_prompt_defender.game.corruptions import contradicts, join
from point_prompt_defender.game.rewards import dice
from point_prompt_defender.prompts import PointPrompts
from point_prompt_defender.proposers.ideal import ideal_prompts, random_points
from point_prompt_defender.segmenters.cache import MemoryCache


def add_wrong(embedding, mask, ideal, rng):
    """The plainest attack: two points off the object called positive, two on it called negative."""
    coords = np.concatenate([random_points(~mask, 2, rng), random_points(mask, 2, rng)])
    return join(ideal, PointPrompts(coords, np.array([1, 1, 0, 0])))


class Counting:
    """The real segmenter, counting how often it is asked to embed; it does the slow work once an image."""

    def __init__(self, segmenter):
        self.name, self.capabilities, self.predict = segmenter.name, segmenter.capabilities, segmenter.predict
        self.cache, self.embeds = MemoryCache(segmenter), 0

    def embed(self, image):
        self.embeds += 1
        return self.cache.embed(image)


@pytest.fixture(scope="module")
def network() -> QNetwork:
    torch.manual_seed(0)
    return QNetwork(width=16, heads=2, layers=1).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def scenes():
    return load_scenes()


@pytest.fixture(scope="module")
def counting(segmenter):
    return Counting(segmenter)


@pytest.fixture(scope="module")
def cases(scenes, network, counting):
    defender = PointPromptDefender(network, counting, budget="fast")
    return list(play(scenes[1:3], defender, add_wrong, seed=3))


def test_at_least_four_photographs_with_usable_objects(scenes):
    assert len({scene.photo for scene in scenes}) >= 4
    for scene in scenes:
        assert scene.image.shape == (*scene.mask.shape, 3) and scene.image.dtype == np.uint8
        assert 0.003 < scene.mask.mean() < 0.6


def test_outlines_of_one_photograph_are_neighbours_so_that_it_is_encoded_once(scenes):
    photos = [scene.photo for scene in scenes]
    changes = sum(a != b for a, b in zip(photos, photos[1:], strict=False))
    assert changes == len(set(photos)) - 1


def test_an_outline_and_the_segmenter_see_the_same_object(scenes, segmenter, embedding):
    scene = next(s for s in scenes if s.photo == "chelsea")
    prompts = ideal_prompts(scene.mask, 8, 8, np.random.default_rng(0))
    masks = segmenter.predict(embedding, prompts.coords[None], prompts.labels[None]).masks
    assert dice(masks, scene.mask)[0] > 0.85


def test_polygons_are_xy_and_a_polygon_within_another_is_a_hole():
    outer, inner = [[1, 0], [6, 0], [6, 3], [1, 3]], [[3, 1], [4, 1], [4, 2], [3, 2]]
    mask = fill([[[x - 0.5, y - 0.5] for x, y in p] for p in (outer, inner)], (5, 8))
    expected = np.zeros((5, 8), bool)
    expected[0:3, 1:6] = True
    expected[1, 3] = False
    np.testing.assert_array_equal(mask, expected)


def test_one_embedding_a_photograph(cases, scenes, network, counting):
    assert scenes[1].photo == scenes[2].photo
    before = counting.embeds
    list(play(scenes[1:3], PointPromptDefender(network, counting, budget="fast"), add_wrong))
    assert counting.embeds == before + 1


def test_the_dice_are_those_of_the_masks(cases):
    for case in cases:
        masks = np.stack([case.mask_ideal, case.result.mask_before, case.result.mask])
        np.testing.assert_allclose(
            dice(masks, case.scene.mask), [case.dice_ideal, case.dice_attacked, case.dice_defended]
        )
        assert len(case.attacked) == 20 and contradicts(case.attacked, case.scene.mask).sum() == 4


def test_equal_seeds_give_equal_cases(cases, scenes, network, counting):
    defender = PointPromptDefender(network, counting, budget="fast")
    again = next(play(scenes[1:2], defender, add_wrong, seed=3))
    np.testing.assert_array_equal(again.attacked.coords, cases[0].attacked.coords)
    assert again.result.removal_order == cases[0].result.removal_order


def test_the_figures_keep_the_contract(cases):
    figures = json.loads(json.dumps(as_dict(cases, 1.5), allow_nan=False))
    assert figures["seconds"] == 1.5
    for case, row in zip(cases, figures["cases"], strict=True):
        assert {"image", "dice_ideal", "dice_attacked", "dice_defended", "points", "removed"} <= set(row)
        assert [i for i, point in enumerate(row["points"]) if not point["kept"]] == sorted(row["removed"])
        assert [[p["x"], p["y"]] for p in row["points"]] == case.attacked.coords.tolist()
    means = figures["means"]
    assert means["dice_ideal"] == pytest.approx(np.mean([c.dice_ideal for c in cases]))
    back = (means["dice_defended"] - means["dice_attacked"]) / (means["dice_ideal"] - means["dice_attacked"])
    assert figures["won_back"] == pytest.approx(back)


def test_the_picture_has_a_row_a_case_and_three_columns(cases):
    one, two = picture(cases[:1]), picture(cases)
    assert one.width == two.width > 3 * 400 and two.height - one.height > 480


def test_a_trained_attacker_adds_points_and_keeps_the_ideal_ones(tmp_path, network, counting, scenes):
    save_network(network, tmp_path / "attacker.safetensors")
    scene, rng = scenes[2], np.random.default_rng(0)
    ideal = PointPrompts(random_points(scene.mask, 3, rng), np.ones(3, np.int64))
    attacked = trained_attack(counting, tmp_path, moves=2)(counting.embed(scene.image), scene.mask, ideal, rng)
    assert len(attacked) == 5
    np.testing.assert_array_equal(attacked.coords[:3], ideal.coords)


def test_an_unknown_attacker(segmenter):
    with pytest.raises(ConfigError):
        trained_attack(segmenter, "no-such-agent")


def test_without_scikit_image_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(ConfigError, match=r"pip install 'point-prompt-defender\[demo\]'"):
        load_scenes()
