"""Play training games with the ground truth in hand: an object in, experiences out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..agents.policy import flipped, position_of
from ..agents.q_network import QNetwork
from ..agents.replay import Experience
from ..feedback import Feedback
from ..game.corruptions import Corrupted, candidate_pool, clean, contradicts, flip_labels, jitter, join, misplace
from ..game.rewards import dice, iou
from ..game.rules import GameState, Role, is_over, legal_actions, play
from ..graph import PromptGraph
from ..prompts import PointPrompts
from ..proposers.ideal import ideal_prompts
from ..scene import Scene, attack
from .config import GameConfig


def sample_ideal(mask: NDArray[np.bool_], config: GameConfig, rng: np.random.Generator) -> PointPrompts:
    """Ideal prompts in the numbers that training asks for: mostly the usual ones, else anything allowed."""
    if rng.random() < config.usual_share:
        positives = negatives = config.usual_points
    else:
        low, high = config.fewest_points, config.most_points
        positives, negatives = int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1))
    return ideal_prompts(mask, positives, negatives, rng, spaced=bool(rng.random() < config.spaced_share))


def corrupt(
    scene: Scene, config: GameConfig, attacker: QNetwork | None, rng: np.random.Generator
) -> tuple[Corrupted, int]:
    """Ideal prompts made coarse in one of the ways of the league. Returns them and the decodes spent."""
    ideal = sample_ideal(scene.mask, config, rng)
    kinds = list(config.corruptions)
    kind = kinds[rng.choice(len(kinds), p=np.array([config.corruptions[k] for k in kinds]))]
    few = max(2, round(0.45 * len(ideal)))
    if kind == "clean":
        return clean(ideal, scene.mask), 0
    if kind == "flip":
        return flip_labels(ideal, scene.mask, int(rng.integers(1, few)), rng), 0
    if kind == "misplaced":
        return misplace(ideal, scene.mask, int(rng.integers(1, few)), rng), 0
    if kind == "jitter":
        return jitter(ideal, scene.mask, float(rng.uniform(0.05, 0.4)), rng), 0
    pool = candidate_pool(scene.mask, config.candidates, rng)
    budget = int(rng.integers(1, config.attack_moves + 1))
    if kind == "added" or attacker is None:
        # What an attacker without a mind does: wrong candidates at random.
        wrong = np.flatnonzero(contradicts(pool, scene.mask))
        chosen = rng.choice(wrong, min(budget, len(wrong)), replace=False)
        coarse, decodes = join(ideal, pool.take(chosen)), 0
    else:
        coarse, decodes = attack(scene, ideal, pool, attacker, budget)
    order = rng.permutation(len(coarse))  # where a point stands in the list must mean nothing
    return clean(coarse.take(order), scene.mask), decodes


@dataclass(frozen=True, eq=False)
class Played:
    """One finished training game.

    Attributes:
        experiences: the states on the way.
        dice: (T,) float, the mask's Dice after each move, the start first.
        decodes: point sets decoded, those of the corruption included.
    """

    experiences: list[Experience]
    dice: list[float]
    decodes: int


def defence_game(
    scene: Scene,
    config: GameConfig,
    network: QNetwork | None,
    attacker: QNetwork | None,
    epsilon: float,
    rng: np.random.Generator,
) -> Played:
    """The defender plays one coarse point set; every removal of every state on the way is decoded."""
    coarse, spent = corrupt(scene, config, attacker, rng)
    active = np.ones(len(coarse.prompts), bool)
    played = _play(
        scene,
        Role.DEFENDER,
        coarse.prompts,
        coarse.wrong,
        active,
        config,
        network,
        epsilon,
        rng,
        moves=len(active) - 1,
        length=config.defence_moves,
        branches=None,
    )
    return Played(played.experiences, played.dice, played.decodes + spent)


def attack_game(
    scene: Scene, config: GameConfig, network: QNetwork | None, epsilon: float, rng: np.random.Generator
) -> Played:
    """The attacker plays one ideal point set and a pool of candidates; some candidates of each state are decoded."""
    ideal, pool = sample_ideal(scene.mask, config, rng), candidate_pool(scene.mask, config.candidates, rng)
    nodes = join(ideal, pool)
    return _play(
        scene,
        Role.ATTACKER,
        nodes,
        contradicts(nodes, scene.mask),
        np.arange(len(nodes)) < len(ideal),
        config,
        network,
        epsilon,
        rng,
        moves=config.attack_moves,
        length=config.attack_moves,
        branches=config.attack_branches,
    )


def _play(
    scene: Scene,
    role: Role,
    prompts: PointPrompts,
    wrong: NDArray[np.bool_],
    active: NDArray[np.bool_],
    config: GameConfig,
    network: QNetwork | None,
    epsilon: float,
    rng: np.random.Generator,
    moves: int,
    length: int,
    branches: int | None,
) -> Played:
    """Masked epsilon-greedy play, cut after `length` moves. A state's experience holds its tried moves: `branches` of
    them, None for all.

    With probability epsilon a move explores: half of those moves are the best tried one by the truth (a
    demonstration, as in DQfD), the others any legal one.
    """
    graph, decoder = scene.graph(prompts), scene.decoder(prompts)
    state = GameState(prompts.labels, active, moves)
    sign = 1.0 if role is Role.DEFENDER else -1.0
    experiences: list[Experience] = []
    feedback = decoder(active[None])
    trail = [float(dice(feedback.masks, scene.truth)[0])]
    while len(experiences) < length and not is_over(state, role):
        legal = np.flatnonzero(legal_actions(state, role)[:-1])
        if not len(legal):
            break
        q = _values(network, graph, state, feedback, legal)
        tried = legal if branches is None else _some(legal, q, branches, rng)
        answers = decoder(flipped(state.active, tried))
        after = dice(answers.masks, scene.truth)
        gains = sign * (after - trail[-1])
        experiences.append(_experience(graph, state, feedback, tried, answers, gains, wrong))
        if rng.random() < epsilon or network is None:
            action = int(tried[gains.argmax()]) if rng.random() < 0.5 else int(rng.choice(tried))
            if role is Role.DEFENDER and gains.max() <= 0 and rng.random() < 0.5:
                break  # nothing to win: half of the games end as they should, the others look further
        else:
            best = int(tried[q[np.searchsorted(legal, tried)].argmax()])
            # A greedy defender that would stop has nothing more to show.
            if role is Role.DEFENDER and q.max() <= 0:
                break
            action = best
        where = int(np.flatnonzero(tried == action)[0])
        feedback = answers.row(where)
        trail.append(float(after[where]))
        state = play(state, action, role)
    return Played(experiences, trail, decoder.decodes)


@torch.no_grad()
def _values(
    network: QNetwork | None, graph: PromptGraph, state: GameState, feedback: Feedback, legal: NDArray[np.int64]
) -> NDArray[np.float32]:
    if network is None:
        return np.zeros(len(legal), np.float32)
    position = position_of(graph, state.active, state.moves_left, feedback)
    return network(position)[0][0].numpy()[legal]


def _some(legal: NDArray[np.int64], q: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Half of the tried moves by value, half by chance; sorted."""
    if len(legal) <= count:
        return legal
    order = np.argsort(-q + 1e-6 * rng.random(len(q)), kind="stable")
    best = order[: count // 2]
    return legal[np.sort(np.concatenate([best, rng.choice(order[count // 2 :], count - len(best), replace=False)]))]


def _experience(
    graph: PromptGraph,
    state: GameState,
    feedback: Feedback,
    tried: NDArray[np.int64],
    answers: Feedback,
    gains: NDArray[np.float64],
    wrong: NDArray[np.bool_],
) -> Experience:
    count = len(graph)
    probed = np.zeros(count, bool)
    probed[tried] = True
    next_logits, next_contrast = np.zeros((2, count, count), np.float32)
    next_scalars = np.zeros((count, 4), np.float32)
    overlap, reward = np.ones(count, np.float32), np.zeros(count, np.float32)
    next_logits[tried], next_contrast[tried], next_scalars[tried] = answers.logits, answers.contrast, answers.scalars
    overlap[tried] = [iou(feedback.masks[0], mask) for mask in answers.masks]
    reward[tried] = gains
    return Experience(
        sign=graph.signs, active=state.active, semantic=graph.semantic, physical=graph.physical,
        diffusion=graph.diffusion, moves_left=float(state.moves_left), logits=feedback.logits[0],
        contrast=feedback.contrast[0], scalars=feedback.scalars[0], probed=probed, next_logits=next_logits,
        next_contrast=next_contrast, next_scalars=next_scalars, overlap=overlap, reward=reward, wrong=wrong,
    )  # fmt: skip
