from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from point_prompt_defender.agents.policy import BUDGETS, flipped, play_greedily, position_of
from point_prompt_defender.agents.q_network import QNetwork
from point_prompt_defender.feedback import Feedback
from point_prompt_defender.game.rewards import iou
from point_prompt_defender.game.rules import Role
from point_prompt_defender.graph import PromptGraph
from point_prompt_defender.prompts import PointPrompts


class Decoder:
    """Answers that depend on the active set and on nothing else, and a count of what was asked."""

    def __init__(self, nodes: int) -> None:
        self.nodes, self.calls = nodes, []

    def __call__(self, active: np.ndarray) -> Feedback:
        self.calls.append(active.copy())
        return Feedback.stack([self._one(row) for row in active])

    @property
    def asked(self) -> int:
        return sum(len(rows) for rows in self.calls)

    def _one(self, row: np.ndarray) -> Feedback:
        rng = np.random.default_rng(np.packbits(row).tolist())
        normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
        return Feedback(
            5 * normal(1, self.nodes), normal(1, self.nodes), rng.random((1, 4), np.float32), normal(1, 8, 8)
        )


def graph_of(labels: list[int], seed: int = 0) -> PromptGraph:
    rng = np.random.default_rng(seed)
    coords = rng.uniform(0, 100, (len(labels), 2))
    distance = np.linalg.norm(coords[:, None] - coords[None], axis=-1).astype(np.float32) / 100
    return PromptGraph(PointPrompts(coords, np.array(labels)), distance, distance, np.exp(-distance))


def biased(network: QNetwork, bias: float) -> QNetwork:
    """The network with every value moved by `bias`."""
    with torch.no_grad():
        network.q_head[-1].bias += 10 * bias  # the head works in tenths
    return network


def defend(network: QNetwork, labels: list[int], budget: str, moves: int | None = None, seed: int = 0):
    decoder = Decoder(len(labels))
    everything = np.ones(len(labels), bool)
    moves = len(labels) - 1 if moves is None else moves
    made = play_greedily(network, Role.DEFENDER, graph_of(labels, seed), everything, decoder, BUDGETS[budget], moves)
    assert everything.all(), "the active set that was passed in was changed"
    return made, decoder


@settings(max_examples=25, deadline=None)
@given(
    labels=st.lists(st.integers(0, 1), min_size=1, max_size=9).filter(any),
    budget=st.sampled_from(sorted(BUDGETS)),
    bias=st.sampled_from([-1.0, 0.0, 1.0]),
    seed=st.integers(0, 99),
)
def test_a_subset_with_a_positive_stays_and_nothing_is_left_to_chance(
    labels: list[int], budget: str, bias: float, seed: int
) -> None:
    torch.manual_seed(seed)
    network = biased(QNetwork(width=8, heads=1, layers=1).eval(), bias)
    made, _ = defend(network, labels, budget, seed=seed)
    removed = [move.node for move in made if move.node is not None]
    assert len(set(removed)) == len(removed)
    assert any(label for node, label in enumerate(labels) if node not in removed)
    again, _ = defend(network, labels, budget, seed=seed)
    assert [m.node for m in again] == [m.node for m in made]
    assert all(np.array_equal(a.q, b.q, equal_nan=True) for a, b in zip(again, made, strict=True))


def test_it_stops_when_no_removal_is_worth_anything(network: QNetwork) -> None:
    made, _ = defend(biased(network, -5.0), [1, 0, 1, 0], "default")
    assert [m.node for m in made] == [None]
    assert (made[0].q < 0).all()


def test_worth_nothing_is_not_worth_it(network: QNetwork) -> None:
    """A value of exactly 0 ties with STOP, and STOP it is."""
    with torch.no_grad():
        network.q_head[-1].weight.zero_()
        network.q_head[-1].bias.zero_()
    assert [m.node for m in defend(network, [1, 1, 0], "default")[0]] == [None]


def test_it_takes_the_best_move_each_time(network: QNetwork) -> None:
    made, _ = defend(biased(network, 5.0), [1, 0, 1, 0, 1], "default")
    assert len(made) == 4  # all but the last positive
    for move in made:
        assert move.node == np.nanargmax(move.q)
        assert np.isnan(move.q[~move.position.active[0].numpy()]).all()
    assert [int(m.position.moves_left) for m in made] == [4, 3, 2, 1]


def test_moves_are_bounded(network: QNetwork) -> None:
    assert len(defend(biased(network, 5.0), [1] * 6, "default", moves=2)[0]) == 2
    assert defend(network, [1, 0], "default", moves=0)[0] == []


def test_budgets_ask_for_what_they_promise(network: QNetwork) -> None:
    """All points but one positive go, so that every budget is used to its end."""
    labels, count = [1, 0, 1, 0, 1, 0], 6
    biased(network, 5.0)
    for budget in BUDGETS:
        made, decoder = defend(network, labels, budget)
        assert len(made) == count - 1
        if budget == "fast":
            assert decoder.asked == 0
            assert not any(m.position.told.any() or m.position.probed.any() for m in made)
        elif budget == "default":
            assert [len(rows) for rows in decoder.calls] == [1] * len(made)
            assert all(m.position.told.all() and not m.position.probed.any() for m in made)
        else:
            legal = [int((~np.isnan(m.q)).sum()) for m in made]
            expected = [legal[0]] + [min(4, n) for n in legal[1:]]
            assert [len(rows) for rows in decoder.calls] == [n for probes in expected for n in (1, probes)]
            assert [int(m.position.probed.sum()) for m in made] == expected


def test_nothing_is_asked_after_the_stop(network: QNetwork) -> None:
    made, decoder = defend(biased(network, -5.0), [1, 0, 1], "thorough")
    assert len(made) == 1 and [len(rows) for rows in decoder.calls] == [1, 3]


def test_the_attacker_activates_and_never_stops(network: QNetwork) -> None:
    biased(network, -5.0)
    labels = [1, 0, 1, 0, 1, 0]
    active = np.array([True, True, False, False, False, False])
    for moves, expected in ((3, 3), (9, 4)):
        made = play_greedily(network, Role.ATTACKER, graph_of(labels), active, Decoder(6), BUDGETS["default"], moves)
        nodes = [m.node for m in made]
        assert len(nodes) == expected and None not in nodes
        assert set(nodes) <= {2, 3, 4, 5} and len(set(nodes)) == len(nodes)


def test_a_position_holds_what_was_answered() -> None:
    labels, node = [1, 0, 1], 2
    graph, decoder, active = graph_of(labels), Decoder(3), np.ones(3, bool)
    feedback, probe = decoder(active[None]), decoder(flipped(active, np.array([node])))
    p = position_of(graph, active, 2, feedback, {node: probe})
    assert p.real.all() and p.active.all() and p.told.all() and p.moves_left.item() == 2
    assert p.sign.tolist() == [[1.0, -1.0, 1.0]]
    assert p.probed.tolist() == [[False, False, True]]
    assert np.array_equal(p.next_logits[0, node], probe.logits[0])
    assert p.overlap[0, node].item() == pytest.approx(iou(feedback.masks[0], probe.masks[0]))
    blind = position_of(graph, active, 2)
    assert not blind.told.any() and not blind.probed.any()


def test_flipped_changes_one_node_a_row() -> None:
    active = np.array([True, False, True])
    assert flipped(active, np.array([0, 1])).tolist() == [[False, False, True], [True, True, True]]
    assert active.tolist() == [True, False, True]


def test_iou_of_masks() -> None:
    a = np.array([[True, True, False, False]])
    b = np.array([[False, True, True, False]])
    assert iou(a, b) == pytest.approx(1 / 3)
    assert iou(a & ~a, b & ~b) == 1.0
