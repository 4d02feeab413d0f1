"""The parts of a tower that a head can look at, by name: ``pooler``, ``cls``, ``mean@6``, ...

Everything here follows from a configuration; no weights and no tower are needed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from transformers import PreTrainedConfig

from unmask.errors import ConfigError, IncompatibleWeights

__all__ = [
    "TOWERS",
    "Feature",
    "Pooling",
    "check_features",
    "feature_width",
    "parse_features",
    "prefix_tokens",
    "vision_config",
]

Pooling = Literal["pooler", "projection", "cls", "mean"]

# Tower class, and whether it has a CLS token, by model_type of its configuration.
TOWERS: Mapping[str, tuple[str, bool]] = {
    "clip_vision_model": ("CLIPVisionModel", True),
    "siglip_vision_model": ("SiglipVisionModel", False),
    "dinov2": ("Dinov2Model", True),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", True),
    "dinov3_vit": ("DINOv3ViTModel", True),
    "vit": ("ViTModel", True),
    "deit": ("DeiTModel", True),
    "beit": ("BeitModel", True),
    "data2vec-vision": ("Data2VecVisionModel", True),
    "vit_msn": ("ViTMSNModel", True),
    "ijepa": ("IJepaModel", False),
    "metaclip_2_vision_model": ("MetaClip2VisionModel", True),
}

# Convolutional towers: the field of their configuration in which the width of the last stage
# stands, alone or as the last of a list.
_WIDTH_FIELD: Mapping[str, str] = {
    "bit": "hidden_sizes",
    "convnext": "hidden_sizes",
    "convnextv2": "hidden_sizes",
    "dinov3_convnext": "hidden_sizes",
    "efficientnet": "hidden_dim",
    "regnet": "hidden_sizes",
    "resnet": "hidden_sizes",
}


@dataclass(frozen=True, slots=True)
class Feature:
    """One part of a feature: a pooling, of the end of the tower or of one block's output."""

    pooling: Pooling
    block: int | None = None
    """1..n, before the final norm; ``None`` is the tower's own output."""


def parse_features(features: Sequence[str]) -> tuple[Feature, ...]:
    """The parts that names such as ``pooler``, ``cls`` or ``mean@6`` stand for.

    Raises:
        ConfigError: If a name is not understood, or none is given.
    """
    if isinstance(features, str) or not features:
        raise ConfigError(f"features is {features!r}; a list of names like ['pooler'] is expected")
    return tuple(_parse(name) for name in features)


def _parse(name: str) -> Feature:
    pooling, at, block = name.partition("@")
    known = get_args(Pooling)
    by_block = at and block.isdecimal() and int(block) >= 1 and pooling in ("cls", "mean")
    if by_block:
        return Feature(pooling, int(block))  # type: ignore[arg-type]  # in ("cls", "mean")
    if at or pooling not in known:
        raise ConfigError(
            f"feature {name!r} is not understood; known are {', '.join(known)}, and cls@k and "
            "mean@k for the output of block k (from 1)"
        )
    return Feature(pooling)  # type: ignore[arg-type]  # in get_args(Pooling)


def vision_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The vision tower's part of a configuration; the configuration itself where it is all vision.

    Raises:
        IncompatibleWeights: If the model takes its pictures in another form than pixels.
    """
    tower = getattr(config, "vision_config", None)
    if tower is None:
        tower = config
    elif getattr(config, "projection_dim", None) is not None:
        tower = copy.deepcopy(tower)
        tower.projection_dim = config.projection_dim
    if tower.model_type == "siglip2_vision_model":
        raise IncompatibleWeights(
            "the NaFlex variant of SigLIP 2 takes patches of varying number, not a picture of "
            "fixed size; use a fixed-size SigLIP 2 (its model_type is 'siglip')"
        )
    return tower


def feature_width(config: PreTrainedConfig, features: Sequence[str]) -> int:
    """Length of the concatenated feature, from the configuration alone.

    Raises:
        ConfigError: If a feature is not understood.
        IncompatibleWeights: If this kind of tower does not have one of them.
    """
    tower = vision_config(config)
    parts = parse_features(features)
    check_features(tower, parts)
    return sum(_width(tower, part) for part in parts)


def prefix_tokens(config: PreTrainedConfig) -> int:
    """How many tokens stand before the patches: CLS, registers and DeiT's distillation token.

    Raises:
        IncompatibleWeights: If the kind of tower is not in the table, since a wrong guess would
            mix them into the patch mean.
    """
    if config.model_type not in TOWERS:
        raise IncompatibleWeights(
            f"the layout of the tokens of a {config.model_type!r} tower is not known; "
            f"use the feature 'pooler', or one of {', '.join(sorted(TOWERS))}"
        )
    has_cls = TOWERS[config.model_type][1]
    registers = int(getattr(config, "num_register_tokens", 0))
    return int(has_cls) + registers + int(config.model_type == "deit")


def check_features(config: PreTrainedConfig, parts: Sequence[Feature]) -> None:
    """Refuse a feature that this kind of tower does not have."""
    for part in parts:
        _check_one(config, part)
    poolings = {part.pooling for part in parts if part.block is None}
    if {"projection", "pooler"} <= poolings:
        raise IncompatibleWeights(
            "'projection' and 'pooler' cannot be joined: the one is a linear map of the other; "
            "use 'pooler'"
        )


def _check_one(config: PreTrainedConfig, part: Feature) -> None:
    kind = config.model_type
    if part.pooling == "projection" and kind != "clip_vision_model":
        raise IncompatibleWeights(
            f"the feature 'projection' belongs to CLIP; a {kind!r} tower has none, use 'pooler'"
        )
    if part.pooling in ("cls", "mean"):
        prefix_tokens(config)
        if part.pooling == "cls" and not TOWERS[kind][1]:
            raise IncompatibleWeights(f"a {kind!r} tower has no CLS token; use 'pooler' or 'mean'")
    if part.block is not None and part.block > config.num_hidden_layers:
        raise IncompatibleWeights(
            f"block {part.block} is asked for, and the tower has {config.num_hidden_layers}"
        )


def _width(config: PreTrainedConfig, part: Feature) -> int:
    if part.pooling == "projection":
        return int(config.projection_dim)
    pooled = getattr(config, "pooler_output_size", None)
    if part.pooling == "pooler" and pooled is not None:
        return int(pooled)
    field = _WIDTH_FIELD.get(config.model_type, "hidden_size")
    width = getattr(config, field, None)
    if width is None:
        raise IncompatibleWeights(
            f"the configuration of a {config.model_type!r} tower has no {field}, so the width of "
            "its feature is unknown"
        )
    if isinstance(width, Sequence):
        width = width[-1]
    return int(width)
