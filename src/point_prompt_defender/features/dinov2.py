"""DINOv2 patches as features (Oquab et al. 2023), as in the paper."""

from __future__ import annotations

import os

import numpy as np
import torch
from PIL import Image

from ..errors import ImageError, SegmenterError
from ..pretrained import find_folder, load_model, read_config, read_normalisation, transformers_class
from ..segmenters.base import Embedding
from .base import PatchFeatures

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLASSES = {"dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel"}


class DinoV2Features:
    """Patch features of DINOv2, with or without registers; a `FeatureExtractor`.

    Args:
        name_or_folder: a Hugging Face Hub id, or a local folder (config.json, model.safetensors). The network is
            touched only for an id that is not in the Hub's local cache.
        device: where it runs, "cpu" or "cuda".
        longest_side: pixels that the image's longest side is resized to; both sides go to the nearest multiple of
            the patch size (14), so the aspect ratio changes by half a patch at most. 518 gives 37 patches.

    Raises:
        WeightsError: the model can't be found, fetched or loaded.
        SegmenterError: it is no DINOv2.
    """

    def __init__(
        self,
        name_or_folder: str | os.PathLike[str] = "facebook/dinov2-small",
        device: str = "cpu",
        longest_side: int = 518,
    ) -> None:
        folder = find_folder(name_or_folder)
        kind = str(read_config(folder).get("model_type"))
        if kind not in _CLASSES:
            raise SegmenterError(f"A {kind!r} model is no DINOv2; choose one of {', '.join(_CLASSES)}.")
        self.name = os.fspath(name_or_folder)
        self.device, self.longest_side = torch.device(device), longest_side
        self._mean, self._std = read_normalisation(folder, _MEAN, _STD)
        self.model = load_model(transformers_class(_CLASSES[kind]), folder, self.device)
        # One class token, then the registers: what stands before the patches.
        self._prefix = 1 + getattr(self.model.config, "num_register_tokens", 0)

    def extract(self, embedding: Embedding) -> PatchFeatures:
        """Patch features (h, w, C) of the image behind `embedding`.

        Raises:
            ImageError: the embedding does not hold its image.
        """
        if embedding.image is None:
            raise ImageError("DINOv2 needs the image itself, which this embedding does not hold; embed the image anew.")
        height, width = embedding.image_size
        patch = self.model.config.patch_size
        rows, columns = (
            max(1, round(side * self.longest_side / max(height, width) / patch)) for side in (height, width)
        )
        image = Image.fromarray(embedding.image)
        resized = np.asarray(image.resize((columns * patch, rows * patch), Image.Resampling.BICUBIC), np.float32)
        pixels = torch.from_numpy(((resized - self._mean) / self._std).transpose(2, 0, 1)[None].copy())
        with torch.no_grad():
            tokens = self.model(pixel_values=pixels.to(self.device)).last_hidden_state[0]  # (prefix + rows*columns, C)
        grid = tokens[self._prefix :].unflatten(0, (rows, columns)).float().cpu()
        return PatchFeatures(grid, (height, width), (columns / width, rows / height))
