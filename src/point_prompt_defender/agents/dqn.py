"""Double DQN (van Hasselt et al. 2016) with dense targets: one update of one agent, readable from top to bottom."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..game.rules import Role
from .observation import Positions
from .q_network import QNetwork, masked_max


@dataclass(frozen=True)
class DqnSettings:
    """What the update needs to know.

    Attributes:
        gamma: discount.
        removal_cost: Dice that a removal must earn to be worth it; subtracted from each of the defender's rewards.
        targets: how many tried actions a state are bootstrapped an update.
        wrong_weight: weight of the auxiliary loss (which labels are wrong).
        rank_weight: weight of the loss on the order of a state's actions.
        learning_rate, weight_decay: of AdamW; no decay makes it Adam.
        budget_shares: how often a state is shown with no feedback, with its own, and with leave-one-out feedback.
        double: choose the next action with the online network, value it with the target network.
    """

    gamma: float = 0.6
    removal_cost: float = 0.005
    targets: int = 4
    wrong_weight: float = 0.05
    rank_weight: float = 0.0
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    budget_shares: tuple[float, float, float] = (0.25, 0.4, 0.35)
    double: bool = True


@dataclass(frozen=True, eq=False)
class Batch:
    """States to learn from.

    Attributes:
        positions: B states with everything that is known of them.
        reward: (B, N) change of Dice by each probed action, in the role's own favour.
        wrong: (B, N) bool, which labels contradict the truth.
    """

    positions: Positions
    reward: Tensor
    wrong: Tensor


def legal_nodes(p: Positions, role: Role) -> Tensor:
    """(B, N) bool, `game.rules.legal_actions` for a batch, without STOP."""
    if role is Role.ATTACKER:
        return p.real & ~p.active
    positive = p.active & (p.sign > 0)
    last = positive & (positive.sum(1, keepdim=True) == 1)
    return p.real & p.active & ~last


class DqnAgent:
    """One role's online and target network and its optimiser.

    Args:
        role: attacker or defender.
        network: the online network; the target network starts as its copy.
        settings: see `DqnSettings`.
    """

    def __init__(self, role: Role, network: QNetwork, settings: DqnSettings) -> None:
        self.role, self.settings = role, settings
        self.online, self.target = network.eval(), copy.deepcopy(network).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def sync(self) -> None:
        """Copy the online network into the target network."""
        self.target.load_state_dict(self.online.state_dict())

    @torch.no_grad()
    def value(self, p: Positions) -> Tensor:
        """(B,) what a position is worth to the role: the best action's value, STOP's 0 for the defender."""
        legal = legal_nodes(p, self.role)
        values = self.target(p)[0]
        if self.settings.double:
            _, action = masked_max(self.online(p)[0], legal)
            best = values.gather(1, action[:, None])[:, 0].masked_fill(~legal.any(1), -torch.inf)
        else:
            best, _ = masked_max(values, legal)
        if self.role is Role.DEFENDER:
            best = best.clamp_min(0)  # STOP
        return torch.where((p.moves_left > 0) & torch.isfinite(best), best, 0.0)

    def update(self, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        """One gradient step. Returns the losses and the mean value of the chosen actions.

        Each state is looked at as one of the three budgets would see it; its value after a move is judged with the
        feedback of one decode.
        """
        s, p = self.settings, batch.positions
        count, nodes = p.real.shape
        tried = legal_nodes(p, self.role) & p.probed

        # Which actions to bootstrap: some of the tried ones, without preference.
        order = torch.from_numpy(rng.random((count, nodes), dtype=np.float32)).masked_fill(~tried, 2.0)
        chosen = order.argsort(1)[:, : s.targets]  # (B, K)
        usable = tried.gather(1, chosen)
        rows = torch.arange(count).repeat_interleave(chosen.shape[1])
        value = self.value(p.take(rows).after(chosen.flatten())).view_as(chosen)
        cost = s.removal_cost if self.role is Role.DEFENDER else 0.0
        target = batch.reward.gather(1, chosen) - cost + s.gamma * value

        level = torch.from_numpy(rng.choice(3, count, p=s.budget_shares))
        # With leave-one-out feedback of every node or of some: later moves of "thorough" probe a few.
        share = np.where(rng.random((count, 1)) < 0.5, 1.0, rng.random((count, 1)))
        probed = (level >= 2)[:, None] & torch.from_numpy(rng.random((count, nodes)) < share)
        seen = p.at_budget(told=level >= 1, probed=probed)
        self.online.train()  # dropout is for the fit alone, never for play or targets
        q_all, wrong = self.online(seen)
        self.online.eval()
        q = q_all.gather(1, chosen)
        # In tenths of Dice, where errors are of the order of one.
        loss_q = F.smooth_l1_loss(10 * q[usable], 10 * target[usable])
        loss_wrong = F.binary_cross_entropy_with_logits(wrong[p.real], batch.wrong[p.real].float())
        loss_rank = _rank_loss(10 * q, 10 * target, usable)
        loss = loss_q + s.wrong_weight * loss_wrong + s.rank_weight * loss_rank

        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.online.parameters(), 1.0)
        self.optimizer.step()
        return {"loss_q": loss_q.item(), "loss_wrong": loss_wrong.item(), "q_mean": q[usable].mean().item()}


def _rank_loss(q: Tensor, target: Tensor, usable: Tensor) -> Tensor:
    """Logistic loss on the order of each two bootstrapped actions of a state, weighted by how far apart they are."""
    gap = target[:, :, None] - target[:, None, :]
    pairs = (usable[:, :, None] & usable[:, None, :] & (gap > 0)).float() * gap
    margin = q[:, :, None] - q[:, None, :]
    return (F.softplus(-margin) * pairs).sum() / pairs.sum().clamp_min(1e-6)
