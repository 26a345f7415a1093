"""Tiny random models of every transformers family, saved to folders as published ones are."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from torch import nn

_DECODER = {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32}


def _sam(image_size: int = 64) -> nn.Module:
    return transformers.SamModel(_sam_config(transformers.SamConfig, image_size))


def _sam_hq(image_size: int = 64) -> nn.Module:
    config = _sam_config(transformers.SamHQConfig, image_size)
    config.mask_decoder_config.vit_dim = config.vision_config.hidden_size
    return transformers.SamHQModel(config)


def _sam_config(config_class, image_size):
    vision = {
        "hidden_size": 32, "output_channels": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": image_size, "patch_size": 8, "window_size": 4, "global_attn_indexes": [1], "num_pos_feats": 16,
        "mlp_dim": 64,
    }  # fmt: skip
    prompts = {"hidden_size": 32, "image_size": image_size, "patch_size": 8, "mask_input_channels": 4}
    return config_class(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=dict(_DECODER))


def _sam2(image_size: int = 128) -> nn.Module:
    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [image_size, image_size],
        "num_attention_heads": 1, "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [4, 4, 4, 4],
        "global_attention_blocks": [3],
    }  # fmt: skip
    vision = {
        "backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[image_size // s, image_size // s] for s in (4, 8, 16)],
    }  # fmt: skip
    prompts = {"hidden_size": 32, "image_size": image_size, "patch_size": 16, "mask_input_channels": 4}
    config = transformers.Sam2Config(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=dict(_DECODER)
    )
    return transformers.Sam2Model(config)


def _sam3_tracker(image_size: int = 112) -> nn.Module:
    backbone = {
        "model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": image_size, "patch_size": 14, "window_size": 4,
        "global_attn_indexes": [1], "pretrain_image_size": 56,
    }  # fmt: skip
    cells = image_size // 14
    vision = {
        "model_type": "sam3_vision_model", "backbone_config": backbone, "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[cells * s, cells * s] for s in (4, 2, 1)], "scale_factors": [4.0, 2.0, 1.0],
    }  # fmt: skip
    prompts = {"hidden_size": 32, "image_size": image_size, "patch_size": 14, "mask_input_channels": 4}
    config = transformers.Sam3TrackerConfig(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=dict(_DECODER)
    )
    return transformers.Sam3TrackerModel(config)


MAKERS = {"sam": _sam, "sam_hq": _sam_hq, "sam2": _sam2, "sam3_tracker": _sam3_tracker}


def save_tiny(family: str, folder: Path) -> Path:
    """Make a tiny model of a family with weights that give masks with structure, and save it."""
    torch.manual_seed(0)
    model = MAKERS[family]()
    scale_up(model)
    model.save_pretrained(folder)
    return folder


def scale_up(model: nn.Module) -> None:
    """Weights to a standard deviation of 1 / sqrt(fan in): transformers' own small ones make every mask alike."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and "norm" not in name:
                fan_in = parameter[0].numel() if "embed" not in name else 1
                parameter.normal_(std=fan_in**-0.5)
