"""Segmenters from transformers: SAM, SAM-HQ, SAM2 and 2.1, the SAM3 tracker, EdgeTAM."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from ..errors import SegmenterError
from ..pretrained import find_folder, load_model, read_config, read_normalisation, transformers_class
from .base import (
    Capabilities,
    Embedding,
    Frame,
    Multimask,
    Prediction,
    best_of,
    check_batch,
    check_image,
    wants_multimask,
)

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def _feature_map(native: Tensor) -> Tensor:
    return native


def _first(native: Any) -> Tensor:
    return native[0]


def _coarsest(native: Any) -> Tensor:
    return native[-1]


def _as_embeddings(native: Any) -> dict[str, Any]:
    return {"image_embeddings": native}


def _as_hq_embeddings(native: Any) -> dict[str, Any]:
    return {"image_embeddings": native[0], "intermediate_embeddings": native[1]}


@dataclass(frozen=True)
class Family:
    """What sets one family of models apart from the others.

    Attributes:
        model_class: its class in transformers.
        frame: how an image lies in the square input.
        normalisation: mean and standard deviation per channel over [0, 1], where the model's folder names none.
        features: `get_image_embeddings`'s result -> the coarsest feature map (1, C, h, w).
        arguments: the same result -> the keyword arguments that `forward` takes it by.
        needs: a package that the family can't do without, besides transformers.
    """

    model_class: str
    frame: Callable[[tuple[int, int], int], Frame]
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = _IMAGENET
    features: Callable[[Any], Tensor] = _coarsest
    arguments: Callable[[Any], dict[str, Any]] = _as_embeddings
    needs: str | None = None


_SAM = Family("SamModel", Frame.padded, features=_feature_map)
_SAM_HQ = Family("SamHQModel", Frame.padded, features=_first, arguments=_as_hq_embeddings)
_SAM2 = Family("Sam2Model", Frame.stretched)
_SAM3 = Family("Sam3TrackerModel", Frame.stretched, normalisation=_HALF)
_EDGETAM = Family("EdgeTamModel", Frame.stretched, needs="timm")

FAMILIES: dict[str, Family] = {
    "sam": _SAM,
    "sam_hq": _SAM_HQ,
    "sam2": _SAM2,
    "sam2_video": _SAM2,  # SAM2's checkpoints are published so; the image model is a part of them
    "sam3_tracker": _SAM3,
    "sam3_tracker_video": _SAM3,
    "sam3_video": _SAM3,  # likewise SAM3's
    "edgetam": _EDGETAM,
    "edgetam_video": _EDGETAM,
}


class TransformersSegmenter:
    """A SAM-like model of transformers; a `Segmenter`.

    Images are resized and normalised here (torchvision is not needed), bilinear with antialiasing: longest side to
    the input and zero padding for SAM and SAM-HQ, stretched to the square for the others, with the points scaled
    alike. SAM2-like models' fallback from an unstable single mask to the best of three is switched off: it makes the
    mask jump between neighbouring point sets.

    Args:
        name_or_folder: a local folder (config.json, model.safetensors), or a Hugging Face Hub id. The network is
            touched only for an id that is not in the Hub's local cache.
        device: where it runs, "cpu" or "cuda".
        dtype: of the encoder's arithmetic (by autocast). Decoding stays in float32: half precision would move points.
        chunk: most point sets decoded at once, which bounds memory.

    Raises:
        WeightsError: the model can't be found, fetched or loaded.
        SegmenterError: it is of no family known here, or a package it needs is missing.
    """

    capabilities = Capabilities()

    def __init__(
        self,
        name_or_folder: str | os.PathLike[str],
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        chunk: int = 16,
    ) -> None:
        folder = find_folder(name_or_folder)
        kind = str(read_config(folder).get("model_type"))
        if kind not in FAMILIES:
            raise SegmenterError(f"A {kind!r} model takes no point prompts here; choose one of {', '.join(FAMILIES)}.")
        self._family = FAMILIES[kind]
        if self._family.needs and find_spec(self._family.needs) is None:
            raise SegmenterError(
                f"A {kind!r} model needs the package {self._family.needs}; install it, beside a torchvision that "
                "matches your torch, or choose another model."
            )
        self.name = os.fspath(name_or_folder)
        self.device, self.dtype, self.chunk = torch.device(device), dtype, chunk
        self._mean, self._std = read_normalisation(folder, *self._family.normalisation)
        self.model = load_model(transformers_class(self._family.model_class), folder, self.device)
        self.input_size: int = self.model.config.prompt_encoder_config.image_size
        if hasattr(self.model.mask_decoder, "dynamic_multimask_via_stability"):
            self.model.mask_decoder.dynamic_multimask_via_stability = False

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """Encode an image (H, W, 3) uint8 RGB. See `Segmenter.embed`."""
        image = check_image(image)
        frame = self._family.frame(image.shape[:2], self.input_size)
        height, width = frame.content_size
        resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR), np.float32)
        square = np.zeros((1, 3, self.input_size, self.input_size), np.float32)
        square[0, :, :height, :width] = ((resized - self._mean) / self._std).transpose(2, 0, 1)
        lower = self.dtype != torch.float32
        with torch.no_grad(), torch.autocast(self.device.type, self.dtype, enabled=lower):
            native = self.model.get_image_embeddings(torch.from_numpy(square).to(self.device))
        native = _as_float32(native)
        return Embedding(frame, self._family.features(native)[0].cpu(), native, image)

    def predict(
        self, embedding: Embedding, coords: ArrayLike, labels: ArrayLike, multimask: Multimask = "auto"
    ) -> Prediction:
        """Decode B point sets of equal length. See `Segmenter.predict`."""
        xy, marks = check_batch(coords, labels, self.capabilities)
        several = wants_multimask(multimask, marks)
        points = torch.as_tensor(embedding.frame.to_input(xy), dtype=torch.float32, device=self.device)  # (B, N, 2)
        signs = torch.as_tensor(marks, device=self.device)  # (B, N)
        image = self._family.arguments(embedding.native)
        logits, iou = [], []
        for some_points, some_signs in zip(points.split(self.chunk), signs.split(self.chunk), strict=True):
            with torch.no_grad():
                out = self.model(
                    **image, input_points=some_points[None], input_labels=some_signs[None], multimask_output=several
                )
            best = best_of(out.pred_masks[0], out.iou_scores[0])  # (b, M, h, w), (b, M) -> (b, h, w), (b,)
            logits.append(best[0])
            iou.append(best[1])
        return Prediction(torch.cat(logits), torch.cat(iou), embedding.frame)


def _as_float32(native: Any) -> Any:
    """Every tensor of an embedding, however nested, as float32."""
    return native.float() if isinstance(native, Tensor) else type(native)(_as_float32(part) for part in native)
