"""Predictor objects behind the adapter: ones with SamPredictor's and SAM2ImagePredictor's API around real models."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from conformance import CHECKS, point_sets
from tiny_models import save_tiny

from point_prompt_defender.errors import SegmenterError
from point_prompt_defender.segmenters.predictor import PredictorSegmenter
from point_prompt_defender.segmenters.transformers_sam import TransformersSegmenter


class SamLikePredictor:
    """SamPredictor's interface and state, around any decoder.

    Args:
        encode: image (H, W, 3) -> features (1, C, h, w).
        decode: features, points (1, N, 2) in input pixels, labels (1, N), multimask -> logits (M, h, w), IoU (M,).
        input_size: side of the model's input.
    """

    def __init__(self, encode, decode, input_size):
        self.model = SimpleNamespace(image_encoder=SimpleNamespace(img_size=input_size))
        self._encode, self._decode = encode, decode
        self.encoded = 0
        self.is_image_set, self.features, self.original_size, self.input_size = False, None, None, None

    def set_image(self, image, image_format="RGB"):
        assert image.dtype == np.uint8 and image_format == "RGB"
        self.encoded += 1
        self.features = self._encode(image)
        self.original_size = image.shape[:2]
        scale = self.model.image_encoder.img_size / max(image.shape[:2])
        self.input_size = tuple(max(1, int(side * scale + 0.5)) for side in image.shape[:2])
        self.is_image_set = True

    def get_image_embedding(self):
        return self.features

    def predict(self, point_coords=None, point_labels=None, box=None, mask_input=None, multimask_output=True):
        if not self.is_image_set:
            raise RuntimeError("call set_image first")
        (height, width), (new_height, new_width) = self.original_size, self.input_size
        points = torch.tensor(point_coords * [new_width / width, new_height / height], dtype=torch.float32)[None]
        with torch.no_grad():
            logits, iou = self._decode(self.features, points, torch.as_tensor(point_labels)[None], multimask_output)
        side = self.model.image_encoder.img_size
        full = F.interpolate(logits[None], (side, side), mode="bilinear")[..., :new_height, :new_width]
        masks = F.interpolate(full, (height, width), mode="bilinear")[0] > 0
        return masks.numpy(), iou.numpy(), logits.numpy()


class Sam2LikePredictor:
    """SAM2ImagePredictor's interface and state around transformers' Sam2Model."""

    def __init__(self, inner: TransformersSegmenter):
        self.model = SimpleNamespace(image_size=inner.input_size)
        self._inner = inner
        self._transforms = object()
        self.encoded = 0
        self._is_image_set, self._features, self._orig_hw = False, None, None

    def set_image(self, image):
        self.encoded += 1
        *high, low = self._inner.embed(image).native
        self._features = {"image_embed": low, "high_res_feats": high}
        self._orig_hw = [image.shape[:2]]
        self._is_image_set = True

    def predict(self, point_coords=None, point_labels=None, box=None, mask_input=None, multimask_output=True):
        assert self._is_image_set
        height, width = self._orig_hw[0]
        points = torch.tensor(point_coords / [width, height] * self.model.image_size, dtype=torch.float32)
        with torch.no_grad():
            out = self._inner.model(
                image_embeddings=[*self._features["high_res_feats"], self._features["image_embed"]],
                input_points=points[None, None],
                input_labels=torch.as_tensor(point_labels)[None, None],
                multimask_output=multimask_output,
            )
        logits = out.pred_masks[0, 0]
        masks = F.interpolate(logits[None], (height, width), mode="bilinear")[0] > 0
        return masks.numpy(), out.iou_scores[0, 0].numpy(), logits.numpy()


@pytest.fixture(scope="module")
def tiny_sam(tmp_path_factory):
    return TransformersSegmenter(save_tiny("sam", tmp_path_factory.mktemp("sam")))


@pytest.fixture(scope="module")
def tiny_sam2(tmp_path_factory):
    return TransformersSegmenter(save_tiny("sam2", tmp_path_factory.mktemp("sam2")))


def sam_like(inner: TransformersSegmenter) -> SamLikePredictor:
    def decode(features, points, labels, several):
        out = inner.model(
            image_embeddings=features, input_points=points[None], input_labels=labels[None], multimask_output=several
        )
        return out.pred_masks[0, 0], out.iou_scores[0, 0]

    return SamLikePredictor(lambda image: inner.embed(image).native, decode, inner.input_size)


@pytest.fixture(params=["sam", "sam2"])
def both(request, tiny_sam, tiny_sam2):
    """The adapter around a predictor, and the same model used directly."""
    if request.param == "sam":
        return PredictorSegmenter(sam_like(tiny_sam)), tiny_sam
    return PredictorSegmenter(Sam2LikePredictor(tiny_sam2)), tiny_sam2


@pytest.fixture(scope="module")
def image():
    """Scales to whole pixels of the tiny models' inputs, so that SAM's rounded scale is the exact one."""
    return np.ascontiguousarray(skimage.data.chelsea()[60:188, 60:316])  # (128, 256, 3)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conformance(check, both, image):
    check(both[0], image)


@pytest.mark.parametrize("several", [False, True, "auto"])
@pytest.mark.parametrize("points", [1, 5])
def test_the_same_as_the_model_used_directly(both, image, points, several):
    adapter, direct = both
    sets = point_sets(image, 3, points)
    ours = adapter.embed(image)
    theirs = direct.embed(image)
    assert ours.frame == theirs.frame
    assert torch.equal(ours.features, theirs.features)
    one, other = adapter.predict(ours, *sets, several), direct.predict(theirs, *sets, several)
    torch.testing.assert_close(one.low_res_logits, other.low_res_logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(one.predicted_iou, other.predicted_iou, rtol=0, atol=1e-4)
    # SAM2 goes to the original size in one step, `Frame.upsample` in two: a few pixels of noisy outlines differ.
    assert (one.masks == other.masks).mean() > 0.99


def test_going_back_to_an_image_encodes_nothing(both, image):
    adapter, _ = both
    sets = point_sets(image, 2, 4)
    first = adapter.embed(image)
    alone = adapter.predict(first, *sets).low_res_logits
    second = adapter.embed(np.ascontiguousarray(image[:, ::-1]))
    for _ in range(3):
        assert not torch.equal(adapter.predict(second, *sets).low_res_logits, alone)
        assert torch.equal(adapter.predict(first, *sets).low_res_logits, alone)
    assert adapter.predictor.encoded == 2


def test_an_image_that_the_user_set_meanwhile_does_not_mix_in(both, image):
    adapter, _ = both
    sets = point_sets(image, 1, 4)
    embedding = adapter.embed(image)
    alone = adapter.predict(embedding, *sets).low_res_logits
    adapter.predictor.set_image(np.ascontiguousarray(image[::-1]))
    assert torch.equal(adapter.predict(embedding, *sets).low_res_logits, alone)


class SecretivePredictor:
    """Keeps its state where nobody finds it, but shows the embedding as a plain array (C, h, w)."""

    def __init__(self, inner):
        self.__inner = inner

    encoded = property(lambda self: self.__inner.encoded)

    def set_image(self, image):
        self.__inner.set_image(image)

    def get_image_embedding(self):
        return self.__inner.get_image_embedding()[0].numpy()

    def predict(self, **arguments):
        return self.__inner.predict(**arguments)


def test_a_predictor_with_unknown_state_encodes_again_but_only_on_change(tiny_sam, image):
    adapter = PredictorSegmenter(SecretivePredictor(sam_like(tiny_sam)))
    sets = point_sets(image, 1, 4)
    first = adapter.embed(image)
    assert first.features.shape == (32, 8, 8)
    alone = adapter.predict(first, *sets).low_res_logits
    second = adapter.embed(np.ascontiguousarray(image[:, ::-1]))
    adapter.predict(second, *sets)
    assert adapter.predictor.encoded == 2
    for _ in range(2):
        assert torch.equal(adapter.predict(first, *sets).low_res_logits, alone)
    assert adapter.predictor.encoded == 3


def test_masks_are_the_predictors_own(tiny_sam, image):
    predictor = sam_like(tiny_sam)
    original = predictor.predict

    def with_all_false_masks(**arguments):
        masks, iou, logits = original(**arguments)
        return np.zeros_like(masks), iou, logits

    predictor.predict = with_all_false_masks
    adapter = PredictorSegmenter(predictor)
    out = adapter.predict(adapter.embed(image), *point_sets(image, 2, 3))
    assert not out.masks.any() and (out.low_res_logits > 0).any()

    predictor.predict = lambda **arguments: (original(**arguments)[2] > 0, *original(**arguments)[1:])
    out = adapter.predict(adapter.embed(image), *point_sets(image, 2, 3))
    assert out.own_masks is None, "masks of another size are not taken for full-size ones"
    assert out.masks.shape == (2, *image.shape[:2]) and out.masks.any()


def test_the_default_segmenters_model_as_a_predictor(segmenter):
    """A real photograph and real masks: SamPredictor's way of doing it and ours agree."""
    photo = np.ascontiguousarray(skimage.data.chelsea()[:224, :448])  # 2:1, so SAM's rounded scale is exact

    def decode(features, points, labels, several):
        prepared = segmenter.decoder.prepare(features[0])
        logits, iou = segmenter.decoder(prepared, points, labels, slice(1, 4) if several else slice(0, 1))
        return logits[0], iou[0]

    predictor = SamLikePredictor(lambda image: segmenter.embed(image).features[None], decode, 1024)
    adapter = PredictorSegmenter(predictor)
    embedding = adapter.embed(photo)
    for points in (1, 8):
        sets = point_sets(photo, 2, points)
        ours = adapter.predict(embedding, *sets)
        direct = segmenter.predict(segmenter.attach(embedding), *sets)
        torch.testing.assert_close(ours.low_res_logits, direct.low_res_logits, rtol=0, atol=1e-3)
        assert (ours.masks == direct.masks).mean() > 0.999
    assert predictor.encoded == 1


def test_what_is_no_predictor_is_refused():
    for thing in (object(), "mobile-sam", SimpleNamespace(set_image=print), SimpleNamespace(predict=print)):
        with pytest.raises(SegmenterError, match=r"give an object with set_image\(\) and predict\(\)"):
            PredictorSegmenter(thing)


def test_a_predictor_without_an_embedding_to_show_is_refused_by_name(image):
    class Closed:
        def set_image(self, image): ...
        def predict(self, **arguments): ...

    with pytest.raises(SegmenterError, match="Closed shows no image embedding"):
        PredictorSegmenter(Closed()).embed(image)


def test_embeddings_of_other_segmenters_are_refused(tiny_sam, image):
    adapter = PredictorSegmenter(sam_like(tiny_sam))
    with pytest.raises(SegmenterError, match="another segmenter"):
        adapter.predict(tiny_sam.embed(image), *point_sets(image, 1, 2))


def test_the_input_size_is_found_where_predictors_keep_it(tiny_sam, tiny_sam2):
    assert PredictorSegmenter(sam_like(tiny_sam)).input_size == 64
    assert PredictorSegmenter(Sam2LikePredictor(tiny_sam2)).input_size == 128
    bare = SimpleNamespace(set_image=print, predict=print)
    assert PredictorSegmenter(bare).input_size == 1024
    bare.transform = SimpleNamespace(target_length=512)
    assert PredictorSegmenter(bare).input_size == 512
