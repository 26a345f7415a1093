"""An object with its ground truth, ready to be played on: for training, evaluation and the demo, never for use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .agents.policy import BUDGETS, play_greedily
from .agents.q_network import QNetwork
from .features.base import PatchFeatures
from .features.segmenter_features import SegmenterFeatures
from .feedback import FeedbackDecoder
from .game.corruptions import join
from .game.rules import Role
from .graph import PatchGraph, PromptGraph, build_graph
from .prompts import PointPrompts
from .segmenters.base import Embedding, Segmenter


@dataclass(frozen=True, eq=False)
class Scene:
    """One object, ready to play on.

    Attributes:
        segmenter, embedding, features, patches: the image, as the segmenter and the graph see it.
        mask: (H, W) bool, the ground truth at the original size.
        truth: (h, w) bool, the same over the segmenter's low-resolution output.
    """

    segmenter: Segmenter
    embedding: Embedding
    features: PatchFeatures
    patches: PatchGraph | None
    mask: NDArray[np.bool_]
    truth: NDArray[np.bool_]

    @classmethod
    def of(cls, segmenter: Segmenter, embedding: Embedding, mask: NDArray[np.bool_], paper: bool = False) -> Scene:
        """Embed nothing, only prepare: features, whole-image graph, truth at low resolution (256 x 256)."""
        features = SegmenterFeatures().extract(embedding)
        side = embedding.features.shape[-1] * 4
        truth = embedding.frame.mask_to_grid(mask, side)
        return cls(segmenter, embedding, features, None if paper else PatchGraph(features), mask, truth)

    def graph(self, prompts: PointPrompts) -> PromptGraph:
        """The dual-space graph over some points of this image."""
        return build_graph(self.features, prompts, patches=self.patches, paper=self.patches is None)

    def decoder(self, prompts: PointPrompts) -> FeedbackDecoder:
        """Decodes sets of these points; at most once each."""
        return FeedbackDecoder(self.segmenter, self.embedding, self.features, prompts)


def attack(
    scene: Scene, ideal: PointPrompts, pool: PointPrompts, attacker: QNetwork, moves: int
) -> tuple[PointPrompts, int]:
    """Let an attacker add candidates to ideal prompts. Returns the attacked prompts and the decodes spent."""
    nodes = join(ideal, pool)
    active = np.arange(len(nodes)) < len(ideal)
    decoder = scene.decoder(nodes)
    for move in play_greedily(attacker, Role.ATTACKER, scene.graph(nodes), active, decoder, BUDGETS["default"], moves):
        active[move.node] = True
    return nodes.take(active), decoder.decodes
