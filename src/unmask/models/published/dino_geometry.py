"""The configuration of a DINO tower, from the shapes of its tensors.

As of :mod:`unmask.models.published.clip_geometry`: what shapes do not say is known for the models
that were published, and must be given for others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

# Reached as attributes, see backbone.py.
import transformers
from transformers import PreTrainedConfig

from unmask.errors import IncompatibleWeights
from unmask.models.features import vision_config

__all__ = ["DINO", "dino_config"]

DINO = ("dinov2", "dinov2_with_registers", "dinov3_vit")
"""Kinds of DINO towers."""

_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")
_MLP = re.compile(r"(?:^|\.)layers?\.0\.mlp\.up_proj\.weight$")
_PATCH = "embeddings.patch_embeddings.weight"
_REGISTERS = "embeddings.register_tokens"

# Width, blocks, MLP, patch and registers of the DINOv3 ViTs published with a plain MLP (their
# config.json); all have heads of 64 channels and are trained up to 224 px.
_DINOV3: Mapping[tuple[int, ...], str] = {
    (384, 12, 1536, 16, 4): "ViT-S/16",
    (768, 12, 3072, 16, 4): "ViT-B/16",
    (1024, 24, 4096, 16, 4): "ViT-L/16",
}
_HEAD_WIDTH = 64


def dino_config(
    shapes: Mapping[str, torch.Size], *, base_config: PreTrainedConfig | None = None
) -> PreTrainedConfig:
    """The configuration of a DINO tower with these tensors.

    Args:
        shapes: By key as published files have it, without any prefix.
        base_config: Of a DINOv2 or DINOv3 of the same geometry. Without it only DINOv3's ViT-S,
            ViT-B and ViT-L are known.

    Raises:
        IncompatibleWeights: If the shapes are of no geometry that is known, or ``base_config`` is
            of another kind of model.
    """
    if base_config is not None:
        config = vision_config(base_config)
        if config.model_type not in DINO:
            raise IncompatibleWeights(
                f"the base is a {config.model_type!r} model, and the weights are of a DINO tower; "
                "give the DINO that they were trained from (--base)"
            )
        return type(config)(**config.to_dict())
    found = _geometry(shapes)
    if found not in _DINOV3:
        raise IncompatibleWeights(
            f"the tower is none of DINOv3's {', '.join(_DINOV3.values())} by the shapes of its "
            "tensors, so its number of attention heads and its activation are unknown. Give a "
            "model folder or Hub id with the same tower, whose config.json says them (--base)."
        )
    width, blocks, mlp, patch, registers = found
    return transformers.DINOv3ViTConfig(
        hidden_size=width,
        num_hidden_layers=blocks,
        intermediate_size=mlp,
        patch_size=patch,
        num_register_tokens=registers,
        num_attention_heads=width // _HEAD_WIDTH,
        image_size=224,
    )


def _geometry(shapes: Mapping[str, torch.Size]) -> tuple[int, ...]:
    """Width, blocks, MLP, patch and registers; 0 for what the shapes do not say."""
    blocks = {int(found[1]) for key in shapes if (found := _LAYER.search(key))}
    mlps = [shape[0] for key, shape in shapes.items() if _MLP.search(key)]
    patch = shapes.get(_PATCH, torch.Size())
    registers = shapes.get(_REGISTERS, torch.Size())
    if len(patch) != 4 or len(registers) != 3 or len(mlps) != 1 or not blocks:
        return ()
    return patch[0], max(blocks) + 1, mlps[0], patch[2], registers[1]
