"""The Q-network: a small transformer over the graph's nodes whose attention sees the graph's edges."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .observation import EDGE_CHANNELS, GLOBAL_CHANNELS, NODE_CHANNELS, Positions, observe


class QNetwork(nn.Module):
    """Q-values of changing each node's status, for any number of nodes.

    Permutation-equivariant: nodes have no order, and permuting them permutes the answer. STOP has no output: its value
    is 0 by definition. A second head guesses which labels are wrong; it helps to train the trunk and decides nothing.

    Args:
        width: channels a node.
        heads: attention heads.
        layers: attention layers.
        graph: False leaves the attention out: an MLP a node, for the ablation.
        dropout: share of each block's output that is dropped while training; no part of a trained network.
    """

    def __init__(
        self, width: int = 64, heads: int = 4, layers: int = 3, graph: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.settings = {"width": width, "heads": heads, "layers": layers, "graph": graph}
        self.inputs = nn.Sequential(
            nn.Linear(NODE_CHANNELS + GLOBAL_CHANNELS, width), nn.GELU(), nn.Linear(width, width)
        )
        self.edges = nn.Sequential(nn.Linear(EDGE_CHANNELS, 32), nn.GELU(), nn.Linear(32, layers * heads))
        self.blocks = nn.ModuleList([_Block(width, heads if graph else 0, dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.q_head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        self.wrong_head = nn.Linear(width, 1)

    def forward(self, positions: Positions) -> tuple[Tensor, Tensor]:
        """B positions of N nodes.

        Returns:
            q: (B, N), value of changing each node's status, in Dice; meaningless for padding.
            wrong: (B, N), logit of the label being wrong.
        """
        nodes, edges = observe(positions)
        x = self.inputs(nodes)  # (B, N, D)
        bias = self.edges(edges)  # (B, N, N, L*H)
        bias = bias.masked_fill(~positions.real[:, None, :, None], -1e4)
        for block, layer_bias in zip(self.blocks, bias.chunk(len(self.blocks), -1), strict=True):
            x = block(x, layer_bias.permute(0, 3, 1, 2))
        x = self.norm(x)
        # Rewards are hundredths of Dice: the head works in tenths, where it is well scaled.
        return self.q_head(x)[..., 0] / 10, self.wrong_head(x)[..., 0]


class _Block(nn.Module):
    """Attention with a bias an edge, then an MLP; both around a residual, normalised before."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.drop = nn.Dropout(dropout)
        if heads:
            self.norm1 = nn.LayerNorm(width)
            self.qkv = nn.Linear(width, 3 * width)
            self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (B, N, D), bias (B, H, N, N) -> (B, N, D)."""
        if self.heads:
            q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            seen = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)  # (B, H, N, d)
            x = x + self.drop(self.out(seen.transpose(1, 2).flatten(2)))
        return x + self.drop(self.mlp(self.norm2(x)))


def masked_max(q: Tensor, legal: Tensor) -> tuple[Tensor, Tensor]:
    """Best legal action a row: q and legal (B, N) -> value (B,), action (B,); value -inf where nothing is legal."""
    best = torch.where(legal, q, -torch.inf).max(1)
    return best.values, best.indices
