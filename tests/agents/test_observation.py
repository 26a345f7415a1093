from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from point_prompt_defender.agents.observation import (
    EDGE_CHANNELS,
    GLOBAL_CHANNELS,
    NODE_CHANNELS,
    Positions,
    observe,
)

OF_THE_STATE = ("logits", "contrast", "scalars")
OF_THE_PROBES = ("next_logits", "next_contrast", "next_scalars", "overlap")


def with_other(p: Positions, names: tuple[str, ...]) -> Positions:
    """The same positions with other numbers in some fields."""
    return replace(p, **{name: 3 * getattr(p, name) + 1 for name in names})


@pytest.mark.parametrize(("batch", "nodes"), [(1, 1), (3, 5), (2, 40)])
def test_shapes_are_as_promised(positions, batch: int, nodes: int) -> None:
    seen, edges = observe(positions(0, batch, nodes))
    assert seen.shape == (batch, nodes, NODE_CHANNELS + GLOBAL_CHANNELS) and seen.dtype == torch.float32
    assert edges.shape == (batch, nodes, nodes, EDGE_CHANNELS)
    assert seen.isfinite().all() and edges.isfinite().all()


@pytest.mark.parametrize("told", [False, True])
def test_a_smaller_budget_hides_what_it_has_not_decoded(positions, told: bool) -> None:
    p = positions(1, 4, 6)
    budget = (torch.full((4,), told), torch.zeros(4, 6, dtype=torch.bool))
    hidden = OF_THE_PROBES if told else OF_THE_STATE + OF_THE_PROBES
    small, other = p.at_budget(*budget), with_other(p, hidden).at_budget(*budget)
    assert all(torch.equal(a, b) for a, b in zip(observe(small), observe(other), strict=True))
    # and what it does not hide is seen
    assert not torch.equal(observe(p)[0], observe(with_other(p, hidden))[0])
    assert not torch.equal(observe(p)[0], observe(small)[0])
    if told:
        seen = with_other(p, OF_THE_STATE).at_budget(*budget)
        assert not torch.equal(observe(small)[0], observe(seen)[0])


def test_probes_are_not_seen_where_the_state_itself_is_not_told(positions) -> None:
    p = positions(2, 2, 5).at_budget(torch.tensor([False, True]), torch.ones(2, 5, dtype=torch.bool))
    assert not p.probed[0].any() and p.probed[1].any()


def test_only_probed_nodes_show_their_probe(positions) -> None:
    p = positions(3, 1, 6)
    probed = torch.tensor([[True, False, True, False, False, True]])
    p = replace(p, probed=probed)
    changed = observe(with_other(p, OF_THE_PROBES))[0] != observe(p)[0]
    assert torch.equal(changed.any(-1), probed)


def test_padding_changes_nothing_for_the_real_nodes(positions) -> None:
    p = positions(4, 1, 8, real=[5])
    cut = Positions(*(_cut(f.name, getattr(p, f.name), 5) for f in fields(p)))
    for padded, plain in zip(observe(p), observe(cut), strict=True):
        part = padded[:, :5, :5] if padded.ndim == 4 else padded[:, :5]
        torch.testing.assert_close(part, plain, atol=1e-6, rtol=0)


def _cut(name: str, value: torch.Tensor, count: int) -> torch.Tensor:
    if name in ("moves_left", "told", "scalars"):
        return value
    if name in ("semantic", "physical", "diffusion", "next_logits", "next_contrast"):
        return value[:, :count, :count]
    return value[:, :count]


def test_after_a_move_the_probe_becomes_the_state(positions) -> None:
    p = positions(5, 2, 4)
    action = torch.tensor([3, 1])
    after = p.after(action)
    for row, node in enumerate(action.tolist()):
        changed = p.active[row] != after.active[row]
        assert changed.nonzero().flatten().tolist() == [node]
        assert torch.equal(after.logits[row], p.next_logits[row, node])
        assert torch.equal(after.contrast[row], p.next_contrast[row, node])
        assert torch.equal(after.scalars[row], p.next_scalars[row, node])
    assert torch.equal(after.moves_left, p.moves_left - 1)
    assert not after.probed.any() and after.told.all()
    assert p.probed.any()  # the position before is not touched


def test_take_repeats_and_orders_rows(positions) -> None:
    p = positions(6, 3, 4)
    taken = p.take(torch.tensor([2, 0, 2]))
    assert len(taken) == 3
    assert all(torch.equal(getattr(taken, f.name), getattr(p, f.name)[[2, 0, 2]]) for f in fields(p))
