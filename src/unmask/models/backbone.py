"""Vision towers of transformers, and the features a head can take from them.

Only the tower is ever built or loaded: a CLIP's text half costs neither time nor memory here.
"""

from __future__ import annotations

import copy
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

# The Auto classes are reached as attributes, at call time: importing them makes _transformers
# register our own, which needs this module complete.
import transformers
from torch import Tensor, nn
from transformers import PreTrainedConfig

from unmask.errors import ConfigError, IncompatibleWeights
from unmask.models.weights import load_strictly, read_config

__all__ = [
    "Feature",
    "Pooling",
    "blocks",
    "build_backbone",
    "extract",
    "feature_width",
    "load_backbone",
    "parse_features",
    "prefix_tokens",
    "tower_config_for",
    "truncate",
    "vision_config",
]

Pooling = Literal["pooler", "projection", "cls", "mean"]

# Tower class, and whether it has a CLS token, by model_type of its configuration.
_TOWERS: Mapping[str, tuple[str, bool]] = {
    "clip_vision_model": ("CLIPVisionModel", True),
    "siglip_vision_model": ("SiglipVisionModel", False),
    "dinov2": ("Dinov2Model", True),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", True),
    "dinov3_vit": ("DINOv3ViTModel", True),
    "vit": ("ViTModel", True),
}
# These take another input size than their position grid only when told to interpolate it; the
# DINO towers always do.
_INTERPOLATE_ON_DEMAND = frozenset({"clip_vision_model", "siglip_vision_model", "vit"})
# Keys of a published file that a tower leaves aside on purpose: the text half, the projections
# and heads of the model around it, and a buffer that older versions of transformers saved.
_LEFT_ASIDE = re.compile(
    r"^(text_model\.|text_projection\b|visual_projection\b|logit_scale$|logit_bias$"
    r"|(vision_model\.)?head\.|classifier\.|lm_head\.|(\w+\.)?pooler\.|.*\bposition_ids$)"
)
_BLOCK_KEY = re.compile(r"\blayers?\.(\d+)\.")


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


def tower_config_for(config: PreTrainedConfig, features: Sequence[str]) -> PreTrainedConfig:
    """The configuration of the smallest tower that gives ``features``.

    Blocks after the last one asked for and pooling heads that nobody asked for are left out.

    Raises:
        ConfigError: If a feature is not understood.
        IncompatibleWeights: If this kind of tower does not have one of them.
    """
    parts = parse_features(features)
    tower = copy.deepcopy(vision_config(config))
    tower.dtype = None
    _check(tower, parts)
    poolings = {part.pooling for part in parts}
    if tower.model_type == "siglip_vision_model" and "pooler" not in poolings:
        tower.vision_use_head = False
    last = [part.block for part in parts if part.block is not None]
    if len(last) == len(parts) and max(last) < tower.num_hidden_layers:
        return _with_layers(tower, max(last))
    return tower


def feature_width(config: PreTrainedConfig, features: Sequence[str]) -> int:
    """Length of the concatenated feature, from the configuration alone.

    Raises:
        ConfigError: If a feature is not understood.
        IncompatibleWeights: If this kind of tower does not have one of them.
    """
    tower = vision_config(config)
    parts = parse_features(features)
    _check(tower, parts)
    return sum(_width(tower, part) for part in parts)


def prefix_tokens(config: PreTrainedConfig) -> int:
    """How many tokens stand before the patches: CLS and registers.

    Raises:
        IncompatibleWeights: If the kind of tower is not in the table, since a wrong guess would
            mix them into the patch mean.
    """
    if config.model_type not in _TOWERS:
        raise IncompatibleWeights(
            f"the layout of the tokens of a {config.model_type!r} tower is not known; "
            f"use the feature 'pooler', or one of {', '.join(sorted(_TOWERS))}"
        )
    has_cls = _TOWERS[config.model_type][1]
    return int(has_cls) + int(getattr(config, "num_register_tokens", 0))


def build_backbone(config: PreTrainedConfig, features: Sequence[str]) -> nn.Module:
    """A tower without weights: what it holds is random.

    Raises:
        ConfigError: If a feature is not understood.
        IncompatibleWeights: If this kind of tower does not have one of them.
    """
    tower = tower_config_for(config, features)
    kind, options = _class_of(tower, features)
    model = (
        transformers.AutoModel.from_config(tower)
        if kind is transformers.AutoModel
        else kind(tower, **options)
    )
    model.eval()
    return model  # type: ignore[no-any-return]  # transformers is untyped for mypy


def load_backbone(folder: Path, features: Sequence[str]) -> nn.Module:
    """The tower of a transformers model folder, float32, in evaluation mode.

    Raises:
        ConfigError: If a feature is not understood.
        CorruptWeights: If the weights file is damaged.
        IncompatibleWeights: If weights are missing, are left over, or do not fit.
    """
    tower = tower_config_for(read_config(folder), features)
    kind, options = _class_of(tower, features)
    last = tower.num_hidden_layers
    model = load_strictly(
        kind, folder, tower, may_be_left=lambda key: _may_be_left(key, last), **options
    )
    model.eval()
    return model


def blocks(tower: nn.Module) -> nn.ModuleList:
    """The transformer blocks, first to last, wherever this version of transformers keeps them.

    Raises:
        IncompatibleWeights: If there is no list of as many blocks as the configuration says.
    """
    count = tower.config.num_hidden_layers  # type: ignore[union-attr]  # a PreTrainedModel
    for module in tower.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise IncompatibleWeights(f"{type(tower).__name__} has no list of {count} blocks")


def truncate(tower: nn.Module, layers: int) -> nn.Module:
    """The same tower, ending after ``layers`` blocks; changed in place.

    Raises:
        ConfigError: If it does not have that many.
    """
    kept = blocks(tower)
    if not 1 <= layers <= len(kept):
        raise ConfigError(f"a tower of {len(kept)} blocks cannot be cut after block {layers}")
    del kept[layers:]
    config = _with_layers(tower.config, layers)  # type: ignore[arg-type]  # a PreTrainedModel
    for module in tower.modules():
        if hasattr(module, "config"):
            module.config = config
    return tower


def extract(tower: nn.Module, pixels: Tensor, features: Sequence[str]) -> Tensor:
    """The concatenated feature ``(B, width)``, float32, from pixels ``(B, 3, H, W)``.

    Raises:
        ConfigError: If a feature is not understood.
        IncompatibleWeights: If this tower does not have one of them.
    """
    parts = parse_features(features)
    config: Any = tower.config
    _check(config, parts)
    pixels = pixels.to(next(tower.parameters()).dtype)
    options: dict[str, bool] = {}
    if config.model_type in _INTERPOLATE_ON_DEMAND:
        options["interpolate_pos_encoding"] = tuple(pixels.shape[-2:]) != _sides(config.image_size)
    taps = _Taps(tower, parts)
    try:
        output = tower(pixels, **options)
    finally:
        taps.remove()
    return torch.cat(
        [
            taps.taken[part] if part.block is not None else _of_output(output, part, config)
            for part in parts
        ],
        dim=-1,
    )


class _Taps:
    """Pools the output of blocks as they run, so that their tokens need not be kept."""

    def __init__(self, tower: nn.Module, parts: Sequence[Feature]) -> None:
        self.taken: dict[Feature, Tensor] = {}
        self._config: Any = tower.config
        self._thread = threading.get_ident()
        wanted = {part for part in parts if part.block is not None}
        layers = blocks(tower) if wanted else nn.ModuleList()
        self._handles = [
            layers[part.block - 1].register_forward_hook(self._tap(part))
            for part in wanted
            if part.block is not None
        ]

    def _tap(self, part: Feature) -> Any:  # noqa: ANN401  # torch's hook signature
        def tap(_module: nn.Module, _inputs: object, output: Any) -> None:  # noqa: ANN401  # as above
            # Another thread that shares the tower has its own taps.
            if threading.get_ident() == self._thread:
                tokens = output[0] if isinstance(output, tuple) else output
                self.taken[part] = _pool(tokens, part.pooling, self._config)

        return tap

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


def _pool(tokens: Tensor, pooling: Pooling, config: PreTrainedConfig) -> Tensor:
    """``(B, D)`` float32 from tokens ``(B, N, D)``."""
    if pooling == "cls":
        return tokens[:, 0].float()
    return tokens[:, prefix_tokens(config) :].float().mean(dim=1)


def _of_output(output: Any, part: Feature, config: PreTrainedConfig) -> Tensor:  # noqa: ANN401  # untyped
    if part.pooling == "projection":
        return output.image_embeds.float()  # type: ignore[no-any-return]  # untyped
    if part.pooling != "pooler":
        return _pool(output.last_hidden_state, part.pooling, config)
    pooled = getattr(output, "pooler_output", None)
    if pooled is None and getattr(output, "image_embeds", None) is not None:
        raise IncompatibleWeights("this tower was built for its projection and hides its pooler")
    if pooled is None or pooled.ndim != 2:
        raise IncompatibleWeights(
            f"a {config.model_type!r} tower gives no pooled feature; use 'mean' or 'cls'"
        )
    return pooled.float()  # type: ignore[no-any-return]  # untyped


def _check(config: PreTrainedConfig, parts: Sequence[Feature]) -> None:
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
        if part.pooling == "cls" and not _TOWERS[kind][1]:
            raise IncompatibleWeights(f"a {kind!r} tower has no CLS token; use 'pooler' or 'mean'")
    if part.block is not None and part.block > config.num_hidden_layers:
        raise IncompatibleWeights(
            f"block {part.block} is asked for, and the tower has {config.num_hidden_layers}"
        )


def _width(config: PreTrainedConfig, part: Feature) -> int:
    if part.pooling == "projection":
        return int(config.projection_dim)
    if part.pooling == "pooler" and config.model_type == "vit":
        return int(getattr(config, "pooler_output_size", None) or config.hidden_size)
    width = getattr(config, "hidden_size", None)
    if width is None:
        raise IncompatibleWeights(
            f"the configuration of a {config.model_type!r} tower has no hidden_size, so the "
            "width of its feature is unknown"
        )
    return int(width)


def _class_of(config: PreTrainedConfig, features: Sequence[str]) -> tuple[Any, dict[str, bool]]:
    """The transformers class of a tower, and the options it is built with."""
    if config.model_type not in _TOWERS:
        return transformers.AutoModel, {}
    name = _TOWERS[config.model_type][0]
    if "projection" in features:
        name = "CLIPVisionModelWithProjection"
    options = {"add_pooling_layer": "pooler" in features} if config.model_type == "vit" else {}
    return getattr(transformers, name), options


def _with_layers(config: PreTrainedConfig, layers: int) -> PreTrainedConfig:
    """A copy with fewer blocks; stage names, which count them, are made again."""
    values = config.to_dict()
    for key in ("out_features", "out_indices", "stage_names"):
        values.pop(key, None)
    values["num_hidden_layers"] = layers
    return type(config)(**values)


def _may_be_left(key: str, layers: int) -> bool:
    block = _BLOCK_KEY.search(key)
    return bool(_LEFT_ASIDE.match(key)) or (block is not None and int(block[1]) >= layers)


def _sides(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
