"""The configuration of a CLIP vision tower, from the shapes of its tensors.

Width, blocks, patch, input size and MLP stand in the shapes. The number of heads and the
activation do not: for OpenAI's own models they are known, for others a configuration must be given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

# Reached as attributes, see backbone.py.
import transformers
from transformers import PreTrainedConfig

from unmask.errors import IncompatibleWeights
from unmask.models.features import vision_config

__all__ = ["clip_config", "clip_name"]

_LAYER = re.compile(r"encoder\.layers\.(\d+)\.")
_CLASS = "embeddings.class_embedding"
_PATCH = "embeddings.patch_embedding.weight"
_POSITIONS = "embeddings.position_embedding.weight"
_MLP = "encoder.layers.0.mlp.fc1.weight"


@dataclass(frozen=True, slots=True)
class _Geometry:
    """What the shapes say; all in the units of ``CLIPVisionConfig``."""

    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    patch_size: int
    image_size: int
    num_channels: int = 3


# The vision towers that OpenAI published as transformers models, with the width of their
# projection (the published config.json of each). All have heads of 64 channels and quick_gelu.
_OPENAI: Mapping[_Geometry, tuple[str, int]] = {
    _Geometry(768, 12, 3072, 32, 224): ("ViT-B/32", 512),
    _Geometry(768, 12, 3072, 16, 224): ("ViT-B/16", 512),
    _Geometry(1024, 24, 4096, 14, 224): ("ViT-L/14", 768),
    _Geometry(1024, 24, 4096, 14, 336): ("ViT-L/14@336px", 768),
}
_HEAD_WIDTH = 64


def clip_config(
    shapes: Mapping[str, torch.Size], *, base_config: PreTrainedConfig | None = None
) -> PreTrainedConfig:
    """A ``CLIPVisionConfig`` for a tower with these tensors.

    Args:
        shapes: By key as ``CLIPVisionModel`` has it, without any prefix: ``embeddings.*``,
            ``encoder.layers.N.*``. Others are looked past.
        base_config: Of a CLIP, whole or its vision half, of the same geometry: says what shapes
            cannot. Without it only the geometries of OpenAI's CLIP are known.

    Raises:
        IncompatibleWeights: If the shapes are not those of a CLIP vision tower, are of a geometry
            that is not known, or contradict ``base_config``.
    """
    found = _geometry(shapes)
    if base_config is not None:
        return _checked(found, vision_config(base_config))
    if found not in _OPENAI:
        known = ", ".join(name for name, _ in _OPENAI.values())
        raise IncompatibleWeights(
            f"the tower is {_in_words(found)}, which is none of OpenAI's CLIP models ({known}), so "
            "its number of attention heads and its activation are unknown. Give a model folder or "
            "Hub id with the same tower, whose config.json says them (--base)."
        )
    return transformers.CLIPVisionConfig(
        **_fields(found),
        num_attention_heads=found.hidden_size // _HEAD_WIDTH,
        hidden_act="quick_gelu",
        projection_dim=_OPENAI[found][1],
    )


def clip_name(config: PreTrainedConfig) -> str | None:
    """``ViT-L/14`` and the like for the geometries of OpenAI's CLIP, else None."""
    fields = {field: getattr(config, field) for field in _Geometry.__dataclass_fields__}
    known = _OPENAI.get(_Geometry(**fields))
    return None if known is None else known[0]


def _geometry(shapes: Mapping[str, torch.Size]) -> _Geometry:
    (width,) = _shape(shapes, _CLASS, 1)
    _, channels, patch, _ = _shape(shapes, _PATCH, 4)
    tokens, _ = _shape(shapes, _POSITIONS, 2)
    mlp, _ = _shape(shapes, _MLP, 2)
    side = math.isqrt(tokens - 1)
    if side * side != tokens - 1 or side == 0:
        raise IncompatibleWeights(
            f"{_POSITIONS} has {tokens} positions; one and a square number of patches were expected"
        )
    layers = {int(found[1]) for key in shapes if (found := _LAYER.match(key))}
    return _Geometry(width, max(layers) + 1, mlp, patch, side * patch, channels)


def _shape(shapes: Mapping[str, torch.Size], key: str, dimensions: int) -> tuple[int, ...]:
    if key not in shapes:
        some = ", ".join(sorted(shapes)[:4]) or "nothing"
        raise IncompatibleWeights(
            f"{key} is missing, so this is no CLIP vision tower, or not a whole one; found {some}"
        )
    shape = tuple(shapes[key])
    if len(shape) != dimensions or 0 in shape:
        raise IncompatibleWeights(
            f"{key} has the shape {list(shape)}; {dimensions} positive dimensions were expected"
        )
    return shape


def _checked(found: _Geometry, config: PreTrainedConfig) -> PreTrainedConfig:
    if config.model_type != "clip_vision_model":
        raise IncompatibleWeights(
            f"the base is a {config.model_type!r} model, and the weights are of a CLIP vision "
            "tower; give the CLIP that they were trained from (--base)"
        )
    wrong = [
        f"{field} {value} in the weights, {getattr(config, field)} in the base"
        for field, value in _fields(found).items()
        if getattr(config, field) != value
    ]
    if wrong:
        raise IncompatibleWeights(
            f"the base is another tower than the weights are of: {'; '.join(wrong)}. Give the CLIP "
            "that they were trained from (--base)."
        )
    return type(config)(**config.to_dict())


def _fields(found: _Geometry) -> dict[str, int]:
    return {field: getattr(found, field) for field in _Geometry.__dataclass_fields__}


def _in_words(found: _Geometry) -> str:
    return (
        f"{found.hidden_size} wide with {found.num_hidden_layers} blocks (MLP "
        f"{found.intermediate_size}, patch {found.patch_size}, input {found.image_size} px)"
    )
