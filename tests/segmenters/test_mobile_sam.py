"""The default segmenter against two independent SAM decoders: the ONNX file itself, and transformers' SamModel."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import skimage.data
import torch
import transformers
from conformance import CHECKS, assert_same, point_sets

from point_prompt_defender.segmenters.base import check_image
from point_prompt_defender.segmenters.cache import MemoryCache
from point_prompt_defender.segmenters.mobile_sam import MobileSamSegmenter
from point_prompt_defender.weights import resolve


@pytest.fixture(scope="module")
def decoder_path(segmenter) -> Path:
    """The ONNX decoder that the session's segmenter was read from."""
    return resolve("mobile-sam")["decoder"]


@pytest.fixture(scope="module")
def onnx_decode(decoder_path):
    """(embedding, coords (N, 2), labels (N,)) -> low-res logits (256, 256) and predicted IoU, by onnxruntime."""
    session = onnxruntime.InferenceSession(str(decoder_path), providers=["CPUExecutionProvider"])

    def decode(embedding, coords, labels):
        height, width = embedding.image_size
        # SAM's predictor appends this point wherever no box is given.
        points = np.concatenate([coords * (1024 / max(height, width)), [[0, 0]]])
        _, iou, logits = session.run(
            None,
            {
                "image_embeddings": embedding.features.numpy()[None],
                "point_coords": points[None].astype(np.float32),
                "point_labels": np.append(labels, -1)[None].astype(np.float32),
                "mask_input": np.zeros((1, 1, 256, 256), np.float32),
                "has_mask_input": np.zeros(1, np.float32),
                "orig_im_size": np.array([height, width], np.float32),
            },
        )
        return torch.from_numpy(logits[0, 0]), float(iou[0, 0])

    return decode


@pytest.fixture(scope="module")
def embeddings(segmenter, embedding):
    """Real photographs, wide and square, embedded."""
    others = {name: segmenter.embed(getattr(skimage.data, name)()) for name in ("astronaut", "coffee")}
    return {"chelsea": embedding} | others


@pytest.mark.parametrize("points", [1, 3, 16, 40])
@pytest.mark.parametrize("name", ["chelsea", "astronaut", "coffee"])
def test_logits_are_those_of_the_onnx_decoder(segmenter, embeddings, onnx_decode, name, points):
    embedding = embeddings[name]
    coords, labels = point_sets(embedding.image, 1, points, seed=points)
    expected, iou = onnx_decode(embedding, coords[0], labels[0])
    # The file picks the best of three for one point, else the single mask: what "auto" stands for.
    out = segmenter.predict(embedding, coords, labels)
    torch.testing.assert_close(out.low_res_logits[0], expected, rtol=0, atol=1e-3)
    assert float(out.predicted_iou[0]) == pytest.approx(iou, abs=1e-4)


def test_a_batch_of_32_equals_32_singles(segmenter, embedding, photo):
    coords, labels = point_sets(photo, 32, 16)
    batch = segmenter.predict(embedding, coords, labels)
    ones = [segmenter.predict(embedding, coords[i : i + 1], labels[i : i + 1]) for i in range(32)]
    singles = torch.cat([one.low_res_logits for one in ones])
    torch.testing.assert_close(batch.low_res_logits, singles, rtol=0, atol=1e-4)
    torch.testing.assert_close(batch.predicted_iou, torch.cat([one.predicted_iou for one in ones]), rtol=0, atol=1e-4)


def test_padding_a_set_would_change_its_mask(segmenter, embedding, photo, onnx_decode):
    """Why points are left out: SAM attends to padding, so a padded set is another set."""
    coords, labels = point_sets(photo, 1, 6)
    exact, _ = onnx_decode(embedding, coords[0], labels[0])
    padded, _ = onnx_decode(embedding, np.concatenate([coords[0], [[0, 0]]]), np.append(labels[0], -1))
    ours = segmenter.predict(embedding, coords, labels).low_res_logits[0]
    assert (padded - exact).abs().max() > 0.1
    assert (ours - exact).abs().max() < 1e-3


@pytest.fixture(scope="module")
def reference(segmenter):
    """transformers' SamModel with the default segmenter's decoder weights, and a stub of an image encoder."""
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 16}
    config = transformers.SamConfig(
        vision_config=vision | {"global_attn_indexes": []}, mask_decoder_config={"layer_norm_eps": 1e-5}
    )
    model = transformers.SamModel(config).eval()
    report = model.load_state_dict(in_transformers_names(segmenter.decoder.state_dict()), strict=False)
    assert not report.unexpected_keys
    unset = {key for key in report.missing_keys if not key.startswith("vision_encoder.")}
    # Masks and boxes as prompts: nothing that points pass through.
    assert {key.split(".")[1] for key in unset} == {"mask_embed", "point_embed"}
    return model


def in_transformers_names(ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our decoder's weights under SamModel's names."""
    decoder, prompts = "mask_decoder.", "prompt_encoder."
    theirs = {
        "shared_image_embedding.positional_embedding": ours["pe_matrix"],
        prompts + "shared_embedding.positional_embedding": ours["pe_matrix"],
        prompts + "no_mask_embed.weight": ours["no_mask_embed"][None],
        prompts + "not_a_point_embed.weight": ours["not_a_point_embed"],
        prompts + "point_embed.0.weight": ours["point_embed"][:1],
        prompts + "point_embed.1.weight": ours["point_embed"][1:],
        decoder + "iou_token.weight": ours["output_tokens"][:1],
        decoder + "mask_tokens.weight": ours["output_tokens"][1:],
        # (2 * 2 * out, in) -> (in, out, 2, 2), the transposed convolution's order
        decoder + "upscale_conv1.weight": ours["up1.weight"].view(2, 2, 64, 256).permute(3, 2, 0, 1),
        decoder + "upscale_conv1.bias": ours["up1.bias"][:64],
        decoder + "upscale_conv2.weight": ours["up2.weight"].view(2, 2, 32, 64).permute(3, 2, 0, 1),
        decoder + "upscale_conv2.bias": ours["up2.bias"][:32],
        decoder + "upscale_layer_norm.weight": ours["up_norm.weight"],
        decoder + "upscale_layer_norm.bias": ours["up_norm.bias"],
    }
    heads = {"layers.0": "proj_in", "layers.1": "layers.0", "layers.2": "proj_out"}
    for name, value in ours.items():
        kind = name.split(".")[0]
        if kind in ("hyper", "iou_head"):
            head = "output_hypernetworks_mlps." + name.split(".")[1] if kind == "hyper" else "iou_prediction_head"
            *_, group, index, what = name.split(".")
            theirs[f"{decoder}{head}.{heads[f'{group}.{index}']}.{what}"] = value
        elif kind == "layers":
            theirs[f"{decoder}transformer.{name.replace('.norm', '.layer_norm')}"] = value
        elif kind == "final_attn":
            theirs[f"{decoder}transformer.final_attn_token_to_image.{name.removeprefix('final_attn.')}"] = value
        elif kind == "norm_final":
            theirs[f"{decoder}transformer.layer_norm_final_attn.{name.removeprefix('norm_final.')}"] = value
    return theirs


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("points", [1, 5])
def test_logits_are_those_of_transformers(segmenter, embeddings, reference, points, several):
    embedding = embeddings["coffee"]
    coords, labels = point_sets(embedding.image, 3, points, seed=7)
    scale = 1024 / max(embedding.image_size)
    with torch.no_grad():
        theirs = reference(
            image_embeddings=embedding.features[None],
            input_points=torch.from_numpy(coords * scale)[None].float(),
            input_labels=torch.from_numpy(labels)[None],
            multimask_output=several,
        )
    best = theirs.iou_scores[0].argmax(1)  # (3,)
    ours = segmenter.predict(embedding, coords, labels, several)
    rows = torch.arange(3)
    torch.testing.assert_close(ours.low_res_logits, theirs.pred_masks[0][rows, best], rtol=0, atol=1e-3)
    torch.testing.assert_close(ours.predicted_iou, theirs.iou_scores[0][rows, best], rtol=0, atol=1e-4)


def test_masks_are_sams_own_postprocessing(segmenter, embeddings):
    embedding = embeddings["coffee"]
    out = segmenter.predict(embedding, *point_sets(embedding.image, 2, 8))
    height, width = embedding.image_size
    scale = 1024 / max(height, width)
    inner = int(height * scale + 0.5), int(width * scale + 0.5)
    for mask, logits in zip(out.masks, out.low_res_logits, strict=True):
        full = torch.nn.functional.interpolate(logits[None, None], (1024, 1024), mode="bilinear", align_corners=False)
        full = full[..., : inner[0], : inner[1]]
        full = torch.nn.functional.interpolate(full, (height, width), mode="bilinear", align_corners=False)
        assert np.array_equal(mask, (full[0, 0] > 0).numpy())
        assert 0 < mask.mean() < 1


def test_a_real_object_is_found(segmenter, embeddings):
    """The saucer and cup of the coffee picture: true points give one compact object, x and y swapped do not."""
    embedding = embeddings["coffee"]  # 400 x 600
    coords = np.array([[[300, 200], [230, 180], [370, 190], [20, 20], [580, 20], [20, 380]]])
    labels = np.array([[1, 1, 1, 0, 0, 0]])
    mask = segmenter.predict(embedding, coords, labels).masks[0]
    assert [bool(mask[y, x]) for x, y in coords[0]] == [True, True, True, False, False, False]
    assert 0.1 < mask.mean() < 0.6


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conformance(check, segmenter, photo, quick_segmenter):
    check(quick_segmenter, photo)


@pytest.fixture(scope="module")
def quick_segmenter(segmenter):
    """The segmenter with its embeddings remembered: the checks embed the same photograph again and again."""
    quick = copy.copy(segmenter)
    remembered = MemoryCache(segmenter)
    quick.embed = lambda image: remembered.embed(check_image(image))
    return quick


def test_bfloat16_decodes_nearly_the_same_masks(segmenter, embedding, photo, decoder_path):
    half = MobileSamSegmenter(segmenter._encoder_path, decoder_path, dtype=torch.bfloat16)
    sets = point_sets(photo, 4, 8)
    exact = segmenter.predict(embedding, *sets).masks
    close = half.predict(half.attach(embedding), *sets).masks
    dice = 2 * (exact & close).sum((1, 2)) / (exact.sum((1, 2)) + close.sum((1, 2)))
    assert dice.mean() > 0.98


def test_encoding_is_deterministic(segmenter, embedding, photo):
    again = segmenter.embed(photo)
    assert torch.equal(again.features, embedding.features)
    sets = point_sets(photo, 2, 5)
    one, other = segmenter.predict(embedding, *sets), segmenter.predict(again, *sets)
    assert_same(one, other, 0)
