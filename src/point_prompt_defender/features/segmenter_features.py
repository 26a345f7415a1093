"""The segmenter's own image embedding as patch features: they are there already and cost nothing."""

from __future__ import annotations

from ..segmenters.base import Embedding
from .base import PatchFeatures


class SegmenterFeatures:
    """Take the embedding's grid, less the padding; a `FeatureExtractor`."""

    def extract(self, embedding: Embedding) -> PatchFeatures:
        """Patch features (h, w, C) of the part of the embedding that the image covers."""
        channels, height, width = embedding.features.shape
        frame = embedding.frame
        rows = min(height, -(-frame.content_size[0] * height // frame.input_size))
        columns = min(width, -(-frame.content_size[1] * width // frame.input_size))
        return PatchFeatures(
            embedding.features[:, :rows, :columns].permute(1, 2, 0),
            frame.image_size,
            (frame.scale_x * width / frame.input_size, frame.scale_y * height / frame.input_size),
        )
