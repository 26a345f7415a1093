from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from point_prompt_defender.agents.observation import Positions
from point_prompt_defender.agents.q_network import QNetwork, masked_max

BY_NODE_TWICE = ("semantic", "physical", "diffusion", "next_logits", "next_contrast")
BY_STATE = ("moves_left", "told", "scalars")


def select(p: Positions, nodes: torch.Tensor) -> Positions:
    """The positions with only these nodes, in this order."""

    def one(name: str) -> torch.Tensor:
        value = getattr(p, name)
        if name in BY_STATE:
            return value
        return value[:, nodes][:, :, nodes] if name in BY_NODE_TWICE else value[:, nodes]

    return Positions(**{f.name: one(f.name) for f in fields(p)})


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), nodes=st.integers(1, 20), graph=st.booleans())
def test_permuting_the_nodes_permutes_the_answer(positions, seed: int, nodes: int, graph: bool) -> None:
    torch.manual_seed(seed)
    network = QNetwork(width=16, heads=2, layers=2, graph=graph).eval()
    p, order = positions(seed, 2, nodes), torch.randperm(nodes)
    with torch.no_grad():
        for plain, permuted in zip(network(p), network(select(p, order)), strict=True):
            torch.testing.assert_close(permuted, plain[:, order], atol=1e-5, rtol=1e-4)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), counts=st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_padding_changes_nothing(positions, seed: int, counts: list[int]) -> None:
    torch.manual_seed(seed)
    network = QNetwork(width=16, heads=2, layers=2).eval()
    p = positions(seed, len(counts), max(counts) + 2, real=counts)
    with torch.no_grad():
        padded = network(p)
        for row, count in enumerate(counts):
            alone = network(select(p.take(torch.tensor([row])), torch.arange(count)))
            for a, b in zip(padded, alone, strict=True):
                torch.testing.assert_close(a[row, :count], b[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("nodes", [1, 2, 100])
def test_any_number_of_nodes(network: QNetwork, positions, nodes: int) -> None:
    q, wrong = network(positions(0, 3, nodes))
    assert q.shape == wrong.shape == (3, nodes)
    assert q.isfinite().all() and wrong.isfinite().all()


def test_nodes_see_each_other_only_with_the_graph(positions) -> None:
    """What removing one node does to another is on an edge between the two: without attention nobody sees it."""
    p = positions(1, 1, 5)
    p = replace(p, probed=torch.tensor([[True, False, False, False, False]]))
    told = p.next_logits.clone()
    told[0, 0] *= -1
    for graph in (True, False):
        torch.manual_seed(0)
        network = QNetwork(width=16, heads=2, layers=2, graph=graph).eval()
        before, after = network(p)[0], network(replace(p, next_logits=told))[0]
        assert before[0, 0] != after[0, 0]  # the node itself knows in any case
        assert torch.equal(before[0, 1:], after[0, 1:]) is not graph


def test_its_settings_make_it_again(positions) -> None:
    network = QNetwork(width=8, heads=2, layers=1, graph=False).eval()
    twin = QNetwork(**network.settings).eval()
    twin.load_state_dict(network.state_dict())
    p = positions(0, 1, 4)
    assert torch.equal(network(p)[0], twin(p)[0])


def test_gradients_reach_every_parameter(network: QNetwork, positions) -> None:
    q, wrong = network(positions(0, 4, 6))
    (q.square().sum() + wrong.square().sum()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_masked_max_takes_the_best_legal_one() -> None:
    q = torch.tensor([[1.0, 5.0, 3.0], [1.0, 5.0, 3.0], [1.0, 5.0, 3.0]])
    legal = torch.tensor([[True, True, True], [True, False, True], [False, False, False]])
    value, action = masked_max(q, legal)
    assert value.tolist() == [5.0, 3.0, -float("inf")]
    assert action[:2].tolist() == [1, 2]
