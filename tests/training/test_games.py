"""Training games on a real photograph with the real segmenter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from point_prompt_defender.agents.q_network import QNetwork
from point_prompt_defender.agents.replay import Experience
from point_prompt_defender.game.corruptions import contradicts
from point_prompt_defender.game.rewards import dice
from point_prompt_defender.scene import Scene
from point_prompt_defender.training.config import GameConfig
from point_prompt_defender.training.games import Played, attack_game, corrupt, defence_game, sample_ideal

SMALL = {
    "usual_points": 2, "usual_share": 1.0, "most_points": 3, "candidates": 8, "attack_moves": 2, "attack_branches": 3,
    "defence_moves": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def scene(segmenter, embedding, photo) -> Scene:
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
    return Scene.of(segmenter, embedding, np.hypot(x - 220, y - 130) < 90)


@pytest.fixture
def network() -> QNetwork:
    torch.manual_seed(0)
    return QNetwork(width=8, heads=1, layers=1).eval()


def config(**changes: object) -> GameConfig:
    return GameConfig(**{**SMALL, **changes})


def positives_and_negatives(one: Experience) -> tuple[int, int]:
    active = one.active
    return int((one.sign[active] > 0).sum()), int((one.sign[active] < 0).sum())


def check_chain(played: Played, sign: float) -> None:
    """Each state's rewards belong to the moves that the next state shows to have been made."""
    assert len(played.dice) in (len(played.experiences), len(played.experiences) + 1)
    for i, one in enumerate(played.experiences):
        assert not one.reward[~one.probed].any()
        if i + 1 < len(played.experiences):
            (made,) = np.flatnonzero(one.active != played.experiences[i + 1].active)
            assert one.probed[made]
            assert one.reward[made] == pytest.approx(sign * (played.dice[i + 1] - played.dice[i]), abs=1e-6)
            assert np.array_equal(one.next_logits[made], played.experiences[i + 1].logits)
            assert np.array_equal(one.next_scalars[made], played.experiences[i + 1].scalars)
            assert played.experiences[i + 1].moves_left == one.moves_left - 1


def test_a_defence_game_tries_every_removal(scene: Scene) -> None:
    chance = np.random.default_rng(1)
    played = defence_game(scene, config(corruptions={"flip": 1.0}), None, None, 1.0, chance)
    check_chain(played, +1.0)
    first = played.experiences[0]
    assert first.active.all() and first.moves_left == 3  # what it sees is not cut short, but the game is
    assert len(played.experiences) <= 2
    positives = int((first.sign > 0).sum())
    legal = np.ones(4, bool) if positives > 1 else first.sign < 0
    assert np.array_equal(first.probed, legal)
    assert first.wrong.any()
    assert played.decodes <= 1 + 4 + 3


def test_rewards_are_the_change_of_dice_of_the_segmenters_masks(scene: Scene) -> None:
    """Recomputed with the segmenter alone."""
    rng = np.random.default_rng(2)
    settings = config(corruptions={"flip": 1.0}, defence_moves=1)
    played = defence_game(scene, settings, None, None, 1.0, rng)
    coarse, _ = corrupt(scene, settings, None, np.random.default_rng(2))  # the same chance, the same points
    one = played.experiences[0]
    assert np.array_equal(one.sign > 0, coarse.prompts.labels == 1)
    assert np.array_equal(one.wrong, contradicts(coarse.prompts, scene.mask))

    def dice_of(kept: np.ndarray) -> float:
        out = scene.segmenter.predict(
            scene.embedding, coarse.prompts.coords[None, kept], coarse.prompts.labels[None, kept]
        )
        return float(dice(out.low_res_logits.numpy() > 0, scene.truth)[0])

    everything = np.arange(len(one.sign))
    before = dice_of(everything)
    assert played.dice[0] == pytest.approx(before, abs=1e-6)
    for node in np.flatnonzero(one.probed):
        assert one.reward[node] == pytest.approx(dice_of(np.delete(everything, node)) - before, abs=2e-3)


def test_an_attack_game_tries_some_candidates_and_gains_by_loss(scene: Scene, network: QNetwork) -> None:
    played = attack_game(scene, config(), network, 0.0, np.random.default_rng(3))
    check_chain(played, -1.0)
    assert len(played.experiences) == 2 and len(played.dice) == 3
    for moves_made, one in enumerate(played.experiences):
        assert len(one.sign) == 4 + 8 and one.active.sum() == 4 + moves_made
        assert one.probed.sum() == 3 and not (one.probed & one.active).any()
    assert positives_and_negatives(played.experiences[0]) == (2, 2)
    assert not played.experiences[0].wrong[:4].any() and played.experiences[0].wrong[4:].sum() == 4


def test_the_same_chance_gives_the_same_game(scene: Scene, network: QNetwork) -> None:
    settings = config(corruptions={"attacked": 1.0}, defence_moves=1)
    a, b = (defence_game(scene, settings, network, network, 0.5, np.random.default_rng(4)) for _ in range(2))
    assert a.dice == b.dice and a.decodes == b.decodes
    for one, other in zip(a.experiences, b.experiences, strict=True):
        assert np.array_equal(one.reward, other.reward) and np.array_equal(one.next_logits, other.next_logits)


@pytest.mark.parametrize("kind", ["clean", "flip", "misplaced", "jitter", "added", "attacked"])
def test_corruptions_are_what_they_are_called(scene: Scene, kind: str) -> None:
    for seed in range(5):
        coarse, decodes = corrupt(scene, config(corruptions={kind: 1.0}), None, np.random.default_rng(seed))
        count, wrong = len(coarse.prompts), coarse.wrong
        assert decodes == 0
        assert np.array_equal(wrong, contradicts(coarse.prompts, scene.mask))
        assert (coarse.prompts.labels == 1).any()
        if kind == "clean":
            assert count == 4 and not wrong.any()
        elif kind in ("flip", "misplaced"):
            assert count == 4 and wrong.sum() == 1
        elif kind in ("added", "attacked"):  # without an attacker, wrong candidates at random
            assert wrong.sum() == count - 4 in (1, 2)


def test_an_attacker_that_is_there_attacks(scene: Scene, network: QNetwork) -> None:
    coarse, decodes = corrupt(scene, config(corruptions={"attacked": 1.0}), network, np.random.default_rng(0))
    assert decodes >= len(coarse.prompts) - 4 >= 1


def test_numbers_of_ideal_points(scene: Scene) -> None:
    usual = sample_ideal(scene.mask, config(), np.random.default_rng(0))
    assert np.bincount(usual.labels).tolist() == [2, 2]
    counts = set()
    for seed in range(30):
        other = sample_ideal(scene.mask, config(usual_share=0, fewest_points=1), np.random.default_rng(seed))
        assert not contradicts(other, scene.mask).any()
        counts.add(tuple(np.bincount(other.labels).tolist()))
    assert counts == {(n, p) for n in (1, 2, 3) for p in (1, 2, 3)}
