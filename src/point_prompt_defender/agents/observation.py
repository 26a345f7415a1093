"""What an agent sees: distances, labels, status and the segmenter's feedback. Never raw features, never the truth.

    positions (graph + status + feedback) -> observe -> nodes (B, N, F), edges (B, N, N, E) -> Q-network

Because nothing here depends on what the features mean or how many channels they have, one trained agent serves every
feature extractor and every segmenter.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

NODE_CHANNELS = 24
GLOBAL_CHANNELS = 11
EDGE_CHANNELS = 9


@dataclass(frozen=True, eq=False)
class Positions:
    """B positions of at most N nodes, padded with nodes that are not `real`.

    Attributes:
        real: (B, N) bool, False where a row has fewer nodes.
        sign: (B, N) float, +1 positive, -1 negative.
        active: (B, N) bool, whose points the segmenter gets.
        semantic, physical, diffusion: (B, N, N) float, the graph's edges (see `PromptGraph`).
        moves_left: (B,) float, moves that the role has left.
        told: (B,) bool, whether the state's own feedback is known; where not, the next three are not looked at.
        logits, contrast: (B, N) float, the mask's logit and the feature contrast at each node (see `Feedback`).
        scalars: (B, 4) float, see `Feedback`.
        probed: (B, N) bool, for which nodes the state without them (with them, if inactive) was decoded too.
        next_logits, next_contrast: (B, N, N) float, [b, i, j] at node j after node i changed its status.
        next_scalars: (B, N, 4) float, of that state.
        overlap: (B, N) float, IoU of that state's mask with the present one.
    """

    real: Tensor
    sign: Tensor
    active: Tensor
    semantic: Tensor
    physical: Tensor
    diffusion: Tensor
    moves_left: Tensor
    told: Tensor
    logits: Tensor
    contrast: Tensor
    scalars: Tensor
    probed: Tensor
    next_logits: Tensor
    next_contrast: Tensor
    next_scalars: Tensor
    overlap: Tensor

    def __len__(self) -> int:
        return len(self.real)

    def take(self, rows: Tensor) -> Positions:
        """The positions with the given row numbers, in that order."""
        return Positions(*(getattr(self, f.name)[rows] for f in fields(self)))

    def to(self, device: torch.device | str) -> Positions:
        """All tensors on another device."""
        return Positions(*(getattr(self, f.name).to(device) for f in fields(self)))

    def at_budget(self, told: Tensor, probed: Tensor) -> Positions:
        """Forget feedback that a smaller budget would not have: `told` (B,) and `probed` (B, N) bool keep it."""
        return replace(self, told=self.told & told, probed=self.probed & told[:, None] & probed)

    def after(self, action: Tensor) -> Positions:
        """The positions after one move each: `action` (B,) long, a probed node that changes its status."""
        rows = torch.arange(len(self), device=action.device)
        active = self.active.clone()
        active[rows, action] = ~active[rows, action]
        return replace(
            self,
            active=active,
            moves_left=self.moves_left - 1,
            logits=self.next_logits[rows, action],
            contrast=self.next_contrast[rows, action],
            scalars=self.next_scalars[rows, action],
            probed=torch.zeros_like(self.probed),
        )


def observe(p: Positions) -> tuple[Tensor, Tensor]:
    """Positions -> what the Q-network takes in.

    Returns:
        nodes: (B, N, NODE_CHANNELS + GLOBAL_CHANNELS) float32.
        edges: (B, N, N, EDGE_CHANNELS) float32; [b, i, j] is what node i sees of node j.
    """
    told, probed = p.told[:, None].float(), p.probed.float()
    logits, contrast = p.logits * told, p.contrast * told
    others = p.active[:, None, :] & ~torch.eye(p.real.shape[1], dtype=torch.bool, device=p.real.device)  # (B, N, N)
    kin = p.sign[:, :, None] * p.sign[:, None, :]  # +1 same label, -1 opposite
    near = torch.exp(-4 * p.semantic.square())
    close = torch.exp(-10 * p.physical)

    agreement = torch.tanh(p.sign * logits / 4)  # (B, N): does the mask do what the label says
    fit = (p.sign * contrast).clamp(-3, 3)
    nodes = [
        p.sign,
        p.active.float(),
        *_vote(near, kin, others),
        *_vote(p.diffusion, kin, others),
        *_vote(close, kin, others),
        _nearest(p.semantic, others & (kin > 0)),
        _nearest(p.semantic, others & (kin < 0)),
        _nearest(p.physical, others & (kin > 0)),
        _nearest(p.physical, others & (kin < 0)),
        agreement,
        (p.sign * logits / 10).clamp(-2, 2),
        fit,
    ]

    # What changes if this node changes its status.
    after = torch.tanh(p.sign[:, None, :] * p.next_logits / 4)  # (B, N, N): agreement of j after i
    fit_after = (p.sign[:, None, :] * p.next_contrast).clamp(-3, 3)
    weight = others.float() / others.float().sum(-1, keepdim=True).clamp_min(1)
    change = (p.next_scalars - p.scalars[:, None]).clamp(-1, 1)  # (B, N, 4)
    own = torch.diagonal(after, dim1=1, dim2=2)
    probes = [
        probed,
        5 * change[..., 0] * probed,
        3 * change[..., 1] * probed,
        3 * change[..., 2] * probed,
        change[..., 3] * probed,
        (1 - p.overlap) * probed,
        own * probed,
        ((after - agreement[:, None, :]) * weight).sum(-1) * probed,
        ((fit_after - fit[:, None, :]) * weight).sum(-1) * probed,
    ]

    count = p.active.float().sum(1)
    actives = p.active.float() / count.clamp_min(1)[:, None]
    scalars = p.scalars * told
    state = torch.stack(
        [
            p.told.float(),
            count / 16,
            (actives * (p.sign > 0)).sum(1),
            p.moves_left.clamp(0, 8) / 8,
            scalars[:, 0],
            scalars[:, 1],
            scalars[:, 2].clamp_min(0).sqrt(),
            scalars[:, 3].clamp(0, 3),
            (actives * agreement).sum(1),
            (actives * (agreement < 0)).sum(1),
            (actives * fit).sum(1),
        ],
        -1,
    )
    state = state[:, None].expand(-1, p.real.shape[1], -1)

    influence = (after - agreement[:, None, :]) * probed[..., None]  # of node i on node j
    edges = torch.stack(
        [
            p.semantic.clamp(0, 3),
            near,
            p.physical,
            close,
            p.diffusion,
            kin,
            others.float(),
            influence,
            influence.transpose(1, 2),
        ],
        -1,
    )
    return torch.cat([torch.stack(nodes + probes, -1), state], -1), edges


def _vote(kernel: Tensor, kin: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Kernel-weighted vote of the other active nodes on a node's label in [-1, 1], and how much weight it has."""
    weight = kernel * others
    total = weight.sum(-1)
    return (weight * kin).sum(-1) / total.clamp_min(1e-6), torch.log1p(total)


def _nearest(distance: Tensor, among: Tensor) -> Tensor:
    """Distance to the nearest of some nodes, at most 2; (B, N, N) and bool (B, N, N) -> (B, N)."""
    return distance.masked_fill(~among, 2.0).amin(-1).clamp_max(2.0)
