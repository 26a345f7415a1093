"""Watch two random players at the game: a photograph, the real segmenter, Dice after each move.

    python examples/play_game.py [seed]

Needs the extras `train` and `demo`, and the default segmenter's weights (`ppd weights fetch`).
"""

from __future__ import annotations

import sys

import numpy as np
import skimage.data
from skimage.draw import polygon2mask

import point_prompt_defender as ppd
from point_prompt_defender.game.env import PromptGameEnv, random_policy
from point_prompt_defender.training.boards import SceneBoards
from point_prompt_defender.training.games import Scene

# The white helmet under the astronaut's arm, outlined by hand; (x, y) pixels.
HELMET = [
    (364, 350), (334, 359), (306, 390), (287, 420), (279, 460), (279, 511), (495, 511), (507, 495), (503, 457),
    (496, 424), (484, 390), (458, 361), (426, 346), (396, 342),
]  # fmt: skip


def main(seed: int = 0) -> None:
    """Play one game and print it."""
    image = skimage.data.astronaut()
    mask = polygon2mask(image.shape[:2], np.array(HELMET)[:, ::-1])
    segmenter = ppd.load_segmenter("mobile-sam")
    boards = SceneBoards([Scene.of(segmenter, segmenter.embed(image), mask)])
    env = PromptGameEnv(boards, boards.max_nodes, attack_moves=4, defence_moves=8, render_mode="ansi")

    env.reset(seed=seed)
    print(f"{'':10} {'':8} {env.render()}")
    rng = np.random.default_rng(seed)
    for agent in env.agent_iter():
        observation, _, terminated, truncated, _ = env.last()
        if terminated or truncated:
            env.step(None)
            continue
        action = random_policy(observation, rng)
        env.step(action)
        print(f"{agent:10} {'STOP' if action == env.max_nodes else f'node {action}':8} {env.render()}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
