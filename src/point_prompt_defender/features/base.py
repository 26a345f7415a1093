"""Patch features: what the semantic space of the graph is made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..segmenters.base import Embedding


@dataclass(frozen=True, eq=False)
class PatchFeatures:
    """A feature vector for each patch of an image.

    Attributes:
        grid: (h, w, C) float32 on the CPU; row r, column c holds the patch that covers pixels
            x in [c, c + 1) / cells_per_pixel[0], y in [r, r + 1) / cells_per_pixel[1]. No padding.
        image_size: (height, width) of the original image, pixels.
        cells_per_pixel: (x, y), patches an original pixel.
    """

    grid: Tensor
    image_size: tuple[int, int]
    cells_per_pixel: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) in patches."""
        return self.grid.shape[0], self.grid.shape[1]

    @cached_property
    def unit(self) -> Tensor:
        """(h, w, C) patches scaled to length one, so that inner products are cosines."""
        return F.normalize(self.grid.float(), dim=-1)

    def cell_of(self, coords: NDArray[np.floating]) -> NDArray[np.int64]:
        """Original pixels (N, 2) xy -> (N, 2) row and column of the patch they lie in."""
        xy = (np.asarray(coords, np.float64) + 0.5) * self.cells_per_pixel
        return np.clip(np.floor(xy[..., ::-1]).astype(np.int64), 0, np.array(self.shape) - 1)

    def at(self, coords: NDArray[np.floating], radius: int = 0) -> Tensor:
        """Features under points.

        Args:
            coords: (N, 2) xy pixels of the original image.
            radius: 0 takes the patch itself; 1 the mean of the 3 x 3 unit patches around it (of those that exist),
                which tells a wrong label better than one patch does.

        Returns:
            (N, C) float32; raw patch vectors for radius 0, unit vectors otherwise.
        """
        rows, columns = torch.from_numpy(self.cell_of(coords)).unbind(-1)
        if radius == 0:
            return self.grid[rows, columns].float()
        height, width = self.shape
        total = torch.zeros(len(rows), self.grid.shape[2])
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                y, x = rows + dy, columns + dx
                inside = ((y >= 0) & (y < height) & (x >= 0) & (x < width)).float()
                total += inside[:, None] * self.unit[y.clamp(0, height - 1), x.clamp(0, width - 1)]
        return F.normalize(total, dim=-1)


class FeatureExtractor(Protocol):
    """Anything that gives patch features for an embedded image."""

    def extract(self, embedding: Embedding) -> PatchFeatures:
        """Patch features of the image behind `embedding`."""
        ...
