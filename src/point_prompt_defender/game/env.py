"""The game as reinforcement-learning libraries know games: a PettingZoo environment, and one Gymnasium view a role."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import AECEnv
from pettingzoo.utils import wrappers

from ..errors import ConfigError
from ..graph import PromptGraph
from .rewards import dice, reward
from .rules import GameState, Role, is_over, legal_actions, play

if TYPE_CHECKING:
    from ..feedback import Feedback

NODE_COLUMNS = ("sign", "active", "real", "logit", "contrast")
EDGE_LAYERS = ("semantic", "physical", "diffusion")
STATE_SCALARS = ("predicted_iou", "stability", "area", "separation", "moves_left")
BOUND = 100.0  # of every number in an observation; what lies beyond it (raw feature distances may) is clipped
ILLEGAL_REWARD = -1.0  # no legal move can lose more Dice than this

Observation = dict[str, Any]
Policy = Callable[[Observation, np.random.Generator], int]


@dataclass(frozen=True, eq=False)
class Board:
    """What one game is played on: plain data and one callable, so that the game knows no segmenter.

    Attributes:
        graph: the N nodes, ideal prompts and the attacker's candidates in any order.
        active: (N,) bool, the ideal prompts.
        decode: sets of active points (B, N) bool -> the segmenter's answers (see `FeedbackDecoder`).
        truth: (h, w) bool, the object over the segmenter's low-resolution output.
    """

    graph: PromptGraph
    active: NDArray[np.bool_]
    decode: Callable[[NDArray[np.bool_]], Feedback]
    truth: NDArray[np.bool_]


class PromptGameEnv(AECEnv[str, Observation, int]):
    """Attacker against defender on one object's point prompts.

    | Agents       | "attacker", then "defender"                                        |
    |--------------|--------------------------------------------------------------------|
    | Actions      | Discrete(max_nodes + 1): a node's number; the last one is STOP     |
    | Observations | Dict: "observation" (see below), "action_mask" (max_nodes + 1,)    |
    | Rewards      | change of Dice, in [-1, 1]                                         |

    **Play.** A board's ideal prompts start active, its candidates inactive. The attacker activates one candidate a
    turn, `attack_moves` times (if there are no candidates left, it stops). Then the defender deactivates one active
    node a turn, candidate or not, until it STOPs or has moved `defence_moves` times. The last active positive node
    can't be deactivated. After every move the active points are decoded anew.

    **Observation.** Both agents see the same, fixed in size: a board's N nodes take the first rows, the rest is
    padding and 0. All numbers are float32 in [-100, 100].

    * "nodes" (max_nodes, 5): label as +1 or -1; 1 if active; 1 if real, 0 for padding; the present mask's logit at
      the node; the feature contrast there (see `Feedback`).
    * "edges" (max_nodes, max_nodes, 3): semantic distance, physical distance, diffusion (see `PromptGraph`).
    * "scalars" (5,): the segmenter's own IoU estimate, the mask's stability, area and separation (see `Feedback`);
      how many moves the observing agent has left.

    The ground truth is in no observation.

    **Action mask.** int8, 1 where legal; all 0 for the agent whose turn it isn't, and when the game is over. Padding
    is never legal. STOP is always legal for the defender, and for the attacker if it has no candidate left.

    **Illegal actions.** `step` raises ValueError and nothing changes. `make_env` wraps the game as PettingZoo does
    its own: an illegal action ends the game (terminated and truncated) with -1 for who made it and 0 for the other.

    **Rewards.** After a move of the defender, it gets the change of the mask's Dice against the truth, less
    `removal_cost`; after a move of the attacker, that gets the change negated. The one who didn't move gets 0; so
    does STOP. Undiscounted, without cost, an agent's rewards add up to the whole change that it caused.

    **End.** Both agents terminate together, when the defender is done. No legal game is truncated.

    **Infos.** {"dice": Dice of the present mask}, for logs: an agent that reads it cheats.

    **Chance.** Boards are drawn from the generator that `reset(seed)` seeds and from nothing else; same seed, same
    games. A `reset` without seed goes on with the generator.

    Args:
        make_board: draws a board; gets the generator.
        max_nodes: most nodes a board may have.
        attack_moves, defence_moves: moves of either agent, at least 1.
        removal_cost: Dice that a removal has to earn, taken off each of the defender's rewards.
        render_mode: "ansi" or None. `render` gives one line of text.

    Raises:
        ConfigError: an argument out of range; at `reset`, a board that does not fit.
    """

    metadata: dict[str, Any] = {
        "name": "prompt_game_v0", "render_modes": ["ansi"], "is_parallelizable": False, "render_fps": 1,
    }  # fmt: skip

    def __init__(
        self,
        make_board: Callable[[np.random.Generator], Board],
        max_nodes: int,
        attack_moves: int = 4,
        defence_moves: int = 8,
        removal_cost: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        super().__init__()
        if min(max_nodes, attack_moves, defence_moves) < 1:
            raise ConfigError("max_nodes, attack_moves and defence_moves must be at least 1.")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigError(f"There is no render mode {render_mode!r}; give 'ansi' or None.")
        self.make_board, self.max_nodes, self.removal_cost = make_board, max_nodes, removal_cost
        self.render_mode = render_mode
        self._budget = {Role.ATTACKER: attack_moves, Role.DEFENDER: defence_moves}
        self._rng: np.random.Generator | None = None
        self._state: GameState
        self.possible_agents = [role.value for role in Role]
        self.agents: list[str] = []
        actions = max_nodes + 1
        shapes = {
            "nodes": (max_nodes, len(NODE_COLUMNS)),
            "edges": (max_nodes, max_nodes, len(EDGE_LAYERS)),
            "scalars": (len(STATE_SCALARS),),
        }
        seen: dict[str, spaces.Space[Any]] = {
            name: spaces.Box(-BOUND, BOUND, shape, np.float32) for name, shape in shapes.items()
        }
        self.action_spaces = {agent: spaces.Discrete(actions) for agent in self.possible_agents}
        self.observation_spaces = {
            agent: spaces.Dict({"observation": spaces.Dict(seen), "action_mask": spaces.Box(0, 1, (actions,), np.int8)})
            for agent in self.possible_agents
        }

    def observation_space(self, agent: str) -> spaces.Dict:
        """The same object each time, so that its seed sticks."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        """The same object each time, so that its seed sticks."""
        return self.action_spaces[agent]

    @property
    def dice(self) -> float:
        """Dice of the present mask against the truth."""
        return self._dice

    @property
    def active(self) -> NDArray[np.bool_]:
        """(N,) bool, which of the board's nodes are active."""
        return self._state.active.copy()

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Draw a new board and start the game. `options` are taken and not used, as PettingZoo wants."""
        if seed is not None or self._rng is None:
            self._rng = np.random.default_rng(seed)
        self.board = board = self.make_board(self._rng)
        if len(board.graph) > self.max_nodes:
            raise ConfigError(f"A board of {len(board.graph)} nodes came; give max_nodes={len(board.graph)} at least.")
        self._edges = np.zeros((self.max_nodes, self.max_nodes, len(EDGE_LAYERS)), np.float32)
        for layer, name in enumerate(EDGE_LAYERS):
            self._edges[: len(board.graph), : len(board.graph), layer] = getattr(board.graph, name)
        self._edges = self._edges.clip(-BOUND, BOUND)
        self.agents = self.possible_agents[:]
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self._look(board.active)
        self._turn(Role.ATTACKER, board.active)

    def step(self, action: int | None) -> None:
        """Make the move of the agent whose turn it is; see the class."""
        agent = self.agent_selection
        if self.terminations[agent]:
            return self._was_dead_step(action)
        role, before = Role(agent), self._dice
        if action is None or not self.action_spaces[agent].contains(action):
            raise ValueError(f"{action!r} is no action; give an integer from 0 to {self.max_nodes}.")
        if not self._mask(agent)[action]:
            raise ValueError(f"Action {action} is not legal for the {agent} here; choose one that its mask allows.")
        stop = action == self.max_nodes
        self._state = play(self._state, self._state.stop if stop else int(action), role)
        self._clear_rewards()
        self._cumulative_rewards[agent] = 0.0
        if not stop:
            self._look(self._state.active)
            self.rewards[agent] = reward(before, self._dice, role, self.removal_cost)
        if is_over(self._state, role):
            if role is Role.ATTACKER:
                self._turn(Role.DEFENDER, self._state.active)
            else:
                self.terminations = dict.fromkeys(self.agents, True)
        self._accumulate_rewards()

    def observe(self, agent: str) -> Observation:
        """What an agent sees; a fresh copy each time."""
        graph, count = self.board.graph, len(self.board.graph)
        nodes = np.zeros((self.max_nodes, len(NODE_COLUMNS)), np.float32)
        columns = (graph.signs, self._state.active, np.ones(count), self._seen.logits[0], self._seen.contrast[0])
        nodes[:count] = np.stack(columns, 1)
        scalars = np.append(self._seen.scalars[0], self._moves_left(agent)).astype(np.float32)
        seen = {
            "nodes": nodes.clip(-BOUND, BOUND),
            "edges": self._edges.copy(),
            "scalars": scalars.clip(-BOUND, BOUND),
        }
        return {"observation": seen, "action_mask": self._mask(agent)}

    def render(self) -> str | None:
        """One line: whose turn it is, the active points, Dice. None without a render mode."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() does nothing without a render mode; give render_mode='ansi'.")
            return None
        labels = self._state.labels[self._state.active]
        positives, negatives = (labels == 1).sum(), (labels == 0).sum()
        turn = "over" if any(self.terminations.values()) else f"{self.agent_selection} to move"
        return f"{turn:16} {positives:2} positive and {negatives:2} negative points active, Dice {self._dice:.3f}"

    def close(self) -> None:
        """Nothing to close."""

    def _look(self, active: NDArray[np.bool_]) -> None:
        """Decode the active points."""
        self._seen = self.board.decode(active[None])
        self._dice = float(dice(self._seen.masks, self.board.truth)[0])
        self.infos = {agent: {"dice": self._dice} for agent in self.agents}

    def _turn(self, role: Role, active: NDArray[np.bool_]) -> None:
        """Let a role begin."""
        self.agent_selection = role.value
        self._state = GameState(self.board.graph.prompts.labels, active.copy(), self._budget[role])

    def _moves_left(self, agent: str) -> int:
        if agent == self.agent_selection:
            return self._state.moves_left
        return self._budget[Role.DEFENDER] if agent == Role.DEFENDER.value else 0  # the attacker moves first

    def _mask(self, agent: str) -> NDArray[np.int8]:
        mask = np.zeros(self.max_nodes + 1, np.int8)
        if agent == self.agent_selection and not any(self.terminations.values()):
            legal = legal_actions(self._state, Role(agent))
            mask[: len(legal) - 1], mask[-1] = legal[:-1], legal[-1]
        return mask


def make_env(make_board: Callable[[np.random.Generator], Board], max_nodes: int, **settings: Any) -> AECEnv:
    """`PromptGameEnv` in PettingZoo's usual wrappers: an illegal action ends the game with -1 for who made it.

    Args:
        make_board, max_nodes, settings: as for `PromptGameEnv`.
    """
    env = wrappers.TerminateIllegalWrapper(PromptGameEnv(make_board, max_nodes, **settings), ILLEGAL_REWARD)
    return wrappers.OrderEnforcingWrapper(wrappers.AssertOutOfBoundsWrapper(env))


def random_policy(observation: Observation, rng: np.random.Generator) -> int:
    """Any legal action; a `Policy`."""
    return int(rng.choice(np.flatnonzero(observation["action_mask"])))


class _View(gymnasium.Env[Observation, np.int64]):
    """One role's view of a game; see `AttackerEnv` and `DefenderEnv`."""

    metadata = PromptGameEnv.metadata
    role: ClassVar[Role]

    def __init__(self, game: PromptGameEnv) -> None:
        self.game, self.render_mode = game, game.render_mode
        self.observation_space = game.observation_space(self.role.value)
        self.action_space = game.action_space(self.role.value)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start a new game and play up to this role's first move."""
        super().reset(seed=seed)
        self.game.reset(seed=int(self.np_random.integers(2**63)))
        self._before()
        return self.game.observe(self.role.value), {"dice": self.game.dice}

    def step(self, action: np.int64 | int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Make this role's move. Gymnasium's own samples know no mask, so an illegal move ends the game and no more."""
        agent = self.role.value
        if not self.game.observe(agent)["action_mask"][action]:
            illegal = {"dice": self.game.dice, "illegal": True}
            return self.game.observe(agent), ILLEGAL_REWARD, True, False, illegal
        self.game.step(int(action))
        done = self.game.agent_selection != agent or self.game.terminations[agent]
        return self.game.observe(agent), self.game.rewards[agent], done, False, {"dice": self.game.dice}

    def render(self) -> str | None:
        """See `PromptGameEnv.render`."""
        return self.game.render()

    def _before(self) -> None:
        """What others do before this role's first move."""


class AttackerEnv(_View):
    """The attacker's game alone: no defender plays, and the game ends when the attacker has made its moves.

    Observation, actions, mask and rewards are the attacker's in `PromptGameEnv`; an illegal action ends the game with
    a reward of -1 and info["illegal"].

    Args:
        game: the game; this view is its only player.
    """

    role = Role.ATTACKER


class DefenderEnv(_View):
    """The defender's game against a given attacker, which makes all its moves within `reset`.

    Observation, actions, mask and rewards are the defender's in `PromptGameEnv`; an illegal action ends the game with
    a reward of -1 and info["illegal"].

    Args:
        game: the game; this view is its only player.
        attacker: observation and generator -> action; by default it activates candidates at random.
    """

    role = Role.DEFENDER

    def __init__(self, game: PromptGameEnv, attacker: Policy = random_policy) -> None:
        super().__init__(game)
        self.attacker = attacker

    def _before(self) -> None:
        attacker = Role.ATTACKER.value
        while self.game.agent_selection == attacker:
            self.game.step(self.attacker(self.game.observe(attacker), self.np_random))
