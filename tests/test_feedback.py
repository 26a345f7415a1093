"""Feedback is what the segmenter says, read at the right places, and no set is ever decoded twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from point_prompt_defender.features.segmenter_features import SegmenterFeatures
from point_prompt_defender.feedback import SCALARS, Feedback, FeedbackDecoder
from point_prompt_defender.graph import mean_distance
from point_prompt_defender.prompts import PointPrompts
from point_prompt_defender.segmenters.base import Embedding, Frame, Prediction

COORDS = np.array([[230.0, 120.0], [300.0, 90.0], [20.0, 20.0], [430.0, 280.0], [250.0, 200.0]])
PROMPTS = PointPrompts(COORDS, np.array([1, 1, 0, 0, 1]))
ALL = np.ones(5, bool)


class Recorder:
    """Passes everything on to a segmenter and writes down which sets it was asked for."""

    def __init__(self, segmenter):
        self.segmenter, self.asked = segmenter, []

    def predict(self, embedding, coords, labels, multimask="auto"):
        self.asked += [(xy.tobytes(), marks.tobytes()) for xy, marks in zip(coords, labels, strict=True)]
        assert len({np.shape(c) for c in coords}) == 1
        return self.segmenter.predict(embedding, coords, labels, multimask)


@pytest.fixture(scope="module")
def features(embedding):
    return SegmenterFeatures().extract(embedding)


@pytest.fixture
def recorder(segmenter):
    return Recorder(segmenter)


@pytest.fixture
def decoder(recorder, embedding, features):
    return FeedbackDecoder(recorder, embedding, features, PROMPTS)


def without(*nodes: int) -> np.ndarray:
    return ~np.isin(np.arange(5), nodes)


def test_it_is_the_segmenter_s_own_answer(decoder, segmenter, embedding):
    sets = np.array([ALL, without(3), without(0, 1, 2), without(1, 2, 3, 4)])  # the last: one positive alone
    answer = decoder(sets)
    assert len(answer) == 4 and answer.logits.shape == (4, 5) and answer.scalars.shape == (4, len(SCALARS))
    for row, active in zip(range(4), sets, strict=True):
        out = segmenter.predict(embedding, COORDS[active][None], PROMPTS.labels[active][None], multimask="auto")
        np.testing.assert_allclose(answer.low_res_logits[row], out.low_res_logits[0], atol=1e-3)
        assert answer.scalars[row, 0] == pytest.approx(out.predicted_iou.item(), abs=1e-4)
        full = out.masks[0]
        x, y = COORDS.astype(int).T
        sure = np.abs(answer.logits[row]) > 1
        np.testing.assert_array_equal((answer.logits[row] > 0)[sure], full[y, x][sure])
        assert answer.scalars[row, 2] == pytest.approx(full.mean(), abs=0.01)


def test_no_set_is_decoded_twice(decoder, recorder):
    sets = np.array([ALL, without(1), ALL, without(1), without(2)])
    first = decoder(sets)
    assert decoder.decodes == 3
    second = decoder(sets[::-1])
    decoder(ALL[None])
    assert decoder.decodes == 3 == len(recorder.asked) == len(set(recorder.asked))
    np.testing.assert_array_equal(first.low_res_logits, second.low_res_logits[::-1])
    np.testing.assert_array_equal(first.low_res_logits[0], first.low_res_logits[2])


def test_rows_do_not_depend_on_what_else_is_in_the_batch(recorder, segmenter, embedding, features):
    sets = np.array([without(4), ALL, without(0, 3), without(2), without(1, 2)])
    together = FeedbackDecoder(recorder, embedding, features, PROMPTS)(sets)
    for row in (0, 1, 4):
        alone = FeedbackDecoder(recorder, embedding, features, PROMPTS)(sets[row][None])
        for name in ("logits", "contrast", "scalars", "low_res_logits"):
            np.testing.assert_allclose(getattr(together, name)[row], getattr(alone, name)[0], atol=1e-3, err_msg=name)


def test_the_oldest_unused_answer_goes_first(recorder, embedding, features):
    decoder = FeedbackDecoder(recorder, embedding, features, PROMPTS, remember=2)
    for active in (ALL, without(1), ALL, without(2)):  # asking for ALL again keeps it
        decoder(active[None])
    assert decoder.decodes == 3
    decoder(ALL[None])
    assert decoder.decodes == 3
    decoder(without(1)[None])
    assert decoder.decodes == 4


def test_a_batch_larger_than_the_memory_is_answered_whole(recorder, embedding, features):
    decoder = FeedbackDecoder(recorder, embedding, features, PROMPTS, remember=1)
    answer = decoder(np.array([ALL, without(1), without(2)]))
    assert len(answer) == 3 and decoder.decodes == 3
    np.testing.assert_array_equal(answer.low_res_logits[2], decoder(without(2)[None]).low_res_logits[0])


def test_rows_and_stacks():
    rng, shapes = np.random.default_rng(0), ((3, 2), (3, 2), (3, 4), (3, 4, 4))
    one = Feedback(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))
    back = Feedback.stack([one.row(i) for i in range(3)])
    np.testing.assert_array_equal(back.low_res_logits, one.low_res_logits)
    np.testing.assert_array_equal(back.scalars, one.scalars)
    np.testing.assert_array_equal(one.masks, one.low_res_logits > 0)


class Painted:
    """A segmenter whose mask is painted: one logit map whatever the points."""

    def __init__(self, logits: np.ndarray):
        self.logits = torch.from_numpy(logits.astype(np.float32))

    def predict(self, embedding, coords, labels, multimask="auto"):
        batch = len(coords)
        return Prediction(self.logits.expand(batch, -1, -1), torch.full((batch,), 0.7), embedding.frame)


def painted(logits: np.ndarray, points: list[tuple[float, float]]) -> tuple[Feedback, FeedbackDecoder]:
    """An image of 40 x 80 pixels, padded to a square of 16 x 16 cells; features tell the left half from the right."""
    frame = Frame.padded((40, 80), 64)
    grid = torch.zeros(2, 8, 8)
    grid[0, :, :4], grid[1, :, 4:] = 1, 1
    embedding = Embedding(frame, grid)
    prompts = PointPrompts(np.array(points), np.ones(len(points), np.int64))
    decoder = FeedbackDecoder(Painted(logits), embedding, SegmenterFeatures().extract(embedding), prompts)
    return decoder(np.ones((1, len(points)), bool)), decoder


def test_logits_are_read_under_the_points_x_first():
    logits = np.arange(256.0).reshape(16, 16)
    answer, _ = painted(logits, [(0, 0), (79, 0), (0, 39), (79, 39), (42, 12)])
    # 5 pixels a cell: the image covers 16 columns and 8 rows.
    np.testing.assert_array_equal(answer.logits[0], [0, 15, 7 * 16, 7 * 16 + 15, 2 * 16 + 8])


def test_scalars_worked_out_by_hand():
    logits = np.full((16, 16), -5.0)
    logits[:8, :8] = 5.0  # the left half of the image
    logits[:8, 6:8] = 0.5  # of which a quarter is unsure
    logits[8:] = 99.0  # the padding counts for nothing
    answer, _ = painted(logits, [(10, 10), (70, 10)])
    iou, stability, area, separation = answer.scalars[0]
    assert (iou, stability, area) == (pytest.approx(0.7), pytest.approx(0.75), pytest.approx(0.5))
    # Two orthogonal halves: the mean of 1 - cosine over all pairs is 1/2, so inside and outside lie 1 / (1/2) apart.
    assert separation == pytest.approx(2.0, abs=1e-4)
    np.testing.assert_allclose(answer.contrast[0], [2.0, -2.0], atol=1e-4)


def test_an_empty_mask_gives_finite_numbers():
    answer, _ = painted(np.full((16, 16), -3.0), [(10, 10), (70, 10)])
    assert answer.scalars[0, 2] == 0
    assert np.isfinite(answer.contrast).all() and np.isfinite(answer.scalars).all()


def test_contrast_is_in_units_of_the_image(decoder, embedding, features):
    """Contrast against plain means over the patches, weighted by how much of each the mask covers."""
    answer = decoder(ALL[None])
    content = answer.masks[0][: embedding.frame.cells(256)[0], : embedding.frame.cells(256)[1]].astype(float)

    def window(axis: int, place: int) -> slice:
        step = content.shape[axis] / features.shape[axis]
        return slice(int(np.floor(place * step)), int(np.ceil((place + 1) * step)))

    share = np.array([content[window(0, r), window(1, c)].mean() for r, c in np.ndindex(features.shape)])
    share = share.reshape(features.shape)
    unit = features.unit.numpy()
    means = []
    for weight in (share, 1 - share):
        mean = (unit * weight[..., None]).sum((0, 1))
        means.append(mean / np.linalg.norm(mean))
    nodes = features.at(COORDS, radius=1).numpy()
    expected = nodes @ (means[0] - means[1]) / mean_distance(features)
    np.testing.assert_allclose(answer.contrast[0], expected, atol=1e-3)
    assert answer.scalars[0, 3] == pytest.approx((1 - means[0] @ means[1]) / mean_distance(features), abs=1e-3)


def test_an_embedding_of_half_the_size_needs_no_change(segmenter, embedding):
    """Features of another resolution serve as well: nodes and patches are found by pixels."""
    coarse = replace(embedding, features=torch.nn.functional.avg_pool2d(embedding.features, 2))
    features = SegmenterFeatures().extract(coarse)
    answer = FeedbackDecoder(segmenter, embedding, features, PROMPTS)(ALL[None])
    full = FeedbackDecoder(segmenter, embedding, SegmenterFeatures().extract(embedding), PROMPTS)(ALL[None])
    np.testing.assert_array_equal(answer.logits, full.logits)
    assert np.corrcoef(answer.contrast[0], full.contrast[0])[0, 1] > 0.95
