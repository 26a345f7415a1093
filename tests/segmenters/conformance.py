"""What every `Segmenter` has to do. Each check takes a segmenter and an image; test files run all of `CHECKS`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from point_prompt_defender.errors import ImageError, PromptError, SegmenterError
from point_prompt_defender.segmenters.base import Embedding, Prediction, Segmenter

TOLERANCE = 1e-4


def point_sets(image: np.ndarray, sets: int, points: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random points on the image, (B, N, 2) xy and (B, N); the first of each set is positive."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    coords = rng.random((sets, points, 2)) * [width - 1, height - 1]
    labels = rng.integers(0, 2, (sets, points))
    labels[:, 0] = 1
    return coords, labels


def assert_same(one: Prediction, other: Prediction, tolerance: float = TOLERANCE) -> None:
    """Logits and predicted IoU agree, within the tolerance in units of the logits' own spread if that is above 1."""
    scale = max(1.0, float(one.low_res_logits.std()))
    torch.testing.assert_close(one.low_res_logits, other.low_res_logits, rtol=0, atol=tolerance * scale)
    torch.testing.assert_close(one.predicted_iou, other.predicted_iou, rtol=0, atol=tolerance)


def check_is_a_segmenter(segmenter: Segmenter, image: np.ndarray) -> None:
    assert isinstance(segmenter, Segmenter)
    assert isinstance(segmenter.name, str) and segmenter.name


def check_shapes(segmenter: Segmenter, image: np.ndarray) -> None:
    embedding = segmenter.embed(image)
    assert embedding.image_size == image.shape[:2]
    assert embedding.features.ndim == 3 and embedding.features.dtype == torch.float32
    assert embedding.features.device.type == "cpu" and embedding.features.isfinite().all()
    for multimask in (False, True, "auto"):
        out = segmenter.predict(embedding, *point_sets(image, 3, 5), multimask)
        assert out.low_res_logits.ndim == 3 and len(out.low_res_logits) == 3
        assert out.low_res_logits.isfinite().all()
        assert out.predicted_iou.shape == (3,)
        assert out.masks.shape == (3, *image.shape[:2]) and out.masks.dtype == bool


def check_batch_equals_singles(segmenter: Segmenter, image: np.ndarray) -> None:
    embedding = segmenter.embed(image)
    coords, labels = point_sets(image, 19, 4)  # more than one chunk
    for multimask in (False, True):
        batch = segmenter.predict(embedding, coords, labels, multimask)
        ones = [segmenter.predict(embedding, coords[i : i + 1], labels[i : i + 1], multimask) for i in range(19)]
        singles = Prediction(
            torch.cat([one.low_res_logits for one in ones]),
            torch.cat([one.predicted_iou for one in ones]),
            embedding.frame,
        )
        assert_same(batch, singles)
        assert (batch.low_res_logits[0] - batch.low_res_logits[1]).abs().max() > 100 * TOLERANCE, "the test is blind"


def check_same_input_same_output(segmenter: Segmenter, image: np.ndarray) -> None:
    coords, labels = point_sets(image, 2, 6)
    one = segmenter.predict(segmenter.embed(image), coords, labels)
    other = segmenter.predict(segmenter.embed(image.copy()), coords.copy(), labels.copy())
    assert torch.equal(one.low_res_logits, other.low_res_logits)
    assert torch.equal(one.predicted_iou, other.predicted_iou)
    assert np.array_equal(one.masks, other.masks)


def check_order_of_points_does_not_matter(segmenter: Segmenter, image: np.ndarray) -> None:
    embedding = segmenter.embed(image)
    coords, labels = point_sets(image, 2, 7)
    order = np.random.default_rng(1).permutation(7)
    assert_same(
        segmenter.predict(embedding, coords, labels, False),
        segmenter.predict(embedding, coords[:, order], labels[:, order], False),
        10 * TOLERANCE,
    )


def check_every_point_counts(segmenter: Segmenter, image: np.ndarray) -> None:
    """Moving, relabelling or leaving out any one point changes the logits: none is dropped or padded away."""
    embedding = segmenter.embed(image)
    coords, labels = point_sets(image, 1, 12, seed=2)
    before = segmenter.predict(embedding, coords, labels, False).low_res_logits
    for point in range(12):
        moved, relabelled = coords.copy(), labels.copy()
        moved[0, point] = np.array(image.shape[1::-1]) - 1 - moved[0, point]
        relabelled[0, point] = 1 - relabelled[0, point]
        without = np.delete(coords, point, 1), np.delete(labels, point, 1)
        for change in ((moved, labels), (coords, relabelled), without):
            after = segmenter.predict(embedding, *change, False).low_res_logits
            assert (after - before).abs().max() > TOLERANCE


def check_auto_is_best_of_three_for_one_positive_point(segmenter: Segmenter, image: np.ndarray) -> None:
    embedding = segmenter.embed(image)
    coords, labels = point_sets(image, 2, 2)
    one = coords[:, :1], np.ones((2, 1), int)
    negative = coords[:, :1], np.zeros((2, 1), int)
    for sets, several in ((one, True), (negative, False), ((coords, labels), False)):
        auto = segmenter.predict(embedding, *sets, "auto")
        assert_same(auto, segmenter.predict(embedding, *sets, several))
        other = segmenter.predict(embedding, *sets, not several)
        assert (auto.low_res_logits - other.low_res_logits).abs().max() > 10 * TOLERANCE, "the test is blind"


def check_an_earlier_embedding_stays_valid(segmenter: Segmenter, image: np.ndarray) -> None:
    first = segmenter.embed(image)
    sets = point_sets(image, 2, 3)
    before = segmenter.predict(first, *sets)
    before_masks = before.masks
    other = np.ascontiguousarray(255 - image[: image.shape[0] // 2])  # another size, too
    second = segmenter.embed(other)
    assert segmenter.predict(second, *point_sets(other, 1, 3)).masks.shape == (1, *other.shape[:2])
    after = segmenter.predict(first, *sets)
    assert torch.equal(before.low_res_logits, after.low_res_logits)
    assert np.array_equal(before_masks, after.masks)


def check_inputs_are_left_alone(segmenter: Segmenter, image: np.ndarray) -> None:
    coords, labels = point_sets(image, 2, 3)
    copies = image.copy(), coords.copy(), labels.copy()
    segmenter.predict(segmenter.embed(image), coords, labels)
    for mine, copy in zip((image, coords, labels), copies, strict=True):
        assert np.array_equal(mine, copy)


def check_bad_points_raise(segmenter: Segmenter, image: np.ndarray) -> None:
    embedding = segmenter.embed(image)
    coords, labels = point_sets(image, 2, 3)
    nan, endless = coords.copy(), coords.copy()
    nan[1, 2, 0], endless[0, 0, 1] = np.nan, np.inf
    padded = labels.copy()
    padded[0, 0] = -1
    for bad in (
        (nan, labels),
        (endless, labels),
        (coords, padded),
        (coords, labels + 1),
        (coords[:, :0], labels[:, :0]),  # sets without a point
        (coords[0], labels[0]),  # no batch axis
        (coords, labels[:, :2]),
        (coords[..., :1], labels),
    ):
        with pytest.raises(PromptError):
            segmenter.predict(embedding, *bad)


def check_limits_raise(segmenter: Segmenter, image: np.ndarray) -> None:
    """A segmenter that declared a limit would raise, not truncate."""
    embedding = segmenter.embed(image)
    coords, labels = point_sets(image, 1, 4)
    declared = segmenter.capabilities
    try:
        segmenter.capabilities = replace(declared, max_points=3)
        segmenter.predict(embedding, coords[:, :3], labels[:, :3])
        with pytest.raises(SegmenterError, match="at most 3 points"):
            segmenter.predict(embedding, coords, labels)
        segmenter.capabilities = replace(declared, negatives=False)
        with pytest.raises(SegmenterError, match="negative"):
            segmenter.predict(embedding, coords, np.zeros_like(labels))
    finally:
        segmenter.capabilities = declared


def check_bad_images_raise(segmenter: Segmenter, image: np.ndarray) -> None:
    rgba = np.concatenate([image, image[..., :1]], -1)
    for bad in (image[..., 0], rgba, image.astype(np.float32), image[:0], image.tolist(), None):
        with pytest.raises(ImageError):
            segmenter.embed(bad)


def check_one_pixel_is_an_image(segmenter: Segmenter, image: np.ndarray) -> None:
    embedding = segmenter.embed(image[:1, :1])
    assert isinstance(embedding, Embedding)
    assert segmenter.predict(embedding, [[[0, 0]]], [[1]]).masks.shape == (1, 1, 1)


CHECKS = [check for name, check in sorted(globals().items()) if name.startswith("check_")]
