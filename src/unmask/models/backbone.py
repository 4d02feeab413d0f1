"""Vision towers of transformers, and the features a head can take from them.

Only the tower is ever built or loaded: a CLIP's text half costs neither time nor memory here.
"""

from __future__ import annotations

import copy
import re
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

# The Auto classes are reached as attributes, at call time: importing them makes _transformers
# register our own, which needs this module complete.
import transformers
from torch import Tensor, nn
from transformers import PreTrainedConfig

from unmask.errors import ConfigError, IncompatibleWeights, UnmaskError
from unmask.models.features import (
    TOWERS,
    Feature,
    Pooling,
    check_features,
    feature_width,
    parse_features,
    prefix_tokens,
    vision_config,
)
from unmask.models.weights import NONSENSE, load_strictly, read_config, reason

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
    "tower_class",
    "tower_config_for",
    "truncate",
    "vision_config",
]

# These take another input size than their position grid only when told to interpolate it; the
# DINO towers always do.
_INTERPOLATE_ON_DEMAND = frozenset(
    {
        "beit",
        "clip_vision_model",
        "data2vec-vision",
        "deit",
        "ijepa",
        "metaclip_2_vision_model",
        "siglip_vision_model",
        "vit",
        "vit_msn",
    }
)
# These are built with the layer that makes their pooler only when told to.
_POOLER_ON_DEMAND = frozenset({"beit", "data2vec-vision", "deit", "ijepa", "vit"})
# Keys of a published file that a tower leaves aside on purpose: the text half, the projections
# and heads of the model around it, and a buffer that older versions of transformers saved.
_LEFT_ASIDE = re.compile(
    r"^(text_model\.|text_projection\b|visual_projection\b|logit_scale$|logit_bias$"
    r"|(vision_model\.)?head\.|classifier\.|lm_head\.|(\w+\.)?pooler\.|.*\bposition_ids$)"
)
_BLOCK_KEY = re.compile(r"\blayers?\.(\d+)\.")


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
    check_features(tower, parts)
    poolings = {part.pooling for part in parts}
    if tower.model_type == "siglip_vision_model" and "pooler" not in poolings:
        tower.vision_use_head = False
    last = [part.block for part in parts if part.block is not None]
    if len(last) == len(parts) and max(last) < tower.num_hidden_layers:
        return _with_layers(tower, max(last))
    return tower


def build_backbone(config: PreTrainedConfig, features: Sequence[str]) -> nn.Module:
    """A tower without weights: what it holds is random.

    Raises:
        ConfigError: If a feature is not understood, or no tower can be built of the configuration.
        IncompatibleWeights: If this kind of tower does not have one of them.
    """
    tower = tower_config_for(config, features)
    kind, options = tower_class(tower, features)
    try:
        model = (
            transformers.AutoModel.from_config(tower, trust_remote_code=False)
            if kind is transformers.AutoModel
            else kind(tower, **options)
        )
    except UnmaskError:
        raise
    except (*NONSENSE, RuntimeError) as error:
        raise ConfigError(
            f"no {tower.model_type!r} tower can be built of its configuration: {reason(error)}"
        ) from error
    model.eval()
    return model  # type: ignore[no-any-return]  # transformers is untyped for mypy


def load_backbone(
    folder: Path, features: Sequence[str], *, config: PreTrainedConfig | None = None
) -> nn.Module:
    """The tower of a transformers model folder, float32, in evaluation mode.

    Args:
        folder: The model folder.
        features: What is asked of the tower; blocks after the last one needed are left out.
        config: What to build of the folder's weights, instead of what its own configuration says.

    Raises:
        ConfigError: If a feature is not understood.
        CorruptWeights: If the weights file is damaged.
        IncompatibleWeights: If weights are missing, are left over, or do not fit.
    """
    tower = tower_config_for(read_config(folder) if config is None else config, features)
    kind, options = tower_class(tower, features)
    last = int(getattr(tower, "num_hidden_layers", sys.maxsize))
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
    config = _with_layers(tower.config, layers)
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
    check_features(config, parts)
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
    if pooled is not None and pooled.ndim == 4 and pooled.shape[2:] == (1, 1):
        pooled = pooled.flatten(1)  # (B, C, 1, 1), as convolutional towers leave it
    if pooled is None and getattr(output, "image_embeds", None) is not None:
        raise IncompatibleWeights("this tower was built for its projection and hides its pooler")
    if pooled is None or pooled.ndim != 2:
        raise IncompatibleWeights(
            f"a {config.model_type!r} tower gives no pooled feature; use 'mean' or 'cls'"
        )
    return pooled.float()  # type: ignore[no-any-return]  # untyped


def tower_class(config: PreTrainedConfig, features: Sequence[str]) -> tuple[Any, dict[str, bool]]:
    """The transformers class of a tower, and the options it is built with.

    Args:
        config: Of the tower, as :func:`tower_config_for` gives it.
        features: What will be asked of it.
    """
    if config.model_type not in TOWERS:
        return transformers.AutoModel, {}
    name = TOWERS[config.model_type][0]
    if "projection" in features:
        name = "CLIPVisionModelWithProjection"
    if config.model_type not in _POOLER_ON_DEMAND:
        return getattr(transformers, name), {}
    return getattr(transformers, name), {"add_pooling_layer": "pooler" in features}


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
