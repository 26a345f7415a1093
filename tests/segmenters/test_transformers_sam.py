"""Every family of transformers on tiny random models: same checks, and points that land where they should."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from conformance import CHECKS, assert_same, point_sets
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_models import MAKERS, save_tiny

from point_prompt_defender.errors import SegmenterError, WeightsError
from point_prompt_defender.segmenters.transformers_sam import FAMILIES, TransformersSegmenter

FAMILY_NAMES = list(MAKERS)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Wide, so that x and y, and their scales, differ; content that differs from side to side."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (5, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((90, 40), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module", params=FAMILY_NAMES)
def folder(request, tmp_path_factory):
    return save_tiny(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def tiny(folder):
    return TransformersSegmenter(folder)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conformance(check, tiny, image):
    check(tiny, image)


def fed_by_hand(segmenter, image, scale_x, scale_y, content, coords, labels):
    """The bare transformers model on pixels and points that this function works out itself; logits (B, h, w)."""
    size = segmenter.input_size
    mean, std = (0.5, 0.5) if segmenter.model.config.model_type == "sam3_tracker" else (None, None)
    pixels = torch.from_numpy(np.array(Image.fromarray(image).resize(content, Image.Resampling.BILINEAR))) / 255
    pixels = pixels.permute(2, 0, 1)
    mean = torch.tensor([0.485, 0.456, 0.406] if mean is None else [mean] * 3)[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225] if std is None else [std] * 3)[:, None, None]
    square = torch.zeros(1, 3, size, size)
    square[0, :, : content[1], : content[0]] = (pixels - mean) / std
    points = torch.tensor([[[x * scale_x, y * scale_y] for x, y in one] for one in coords.tolist()])[None].float()
    with torch.no_grad():
        out = segmenter.model(
            pixel_values=square, input_points=points, input_labels=torch.tensor(labels)[None], multimask_output=False
        )
    return out.pred_masks[0, :, 0]


def test_points_land_where_they_should(tiny, image):
    """Against the model fed by hand; and the comparison sees x and y, or the two scales, swapped."""
    height, width = image.shape[:2]
    size = tiny.input_size
    if tiny.model.config.model_type in ("sam", "sam_hq"):
        scale_x = scale_y = size / width
        content = (size, round(height * size / width))
    else:
        scale_x, scale_y, content = size / width, size / height, (size, size)
    coords, labels = point_sets(image, 3, 4)
    ours = tiny.predict(tiny.embed(image), coords, labels, False).low_res_logits
    right = fed_by_hand(tiny, image, scale_x, scale_y, content, coords, labels)
    torch.testing.assert_close(ours, right, rtol=0, atol=1e-4)

    swapped_axes = fed_by_hand(tiny, image, scale_x, scale_y, content, coords[..., ::-1], labels)
    wrong = [swapped_axes]
    if scale_x != scale_y:
        wrong.append(fed_by_hand(tiny, image, scale_y, scale_x, content, coords, labels))
    for other in wrong:
        assert (ours - other).abs().mean() > 0.01


def test_chunks_change_nothing(folder, tiny, image):
    sets = point_sets(image, 7, 3)
    embedding = tiny.embed(image)
    small = TransformersSegmenter(folder, chunk=2)
    assert_same(tiny.predict(embedding, *sets), small.predict(embedding, *sets))


def test_bfloat16_encodes_about_the_same_and_decodes_in_float32(folder, tiny, image):
    half = TransformersSegmenter(folder, dtype=torch.bfloat16).embed(image)
    full = tiny.embed(image)
    assert half.features.dtype == torch.float32
    assert not torch.equal(half.features, full.features)
    together = torch.stack([half.features.flatten(), full.features.flatten()])
    assert torch.corrcoef(together)[0, 1] > 0.99
    out = tiny.predict(half, *point_sets(image, 1, 3))
    assert out.low_res_logits.dtype == torch.float32


def test_a_folders_own_normalisation_is_used(tmp_path, image):
    folder = save_tiny("sam", tmp_path)
    before = TransformersSegmenter(folder).embed(image).features
    settings = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1.0, 1.0, 1.0]}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    apart = TransformersSegmenter(folder).embed(image).features
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    nested = TransformersSegmenter(folder).embed(image).features
    assert torch.equal(apart, nested)
    assert (before - apart).abs().max() > 0.01


@pytest.mark.parametrize("family", ["sam2", "sam3_tracker"])
def test_single_masks_never_jump_to_the_best_of_three(family, tmp_path, image):
    segmenter = TransformersSegmenter(save_tiny(family, tmp_path))
    segmenter.model.mask_decoder.dynamic_multimask_stability_thresh = 1.0  # no mask is stable enough for it
    embedding = segmenter.embed(image)
    sets = point_sets(image, 8, 3)
    single = segmenter.predict(embedding, *sets, False).low_res_logits
    segmenter.model.mask_decoder.dynamic_multimask_via_stability = True
    jumped = segmenter.predict(embedding, *sets, False).low_res_logits
    assert (single - jumped).abs().max() > 0.01, "else this model has nothing to switch off"
    best = segmenter.predict(embedding, *sets, True).low_res_logits
    assert (single - best).abs().max() > 0.01


@pytest.mark.parametrize("published_as", ["sam2_video", "sam3_tracker_video", "sam3_video"])
def test_video_checkpoints_load_as_image_models(published_as, tmp_path, image):
    folder = save_tiny("sam2" if published_as == "sam2_video" else "sam3_tracker", tmp_path)
    sets = point_sets(image, 2, 3)
    before = TransformersSegmenter(folder)
    before = before.predict(before.embed(image), *sets)
    config = json.loads((folder / "config.json").read_text())
    if published_as == "sam3_video":
        config = {"tracker_config": config | {"model_type": "sam3_tracker_video"}}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": published_as}))
    after = TransformersSegmenter(folder)
    assert_same(before, after.predict(after.embed(image), *sets))


def test_edgetam_without_timm_says_what_to_install(tmp_path):
    config = transformers.EdgeTamConfig
    assert FAMILIES[config.model_type].model_class == "EdgeTamModel"
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "edgetam"}))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    try:
        import timm  # noqa: F401
    except ImportError:
        with pytest.raises(SegmenterError, match="needs the package timm"):
            TransformersSegmenter(tmp_path)
    else:
        with pytest.raises(WeightsError, match="EdgeTamModel"):
            TransformersSegmenter(tmp_path)


def test_other_models_are_refused_by_name(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(SegmenterError, match="'bert' model takes no point prompts here; choose one of sam, sam_hq"):
        TransformersSegmenter(tmp_path)


def test_a_pickle_is_never_loaded(tmp_path):
    folder = save_tiny("sam", tmp_path)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"lacks config.json or model.safetensors"):
        TransformersSegmenter(folder)


def test_missing_damaged_and_truncated_weights_are_refused(tmp_path):
    folder = save_tiny("sam", tmp_path)
    path = folder / "model.safetensors"
    weights = load_file(path)
    save_file({k: v for k, v in weights.items() if "mask_decoder" not in k}, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="lack .* parts of SamModel"):
        TransformersSegmenter(folder)
    save_file(weights | {"mask_decoder.iou_token.weight": torch.zeros(3, 3)}, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="SamModel"):
        TransformersSegmenter(folder)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="do not load as SamModel"):
        TransformersSegmenter(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="config.json"):
        TransformersSegmenter(folder)


@pytest.mark.parametrize("name", ["someone/a-model-nobody-cached", "/no/such/folder", "not a name"])
def test_what_is_neither_a_folder_nor_cached_is_one_sentence(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="neither a folder nor a Hugging Face model"):
        TransformersSegmenter(name)


def test_a_cached_hub_id_needs_no_network(tmp_path, monkeypatch, image):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--tiny-sam"
    save_tiny("sam", repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    segmenter = TransformersSegmenter("someone/tiny-sam")
    assert segmenter.name == "someone/tiny-sam"
    assert segmenter.predict(segmenter.embed(image), *point_sets(image, 1, 2)).masks.shape == (1, 40, 90)
