"""Keep embeddings: in memory for one image after another, on disk for training, where each is decoded from often."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..io.files import replace_atomically
from .base import Embedding, Frame, Segmenter, check_image


def image_key(image: NDArray[np.uint8]) -> str:
    """A name for an image's content: equal pixels and shape, equal key."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()[:32]


class MemoryCache:
    """`segmenter.embed` that remembers the last few images.

    Args:
        segmenter: whose embeddings to keep.
        size: how many, least recently used go first. One SAM embedding with its projections takes about 14 MB.

    Attributes:
        encodes: how often the encoder ran.
    """

    def __init__(self, segmenter: Segmenter, size: int = 4) -> None:
        self.segmenter, self.size = segmenter, size
        self.encodes = 0
        self._kept: OrderedDict[str, Embedding] = OrderedDict()

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """The image's embedding, computed at most once while it is kept."""
        key = image_key(check_image(image))
        if key not in self._kept:
            self._kept[key] = self.segmenter.embed(image)
            self.encodes += 1
        self._kept.move_to_end(key)
        while len(self._kept) > self.size:
            self._kept.popitem(last=False)
        return self._kept[key]


class DiskCache:
    """`segmenter.embed` that keeps features on disk, keyed by image content and by the segmenter's weights.

    Features are kept in float16 (2 MB an image for SAM). For segmenters whose whole embedding is one tensor and
    that can prepare it again, by an `attach` method and a `fingerprint`, as `MobileSamSegmenter`.

    Args:
        segmenter: whose embeddings to keep.
        folder: where; made when first needed.
    """

    def __init__(self, segmenter: Segmenter, folder: str | os.PathLike[str]) -> None:
        self.segmenter = segmenter
        self.folder = Path(folder) / f"{segmenter.name}-{segmenter.fingerprint}"  # type: ignore[attr-defined]

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """The image's embedding, from disk where it is there; the encoder runs only where it is not."""
        path = self.folder / f"{image_key(check_image(image))}.npy"
        if not path.exists():
            features = self.segmenter.embed(image).features.numpy().astype(np.float16)
            self._write(path, features)
        else:
            features = np.load(path)
        frame = Frame.padded(image.shape[:2], self.segmenter.input_size)  # type: ignore[attr-defined]
        bare = Embedding(frame, torch.from_numpy(features.astype(np.float32)), image=image)
        return self.segmenter.attach(bare)  # type: ignore[attr-defined]

    def _write(self, path: Path, features: NDArray[np.float16]) -> None:
        """Whole or not at all: a killed run leaves no half file behind under the real name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as temporary, open(temporary, "wb") as file:
            np.save(file, features)
