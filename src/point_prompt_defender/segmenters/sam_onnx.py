"""Read the weights of a SAM decoder out of the ONNX file that segment-anything's export script makes."""

from __future__ import annotations

import os
import re

import torch
from torch import Tensor

from .sam_decoder import MASK_TOKENS

# Linear layers are named after a number in such a file ("onnx::MatMul_1926"); the node that uses each of them
# still carries its scope ("/transformer/layers.0/self_attn/q_proj/MatMul"), which says what it is.
_RENAME = (
    (r"^(mask_decoder\.)?transformer\.", ""),
    (r"^mask_decoder\.", ""),
    (r"^final_attn_token_to_image", "final_attn"),
    (r"^norm_final_attn", "norm_final"),
    (r"^iou_prediction_head", "iou_head"),
    (r"^output_hypernetworks_mlps", "hyper"),
)


def read_decoder_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read an exported SAM decoder into the names of `SamDecoder`.

    Args:
        path: ONNX file made by segment-anything's export (prompt encoder and mask decoder together).

    Returns:
        A complete state dict for `SamDecoder`.

    Raises:
        KeyError: the file is some other network.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(os.fspath(path)).graph
    raw = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    constants = {node.name: [raw[i] for i in node.input if i in raw] for node in graph.node}

    state: dict[str, Tensor] = {}
    for name, value in raw.items():
        if name.startswith("mask_decoder.") and "output_upscaling" not in name:
            state[_our_name(name)] = value
    for name, values in constants.items():
        if name.startswith("/transformer/") and name.endswith("/MatMul") and values:
            scope = name.removeprefix("/").removesuffix("/MatMul").replace("/", ".")
            state[_our_name(scope) + ".weight"] = values[0].t().contiguous()

    for index, name in ((0, "up1"), (3, "up2")):
        weight = raw[f"mask_decoder.output_upscaling.{index}.weight"]  # (in, out, 2, 2)
        state[f"{name}.weight"] = weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()
        state[f"{name}.bias"] = raw[f"mask_decoder.output_upscaling.{index}.bias"].repeat(4)
    norm = "/output_upscaling/output_upscaling.1/"
    state["up_norm.weight"] = constants[norm + "Mul"][0].flatten()
    state["up_norm.bias"] = constants[norm + "Add_1"][0].flatten()

    encoder = "model.prompt_encoder."
    state["pe_matrix"] = raw[encoder + "pe_layer.positional_encoding_gaussian_matrix"]
    state["point_embed"] = torch.cat([raw[encoder + f"point_embeddings.{i}.weight"] for i in (0, 1)])
    state["not_a_point_embed"] = raw[encoder + "not_a_point_embed.weight"]
    # Two embeddings were folded into nameless constants; their shapes are theirs alone.
    state["no_mask_embed"] = next(v for v in raw.values() if v.shape == (1, 256, 1, 1)).flatten()
    state["output_tokens"] = next(v for v in raw.values() if v.shape == (1, 1 + MASK_TOKENS, 256))[0]
    return state


def _our_name(name: str) -> str:
    for pattern, replacement in _RENAME:
        name = re.sub(pattern, replacement, name)
    return name
