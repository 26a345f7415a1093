"""DINOv2 features on tiny random models saved to a folder."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file

from point_prompt_defender.errors import ImageError, SegmenterError, WeightsError
from point_prompt_defender.features.dinov2 import DinoV2Features
from point_prompt_defender.segmenters.base import Embedding, Frame

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 70, "patch_size": 14}


@pytest.fixture(scope="module", params=["plain", "registers"])
def folder(request, tmp_path_factory):
    torch.manual_seed(0)
    if request.param == "plain":
        model = transformers.Dinov2Model(transformers.Dinov2Config(**TINY))
    else:
        config = transformers.Dinov2WithRegistersConfig(**TINY, num_register_tokens=3)
        model = transformers.Dinov2WithRegistersModel(config)
    with torch.no_grad():  # transformers' own small weights would make all patches alike
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    path = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(path)
    return path


def embed(image: np.ndarray | None, size: tuple[int, int] | None = None) -> Embedding:
    """All that DINOv2 takes of an embedding: the image and its size."""
    return Embedding(Frame.padded(size or image.shape[:2], 1024), torch.zeros(1, 1, 1), image=image)


@pytest.fixture(scope="module")
def image():
    coarse = np.random.default_rng(0).integers(0, 256, (5, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((270, 150), Image.Resampling.NEAREST))


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"), [(150, 270, 6, 10), (270, 150, 10, 6), (5, 300, 1, 10), (1, 1, 10, 10)]
)
def test_the_grid_follows_the_image(folder, height, width, rows, columns):
    features = DinoV2Features(folder, longest_side=140)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    patches = features.extract(embed(image))
    assert patches.grid.shape == (rows, columns, 32) and patches.grid.dtype == torch.float32
    assert patches.grid.isfinite().all()
    assert patches.image_size == (height, width)
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]])
    if (height, width) != (1, 1):
        expected = [[0, 0], [0, columns - 1], [rows - 1, 0], [rows - 1, columns - 1]]
        assert patches.cell_of(corners).tolist() == expected


def test_patches_are_the_models_own_less_what_stands_before_them(folder, image):
    """Against the bare model, with pixels prepared here; no class token, no register slips in."""
    features = DinoV2Features(folder, longest_side=140)
    pixels = torch.from_numpy(np.array(Image.fromarray(image).resize((140, 84), Image.Resampling.BICUBIC))) / 255
    pixels = (pixels - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        tokens = features.model(pixel_values=pixels.permute(2, 0, 1)[None]).last_hidden_state[0]
    grid = features.extract(embed(image)).grid
    torch.testing.assert_close(grid.reshape(60, 32), tokens[-60:], rtol=0, atol=1e-4)


def test_rows_and_columns_are_not_swapped(folder, image):
    """A bright spot changes most the patch that it lies in."""
    features = DinoV2Features(folder, longest_side=140)
    before = features.extract(embed(image))
    spotted = image.copy()
    spotted[30:45, 190:210] = 255 - spotted[30:45, 190:210]
    after = features.extract(embed(spotted))
    change = (after.grid - before.grid).norm(dim=-1)
    row, column = divmod(int(change.argmax()), change.shape[1])
    assert [row, column] == before.cell_of(np.array([[200, 37]]))[0].tolist() == [1, 7]


def test_the_same_image_gives_the_same_features(folder, image):
    features = DinoV2Features(folder, longest_side=140)
    assert torch.equal(features.extract(embed(image)).grid, features.extract(embed(image.copy())).grid)


def test_without_the_image_it_says_so(folder):
    with pytest.raises(ImageError, match="needs the image itself"):
        DinoV2Features(folder).extract(embed(None, (10, 10)))


def test_other_models_and_missing_ones_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam"}))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(SegmenterError, match="'sam' model is no DINOv2"):
        DinoV2Features(tmp_path)
    with pytest.raises(WeightsError, match="lacks config.json"):
        (tmp_path / "config.json").unlink()
        DinoV2Features(tmp_path)
