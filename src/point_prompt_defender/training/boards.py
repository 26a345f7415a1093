"""Boards on real images for `game.env`, and trained networks as its players."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..agents.dqn import legal_nodes
from ..agents.observation import Positions
from ..agents.q_network import QNetwork
from ..game.corruptions import candidate_pool, join
from ..game.env import Board, Observation, Policy
from ..game.rules import Role
from .config import GameConfig
from .games import Scene, sample_ideal


class SceneBoards:
    """Draws boards: an object, its ideal prompts, and as many candidates as the settings say.

    Args:
        scenes: the objects; each is as likely.
        config: numbers of points and candidates, as in training.
    """

    def __init__(self, scenes: Sequence[Scene], config: GameConfig | None = None) -> None:
        self.scenes, self.config = list(scenes), config or GameConfig()

    @property
    def max_nodes(self) -> int:
        """The most nodes that a board can have."""
        return 2 * max(self.config.most_points, self.config.usual_points) + self.config.candidates

    def __call__(self, rng: np.random.Generator) -> Board:
        """One board."""
        scene = self.scenes[int(rng.integers(len(self.scenes)))]
        ideal, pool = (
            sample_ideal(scene.mask, self.config, rng),
            candidate_pool(scene.mask, self.config.candidates, rng),
        )
        nodes = join(ideal, pool)
        order = rng.permutation(len(nodes))  # where a node stands in the list must mean nothing
        prompts = nodes.take(order)
        return Board(scene.graph(prompts), order < len(ideal), scene.decoder(prompts), scene.truth)


def network_policy(network: QNetwork, role: Role) -> Policy:
    """A trained network as a player of `game.env`: the best legal action by Q-value, STOP's being 0."""

    @torch.no_grad()
    def choose(observation: Observation, rng: np.random.Generator) -> int:
        position = position_of_observation(observation)
        q = network(position)[0][0].masked_fill(~legal_nodes(position, role)[0], -torch.inf)
        best = int(q.argmax())
        stop = len(observation["action_mask"]) - 1
        nothing = q[best] <= 0 if role is Role.DEFENDER else torch.isneginf(q[best])
        return stop if nothing else best

    return choose


def position_of_observation(observation: Observation) -> Positions:
    """An observation of `PromptGameEnv` as a network takes it in, with the feedback of one decode (B = 1)."""
    seen = observation["observation"]
    sign, active, real, logits, contrast = torch.from_numpy(seen["nodes"])[None].unbind(-1)
    semantic, physical, diffusion = torch.from_numpy(seen["edges"])[None].unbind(-1)
    scalars, nodes = torch.from_numpy(seen["scalars"])[None], len(seen["nodes"])
    pairs = torch.zeros(1, nodes, nodes)
    return Positions(
        real=real > 0, sign=sign, active=active > 0, semantic=semantic, physical=physical, diffusion=diffusion,
        moves_left=scalars[:, -1], told=torch.ones(1, dtype=torch.bool), logits=logits, contrast=contrast,
        scalars=scalars[:, :-1], probed=torch.zeros(1, nodes, dtype=torch.bool), next_logits=pairs,
        next_contrast=pairs, next_scalars=torch.zeros(1, nodes, 4), overlap=torch.ones(1, nodes),
    )  # fmt: skip
