"""PointPromptDefender: takes coarse points, gives the ones to keep. No ground truth, no training, any segmenter."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .agents.files import find_agent, load_network
from .agents.policy import BUDGETS, Move, kept, play_greedily
from .agents.q_network import QNetwork
from .errors import ConfigError
from .explain import explain
from .features.base import FeatureExtractor, PatchFeatures
from .features.segmenter_features import SegmenterFeatures
from .feedback import FeedbackDecoder
from .game.rules import Role
from .graph import PatchGraph, build_graph
from .prompts import PointPrompts, RefineResult
from .segmenters import load_segmenter
from .segmenters.base import Embedding, Segmenter
from .segmenters.cache import MemoryCache


@dataclass(frozen=True, eq=False)
class _Seen:
    """An image as the graph sees it, kept for further point sets of the same image."""

    embedding: Embedding
    features: PatchFeatures
    patches: PatchGraph | None


class PointPromptDefender:
    """Drops the points that hurt.

    Args:
        network: the defender's Q-network.
        segmenter: decodes, and encodes images.
        budget: "fast" decides from the graph alone; "default" decodes once a step; "thorough" also decodes what
            leaving each point out would do.
        features: where the semantic space comes from; the segmenter's own embedding by default.
        paper: build the graph as the paper does (raw Euclidean distances, no diffusion).

    Raises:
        ConfigError: no such budget.
    """

    def __init__(
        self,
        network: QNetwork,
        segmenter: Segmenter,
        *,
        budget: str = "default",
        features: FeatureExtractor | None = None,
        paper: bool = False,
    ) -> None:
        if budget not in BUDGETS:
            raise ConfigError(f"There is no budget {budget!r}; give one of {', '.join(BUDGETS)}.")
        self.network, self.segmenter, self.budget, self.paper = network, segmenter, budget, paper
        self.features = features or SegmenterFeatures()
        self._embeddings = MemoryCache(segmenter)
        self._seen: OrderedDict[int, _Seen] = OrderedDict()

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike[str] = "default",
        *,
        segmenter: Any = "mobile-sam",
        budget: str = "default",
        features: FeatureExtractor | None = None,
    ) -> PointPromptDefender:
        """Load a trained defender.

        Args:
            name_or_folder: "default", the folder of a training run, an agent's file, or a Hub id.
            segmenter: a `Segmenter`, or what `load_segmenter` takes.
            budget, features: as for the class.

        Raises:
            ConfigError: no such agent or budget.
            SegmenterError, WeightsError: the segmenter can't be loaded.
        """
        network, card = load_network(find_agent(name_or_folder, Role.DEFENDER))
        return cls(
            network, load_segmenter(segmenter), budget=budget, features=features, paper=bool(card.get("paper", False))
        )

    def refine(
        self, image_or_embedding: NDArray[np.uint8] | Embedding, coords: ArrayLike, labels: ArrayLike
    ) -> RefineResult:
        """Choose the points to keep.

        A point is never added, moved or relabelled, at least one positive stays, and the same input gives the same
        output. An image is encoded once, also over several calls in a row.

        Args:
            image_or_embedding: (H, W, 3) uint8 RGB, or the segmenter's embedding of it.
            coords: (N, 2) xy pixels of the original image.
            labels: (N,) 1 positive, 0 negative.

        Raises:
            PromptError: points or labels that can't be used (see `PointPrompts.checked`).
            ImageError: not an image.
        """
        clock = _Clock()
        if isinstance(image_or_embedding, Embedding):
            embedding, encodes = image_or_embedding, 0
            prompts = PointPrompts.checked(coords, labels, embedding.image_size)
        else:
            size = np.shape(image_or_embedding)[:2]
            prompts = PointPrompts.checked(coords, labels, size if len(size) == 2 else None)
            before = self._embeddings.encodes
            embedding = self._embeddings.embed(image_or_embedding)
            encodes = self._embeddings.encodes - before
        clock.lap("embed")
        seen = self._see(embedding)
        graph = build_graph(seen.features, prompts, patches=seen.patches, paper=self.paper)
        decoder = FeedbackDecoder(self.segmenter, embedding, seen.features, prompts)
        clock.lap("graph")

        everything = np.ones(len(prompts), bool)
        moves = play_greedily(
            self.network, Role.DEFENDER, graph, everything, decoder, BUDGETS[self.budget], len(prompts) - 1
        )
        removed = [m.node for m in moves if m.node is not None]
        keep = kept(moves, len(prompts))
        clock.lap("decide")
        deciding = decoder.decodes
        final = decoder(keep[None])
        mask = decoder.full_mask(keep)
        clock.lap("mask")

        asked = BUDGETS[self.budget].told
        timings = {**clock.seconds, "encodes": float(encodes), "decodes": float(decoder.decodes)}
        timings["decodes_deciding"] = float(deciding)

        def decode_before() -> tuple[NDArray[np.bool_], float]:
            return decoder.full_mask(everything), float(decoder(everything[None]).scalars[0, 0])

        return RefineResult(
            keep=keep,
            q_values=_q_values(moves, len(prompts)),
            removal_order=removed,
            reasons=explain(graph, moves, decoder if asked else None),
            mask=mask,
            predicted_iou=float(final.scalars[0, 0]),
            timings=timings,
            decode_before=decode_before,
        )

    def _see(self, embedding: Embedding) -> _Seen:
        key = id(embedding)
        if key not in self._seen:
            features = self.features.extract(embedding)
            self._seen[key] = _Seen(embedding, features, None if self.paper else PatchGraph(features))
            while len(self._seen) > self._embeddings.size:
                self._seen.popitem(last=False)
        return self._seen[key]


class _Clock:
    """Seconds between laps, and in total."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now
        self.seconds["total"] = now - self._start


def _q_values(moves: list[Move], count: int) -> NDArray[np.float64]:
    """Each point's value when it was dropped, or at the last decision."""
    values = np.full(count, np.nan)
    for move in moves:
        still = ~np.isnan(move.q)
        values[still] = move.q[still]
    return values
