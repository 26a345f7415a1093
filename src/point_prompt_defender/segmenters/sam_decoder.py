"""SAM's prompt encoder and mask decoder, arranged so that many point sets of one image decode fast.

The arithmetic is SAM's own (Kirillov et al. 2023, appendix A); its order is ours:

* what depends on the image alone (the projections that the first decoder layer makes of the image tokens, the
  positional encoding) is computed once an image, by `prepare`, and not once a point set;
* an attention between T prompt tokens and P image tokens never projects the P image tokens: the projection
  matrices are multiplied into the few prompt tokens instead, so that each attention is two plain matrix products;
* the transposed convolutions have stride = kernel, so they are matrix products too, and pixels are put in their
  places only once, at the end, in the one channel that is left.

Numbers stay within float rounding of the reference (tests/segmenters/test_mobile_sam.py).

Shapes: B point sets, N points, T = 5 + N + 1 tokens (IoU token, four mask tokens, points, SAM's own "no box"
token), P = 64 * 64 image tokens, D = 256 channels, H = 8 heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIM, HEADS, CROSS_DIM, MASK_TOKENS = 256, 8, 128, 4
CROSS_HEAD_DIM = CROSS_DIM // HEADS


@dataclass(frozen=True)
class PreparedImage:
    """What the decoder needs of one image, whatever the points.

    Attributes:
        tokens: (P, D) image tokens, the "no mask" embedding added.
        key0, value0, query0: (P, 128) projections of the first layer.
        side: the embedding's height and width, in tokens (64 for SAM).
    """

    tokens: Tensor
    key0: Tensor
    value0: Tensor
    query0: Tensor
    side: int


class _Attention(nn.Module):
    """Multi-head attention with SAM's reduced inner width; projections only, the products are made outside."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(DIM, inner)
        self.k_proj = nn.Linear(DIM, inner)
        self.v_proj = nn.Linear(DIM, inner)
        self.out_proj = nn.Linear(inner, DIM)
        self.scale = (inner // HEADS) ** -0.5

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Plain attention, for the few tokens among themselves. (B, T, D) each -> (B, T, D)."""
        q, k, v = (split_heads(x) for x in (self.q_proj(q), self.k_proj(k), self.v_proj(v)))  # (B, H, T, d)
        return self.out_proj(merge_heads(F.scaled_dot_product_attention(q, k, v)))

    def from_image(self, q: Tensor, image: Tensor, image_pe: Tensor) -> Tensor:
        """Tokens look at the image: queries (T, D), image and its encoding (P, D) -> (T, D)."""
        count = len(q)
        weight = self.k_proj.weight.view(HEADS, -1, DIM)  # (H, d, D)
        q = self.q_proj(q).view(count, HEADS, -1).transpose(0, 1) * self.scale  # (H, T, d)
        # The key bias adds the same number to every pixel of a row: softmax does not see it.
        folded = (q @ weight).reshape(HEADS * count, DIM)  # (H*T, D)
        attention = softmax(folded @ (image + image_pe).t())  # (H*T, P)
        seen = (attention @ image).view(HEADS, count, DIM)  # (H, T, D)
        value = seen @ self.v_proj.weight.view(HEADS, -1, DIM).transpose(1, 2)  # (H, T, d)
        return self.out_proj(value.transpose(0, 1).reshape(count, -1) + self.v_proj.bias)

    def to_image(self, k: Tensor, v: Tensor, image: Tensor, image_pe: Tensor) -> Tensor:
        """The image looks at the tokens: keys and values (T, D), image and its encoding (P, D) -> (P, D)."""
        count = len(k)
        k = self.k_proj(k).view(count, HEADS, -1).transpose(0, 1) * self.scale  # (H, T, d)
        folded = (k @ self.q_proj.weight.view(HEADS, -1, DIM)).reshape(HEADS * count, DIM)  # (H*T, D)
        offset = (k @ self.q_proj.bias.view(HEADS, -1, 1)).reshape(HEADS * count)  # the query bias
        scores = F.linear(image + image_pe, folded, offset)  # (P, H*T)
        return self._spread(scores, v)

    def to_image_projected(self, k: Tensor, v: Tensor, query: Tensor) -> Tensor:
        """`to_image` where the image's queries (P, 128) are known already."""
        count = len(k)
        k = self.k_proj(k).view(count, HEADS, -1).transpose(0, 1) * self.scale  # (H, T, d)
        block = torch.block_diag(*k.unbind(0))  # (H*T, 128): each head meets its own slice only
        return self._spread(query @ block.t(), v)

    def _spread(self, scores: Tensor, v: Tensor) -> Tensor:
        count = len(v)
        attention = softmax(scores.view(-1, HEADS, count)).view(-1, HEADS * count)  # (P, H*T)
        v = self.v_proj(v).view(count, HEADS, -1).transpose(0, 1)  # (H, T, d)
        out = self.out_proj.weight.view(DIM, HEADS, -1).permute(1, 2, 0)  # (H, d, D)
        folded = (v @ out).reshape(HEADS * count, DIM)  # (H*T, D)
        return torch.addmm(self.out_proj.bias, attention, folded)  # (P, D)


class _Layer(nn.Module):
    """One two-way layer: tokens among themselves, tokens <- image, MLP, image <- tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = _Attention(DIM)
        self.cross_attn_token_to_image = _Attention(CROSS_DIM)
        self.cross_attn_image_to_token = _Attention(CROSS_DIM)
        self.mlp = nn.ModuleDict({"lin1": nn.Linear(DIM, 2048), "lin2": nn.Linear(2048, DIM)})
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(DIM) for _ in range(4))

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.norm3(x + self.mlp["lin2"](F.relu(self.mlp["lin1"](x))))


class _Head(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(DIM, DIM), nn.Linear(DIM, DIM), nn.Linear(DIM, out)])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[2](F.relu(self.layers[1](F.relu(self.layers[0](x)))))


class SamDecoder(nn.Module):
    """Point sets of one image -> mask logits and predicted IoU. Weights: `load_state_dict` in our names."""

    def __init__(self, input_size: int = 1024, side: int = 64) -> None:
        super().__init__()
        self.input_size, self.side = input_size, side
        self.pe_matrix = nn.Parameter(torch.zeros(2, DIM // 2))
        self.point_embed = nn.Parameter(torch.zeros(2, DIM))  # row 0 negative, row 1 positive
        self.not_a_point_embed = nn.Parameter(torch.zeros(1, DIM))
        self.no_mask_embed = nn.Parameter(torch.zeros(DIM))
        self.output_tokens = nn.Parameter(torch.zeros(1 + MASK_TOKENS, DIM))  # IoU token first
        self.layers = nn.ModuleList([_Layer(), _Layer()])
        self.final_attn = _Attention(CROSS_DIM)
        self.norm_final = nn.LayerNorm(DIM)
        self.up1 = nn.Linear(DIM, 4 * 64)  # 2 x 2 sub-pixels of 64 channels each
        self.up_norm = nn.LayerNorm(64, eps=1e-6)
        self.up2 = nn.Linear(64, 4 * 32)
        self.hyper = nn.ModuleList([_Head(32) for _ in range(MASK_TOKENS)])
        self.iou_head = _Head(MASK_TOKENS)
        self.register_buffer("image_pe", torch.zeros(side * side, DIM), persistent=False)

    @torch.no_grad()
    def finish_loading(self) -> SamDecoder:
        """Compute what follows from the weights alone. Call once after `load_state_dict`."""
        centres = (torch.arange(self.side) + 0.5) / self.side
        yy, xx = torch.meshgrid(centres, centres, indexing="ij")
        grid = torch.stack([xx, yy], -1).reshape(-1, 2).to(self.pe_matrix)
        self.image_pe = self._encode(grid)
        return self.eval().requires_grad_(False)

    def _encode(self, unit_xy: Tensor) -> Tensor:
        """Random Fourier features of positions in [0, 1]: (..., 2) -> (..., D)."""
        # In float32 throughout: bfloat16 would move the points.
        angle = 2 * torch.pi * ((2 * unit_xy.float() - 1) @ self.pe_matrix.float())
        return torch.cat([angle.sin(), angle.cos()], -1).to(self.pe_matrix.dtype)

    def prepare(self, embedding: Tensor) -> PreparedImage:
        """Image embedding (D, side, side) -> what every decode of this image shares."""
        tokens = embedding.flatten(1).t().contiguous() + self.no_mask_embed  # (P, D)
        first = self.layers[0]
        located = tokens + self.image_pe
        return PreparedImage(
            tokens=tokens,
            key0=first.cross_attn_token_to_image.k_proj(located),
            value0=first.cross_attn_token_to_image.v_proj(tokens),
            query0=first.cross_attn_image_to_token.q_proj(located),
            side=self.side,
        )

    def embed_points(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Coords (B, N, 2) float xy in the model's input frame, labels (B, N) in {0, 1} -> tokens (B, 5+N+1, D)."""
        batch = len(coords)
        points = self._encode((coords + 0.5) / self.input_size) + self.point_embed[labels]
        fixed = self.output_tokens.expand(batch, -1, -1)
        return torch.cat([fixed, points, self.not_a_point_embed.expand(batch, 1, -1)], 1)

    def forward(self, image: PreparedImage, coords: Tensor, labels: Tensor, masks: slice) -> tuple[Tensor, Tensor]:
        """Decode B point sets of equal length.

        Args:
            image: from `prepare`.
            coords: (B, N, 2) float, xy in pixels of the model's square input.
            labels: (B, N) long, 1 positive, 0 negative.
            masks: which of the four mask tokens: `slice(0, 1)` the single mask, `slice(1, 4)` the three.

        Returns:
            Logits (B, M, 4*side, 4*side) float and predicted IoU (B, M) float.
        """
        tokens = self.embed_points(coords, labels)
        first = self.layers[0]
        # Tokens among themselves can go in one batch: the first layer's queries take no part of the image.
        start = first.norm1(first.self_attn(tokens, tokens, tokens))
        results = [self._decode_one(image, q, pe, masks) for q, pe in zip(start, tokens, strict=True)]
        return torch.stack([r[0] for r in results]), torch.stack([r[1] for r in results])

    def _decode_one(self, image: PreparedImage, q: Tensor, pe: Tensor, masks: slice) -> tuple[Tensor, Tensor]:
        """One point set: queries after the first self-attention (T, D) and their encoding (T, D)."""
        first, second = self.layers
        looked = first.cross_attn_token_to_image
        scores = split_heads(looked.q_proj(q + pe) * looked.scale) @ split_heads(image.key0).mT  # (H, T, P)
        attended = softmax(scores) @ split_heads(image.value0)  # (H, T, d)
        q = first.norm2(q + looked.out_proj(merge_heads(attended)))
        q = first.feed_forward(q)
        keys = image.tokens + first.cross_attn_image_to_token.to_image_projected(q + pe, q, image.query0)
        keys = first.norm4(keys)

        located = q + pe
        q = second.norm1(q + second.self_attn(located[None], located[None], q[None])[0])
        q = second.norm2(q + second.cross_attn_token_to_image.from_image(q + pe, keys, self.image_pe))
        q = second.feed_forward(q)
        keys = second.norm4(keys + second.cross_attn_image_to_token.to_image(q + pe, q, keys, self.image_pe))

        q = self.norm_final(q + self.final_attn.from_image(q + pe, keys, self.image_pe))
        return self._upscale(keys, q[1 : 1 + MASK_TOKENS], masks), self.iou_head(q[0])[masks]

    def _upscale(self, keys: Tensor, mask_tokens: Tensor, masks: slice) -> Tensor:
        """Image tokens (P, D) and mask tokens (4, D) -> logits (M, 4*side, 4*side)."""
        x = self.up1(keys).view(-1, 64)  # (P*4, 64): sub-pixel (dy, dx) varies fastest
        x = F.gelu(self.up_norm(x))
        x = F.gelu(self.up2(x)).view(-1, 32)  # (P*16, 32)
        wanted = range(MASK_TOKENS)[masks]
        kernels = torch.stack([self.hyper[i](mask_tokens[i]) for i in wanted])  # (M, 32)
        logits = kernels @ x.t()  # (M, P*16)
        side = self.side
        logits = logits.view(-1, side, side, 2, 2, 2, 2)  # M, y, x, dy1, dx1, dy2, dx2
        return logits.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, 4 * side, 4 * side)


def split_heads(x: Tensor) -> Tensor:
    """(..., T, D) -> (..., H, T, D/H)."""
    return x.unflatten(-1, (HEADS, -1)).transpose(-3, -2)


def merge_heads(x: Tensor) -> Tensor:
    """(..., H, T, d) -> (..., T, H*d)."""
    return x.transpose(-3, -2).flatten(-2)


def softmax(scores: Tensor) -> Tensor:
    """Softmax over the last axis in float32, whatever the type: more exact in bfloat16, and faster."""
    return scores.float().softmax(-1).to(scores.dtype)
