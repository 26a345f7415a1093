"""The defender in use, on a real photograph with the real segmenter: with random weights, and as shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import point_prompt_defender as ppd
from point_prompt_defender.agents.files import ASSETS, save_network
from point_prompt_defender.agents.policy import BUDGETS
from point_prompt_defender.agents.q_network import QNetwork
from point_prompt_defender.errors import ConfigError, ImageError, PromptError
from point_prompt_defender.features.base import PatchFeatures
from point_prompt_defender.features.segmenter_features import SegmenterFeatures

COORDS = np.array([[265, 120], [230, 100], [290, 140], [60, 40], [400, 250], [250, 90], [30, 280]], float)
LABELS = np.array([1, 1, 1, 0, 0, 0, 1])  # the cat's face; the last two are wrong

SHIPPED = (ASSETS / "default" / "defender.safetensors").is_file()


class Counting:
    """The real segmenter, and a count of what was asked of it."""

    def __init__(self, segmenter: Any) -> None:
        self._segmenter, self.embeds, self.sets = segmenter, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._segmenter, name)

    def embed(self, image: np.ndarray) -> Any:
        self.embeds += 1
        return self._segmenter.embed(image)

    def predict(self, embedding: Any, coords: Any, labels: Any, multimask: Any = "auto") -> Any:
        self.sets += len(labels)
        return self._segmenter.predict(embedding, coords, labels, multimask)


def random_network(worth: float = 0.0) -> QNetwork:
    """A network of random weights that holds every removal for about `worth` Dice better than it else would."""
    torch.manual_seed(0)
    network = QNetwork(width=16, heads=2, layers=1).eval()
    with torch.no_grad():
        network.q_head[-1].bias += 10 * worth
    return network


NEVER, ALWAYS = -10.0, 10.0


def defender_of(segmenter: Any, worth: float = 0.0, budget: str = "default", **options: Any) -> ppd.PointPromptDefender:
    return ppd.PointPromptDefender(random_network(worth), segmenter, budget=budget, **options)


@pytest.fixture(params=["random", pytest.param("shipped", marks=pytest.mark.skipif(not SHIPPED, reason="none yet"))])
def make(request: pytest.FixtureRequest, segmenter: Any) -> Any:
    """Makes a defender of a budget."""

    def build(budget: str = "default") -> ppd.PointPromptDefender:
        if request.param == "random":
            return defender_of(segmenter, 0.02, budget)
        return ppd.PointPromptDefender.from_pretrained("default", segmenter=segmenter, budget=budget)

    return build


@pytest.mark.parametrize("budget", sorted(BUDGETS))
def test_the_result_is_as_promised(make: Any, segmenter: Any, embedding: Any, budget: str) -> None:
    r = make(budget).refine(embedding, COORDS, LABELS)
    count, size = len(LABELS), embedding.image_size
    assert isinstance(r, ppd.RefineResult)
    assert r.keep.shape == (count,) and r.keep.dtype == bool
    assert r.q_values.shape == (count,) and r.q_values.dtype.kind == "f"
    assert all(type(node) is int for node in r.removal_order)
    assert sorted(r.removal_order) == np.flatnonzero(~r.keep).tolist()
    assert len(r.reasons) == count and [bool(text) for text in r.reasons] == (~r.keep).tolist()
    assert r.mask.shape == r.mask_before.shape == size and r.mask.dtype == r.mask_before.dtype == bool
    assert isinstance(r.predicted_iou, float) and isinstance(r.predicted_iou_before, float)
    assert all(isinstance(v, float) and v >= 0 for v in r.timings.values())
    assert {"embed", "graph", "decide", "mask", "total", "encodes", "decodes"} <= set(r.timings)
    assert (LABELS[r.keep] == 1).any()
    # the masks are those that the segmenter gives for the points
    kept = segmenter.predict(embedding, COORDS[None, r.keep], LABELS[None, r.keep])
    everything = segmenter.predict(embedding, COORDS[None], LABELS[None])
    assert np.array_equal(r.mask, kept.masks[0]) and r.predicted_iou == pytest.approx(kept.predicted_iou.item())
    assert np.array_equal(r.mask_before, everything.masks[0])
    assert r.predicted_iou_before == pytest.approx(everything.predicted_iou.item())


def test_the_same_input_gives_the_same_output(make: Any, embedding: Any) -> None:
    a, b = (make().refine(embedding, COORDS, LABELS) for _ in range(2))
    assert a.removal_order == b.removal_order and a.reasons == b.reasons
    assert np.array_equal(a.q_values, b.q_values, equal_nan=True) and np.array_equal(a.mask, b.mask)


def test_the_order_of_the_points_means_nothing(make: Any, embedding: Any) -> None:
    order = np.array([4, 0, 6, 2, 5, 1, 3])
    plain, permuted = (make().refine(embedding, COORDS[o], LABELS[o]) for o in (np.arange(7), order))
    assert np.array_equal(permuted.keep, plain.keep[order])
    assert [int(order[node]) for node in permuted.removal_order] == plain.removal_order
    np.testing.assert_allclose(permuted.q_values, plain.q_values[order], atol=1e-3)


def test_points_and_labels_are_not_changed(make: Any, embedding: Any) -> None:
    coords, labels = COORDS.copy(), LABELS.copy()
    make().refine(embedding, coords, labels)
    assert np.array_equal(coords, COORDS) and np.array_equal(labels, LABELS)


def test_lists_do_as_well_as_arrays(make: Any, embedding: Any) -> None:
    from_lists = make().refine(embedding, COORDS.tolist(), LABELS.tolist())
    assert np.array_equal(from_lists.keep, make().refine(embedding, COORDS, LABELS).keep)


def test_one_point_stays(make: Any, embedding: Any) -> None:
    r = make().refine(embedding, COORDS[:1], LABELS[:1])
    assert r.keep.tolist() == [True] and r.removal_order == [] and r.reasons == [""]
    assert np.isnan(r.q_values).all() and np.array_equal(r.mask, r.mask_before)


@pytest.mark.parametrize("budget", sorted(BUDGETS))
def test_one_positive_stays_however_much_is_to_be_won(segmenter: Any, embedding: Any, budget: str) -> None:
    r = defender_of(segmenter, ALWAYS, budget).refine(embedding, COORDS, LABELS)
    assert r.keep.sum() == 1 and LABELS[r.keep].tolist() == [1] and len(r.removal_order) == 6
    alone = segmenter.predict(embedding, COORDS[None, r.keep], LABELS[None, r.keep])
    assert np.array_equal(r.mask, alone.masks[0])


def test_nothing_goes_where_nothing_is_to_be_won(segmenter: Any, embedding: Any) -> None:
    r = defender_of(segmenter, NEVER).refine(embedding, COORDS, LABELS)
    assert r.keep.all() and np.isfinite(r.q_values).all() and (r.q_values < 0).all()


def test_duplicates_are_points_like_others(make: Any, embedding: Any) -> None:
    r = make().refine(embedding, COORDS[[0, 0, 0, 3]], [1, 1, 0, 0])
    assert r.keep.shape == (4,) and r.keep[:2].any()


def test_an_image_is_embedded_once(segmenter: Any, photo: np.ndarray) -> None:
    counting = Counting(segmenter)
    defender = defender_of(counting, 0.02)
    first = defender.refine(photo, COORDS, LABELS)
    assert counting.embeds == 1 and first.timings["encodes"] == 1
    second = defender.refine(photo.copy(), COORDS[:3], LABELS[:3])
    assert counting.embeds == 1 and second.timings["encodes"] == 0
    assert np.array_equal(first.mask, defender.refine(defender.segmenter.embed(photo), COORDS, LABELS).mask)


@pytest.mark.parametrize(
    ("budget", "worth"), [("fast", NEVER), ("fast", ALWAYS), ("default", NEVER), ("thorough", NEVER)]
)
def test_decodes_are_counted_and_the_mask_before_only_when_asked_for(
    segmenter: Any, embedding: Any, budget: str, worth: float
) -> None:
    counting = Counting(segmenter)
    r = defender_of(counting, worth, budget).refine(embedding, COORDS, LABELS)
    deciding = {"fast": 0, "default": 1, "thorough": 1 + 7}[budget]
    shared = budget != "fast"  # the state in which it stopped was decoded already: so the final mask is free
    assert counting.sets == r.timings["decodes"] == deciding + (not shared)
    assert r.timings["decodes_deciding"] == deciding
    before = counting.sets
    for _ in range(2):
        assert r.mask_before.shape == embedding.image_size and r.predicted_iou_before > 0
    assert counting.sets - before == (1 if (budget, worth) == ("fast", ALWAYS) else 0)


@pytest.mark.parametrize(
    ("coords", "labels", "said"),
    [
        ([], [], "no points"),
        (COORDS, LABELS * 0, "no positive point"),
        (COORDS, LABELS * 2, "Labels must be 1"),
        (COORDS, LABELS[:3], "one label a point"),
        (COORDS * np.nan, LABELS, "finite"),
        (COORDS * 10, LABELS, "outside the image"),
        (COORDS[:, :1], LABELS, r"shape \(N, 2\)"),
        (None, LABELS, "."),
    ],
)
def test_points_that_cant_be_used(segmenter: Any, embedding: Any, coords: Any, labels: Any, said: str) -> None:
    with pytest.raises(PromptError, match=said) as caught:
        defender_of(segmenter).refine(embedding, coords, labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("image", [None, np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), "x.png"])
def test_what_is_no_image(segmenter: Any, image: Any) -> None:
    with pytest.raises((ImageError, PromptError)) as caught:
        defender_of(segmenter).refine(image, [[0, 0]], [1])
    assert "\n" not in str(caught.value)


def test_an_unknown_budget_or_agent(segmenter: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fast, default, thorough"):
        defender_of(segmenter, budget="cheap")
    with pytest.raises(ConfigError, match="holds no defender.safetensors"):
        ppd.PointPromptDefender.from_pretrained(tmp_path, segmenter=segmenter)


def test_a_folder_is_loaded_with_what_its_card_says(segmenter: Any, embedding: Any, tmp_path: Path) -> None:
    for paper in (False, True):
        save_network(random_network(0.02), tmp_path / "defender.safetensors", {"paper": paper})
        loaded = ppd.PointPromptDefender.from_pretrained(tmp_path, segmenter=segmenter, budget="fast")
        assert loaded.paper is paper and loaded.budget == "fast"
        made = defender_of(segmenter, 0.02, "fast", paper=paper)
        a, b = (d.refine(embedding, COORDS, LABELS) for d in (loaded, made))
        assert np.array_equal(a.q_values, b.q_values, equal_nan=True) and a.removal_order == b.removal_order


def test_other_features_can_be_given(segmenter: Any, embedding: Any) -> None:
    class Blind(SegmenterFeatures):
        """The same patches with nothing to tell them apart but a little noise."""

        def extract(self, embedding: Any) -> PatchFeatures:
            patches = super().extract(embedding)
            noise = 0.01 * torch.randn(patches.grid.shape, generator=torch.Generator().manual_seed(0))
            return PatchFeatures(1 + noise, patches.image_size, patches.cells_per_pixel)

    plain = defender_of(segmenter, NEVER, "fast").refine(embedding, COORDS, LABELS)
    blind = defender_of(segmenter, NEVER, "fast", features=Blind()).refine(embedding, COORDS, LABELS)
    assert not np.allclose(plain.q_values, blind.q_values)
