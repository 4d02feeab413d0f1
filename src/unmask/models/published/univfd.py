"""UnivFD: one linear layer on the projected feature of a frozen CLIP, and nothing else.

The published file holds the layer alone, ``weight (1, width)`` and ``bias (1,)``; the CLIP comes
from elsewhere. Its feature is not normalised, and the sigmoid of the one output is P(fake).
Source: Ojha, Li, Lee, "Towards Universal Fake Image Detectors that Generalize Across Generative
Models", CVPR 2023, and the key names of its released weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig

from unmask.errors import IncompatibleWeights
from unmask.models.backbone import load_backbone
from unmask.models.catalog import find_published
from unmask.models.configuration import (
    BackboneSource,
    DetectorSpec,
    HeadSpec,
    backbone_config_of,
)
from unmask.models.features import vision_config
from unmask.models.heads import Head
from unmask.models.modeling import assemble
from unmask.models.published.clip_geometry import clip_name
from unmask.models.published.imported import Imported, KeyFate
from unmask.models.published.tensor_file import read_tensor_file
from unmask.models.published.tensors import named, some, sound
from unmask.models.weights import file_sha256, read_config, weights_files, weights_sha256
from unmask.preprocess import Preprocess

__all__ = ["read_univfd"]

_PROJECTION = "visual_projection.weight"
# The layer by itself, or as the layer `fc` of the published model; under `model` in files of the
# training script.
_NAMES = ({"weight", "bias"}, {"fc.weight", "fc.bias"})
_WRAPPER = "model"


def read_univfd(path: Path, base: Path) -> Imported:
    """The detector of a published head on a CLIP, and the means to check it.

    Args:
        path: The file: the layer's ``weight`` and ``bias``, bare or as ``fc``, or under ``model``.
        base: Folder of the CLIP that the head was trained on; published heads are on ViT-L/14.

    Raises:
        MissingSource: If there is no such file.
        CorruptWeights: If a file is damaged, or holds values that are not finite.
        IncompatibleWeights: If the file is no such head, or belongs to another CLIP.
        ConfigError: If ``base`` has no readable configuration.
    """
    prefix, weight, bias = _layer(path)
    config = _clip_config(base)
    features = (_feature(path, weight.shape[1], base, config),)
    known = _published_base(path, base, config)
    tower = load_backbone(base, features)
    head = _head(weight, bias)
    size = int(config.image_size)
    spec = DetectorSpec(
        backbone_config=backbone_config_of(tower.config),
        features=features,
        head=HeadSpec(outputs=1),
        # The published evaluation cuts the centre out and scales nothing.
        preprocess=Preprocess(size, size, "none"),
        domain="image",
        backbone_source=BackboneSource(base.absolute().name, None, weights_sha256(base)),
    )
    return Imported(
        kind="univfd",
        model=assemble(tower, head, spec),
        keys=tuple(
            KeyFate(f"{prefix}{leaf}", f"head.linear.{leaf}", "") for leaf in ("weight", "bias")
        ),
        original=_original(path, base, features),
        files=(path,),
        notes=_notes(size, features, base, known=known),
        trained={f"head.{name}": value for name, value in head.state_dict().items()},
    )


def _layer(path: Path) -> tuple[str, Tensor, Tensor]:
    """What stands before the names in the file, the weight and the bias, checked."""
    content: Mapping[str, object] = read_tensor_file(path)
    prefix = ""
    inner = content.get(_WRAPPER)
    if isinstance(inner, Mapping):
        content, prefix = named(path, inner), f"{_WRAPPER}."
    if set(content) not in _NAMES:
        raise IncompatibleWeights(_not_a_head(path, content))
    start = "fc." if "fc.weight" in content else ""
    weight, bias = (
        sound(path, f"{prefix}{start}{leaf}", content[f"{start}{leaf}"])
        for leaf in ("weight", "bias")
    )
    if weight.ndim != 2 or weight.shape[0] != 1 or tuple(bias.shape) != (1,):
        raise IncompatibleWeights(
            f"{path}: weight and bias have the shapes {list(weight.shape)} and "
            f"{list(bias.shape)}; [1, width] and [1], one output, were expected"
        )
    return f"{prefix}{start}", weight.float(), bias.float()


def _not_a_head(path: Path, content: Mapping[str, object]) -> str:
    names = sorted(content)
    shown = some(names)
    if any(name.startswith(("model.", "clip_model.", "fc.")) for name in names) and len(names) > 2:
        return (
            f"{path} holds a CLIP of its own beside the head ({len(names)} tensors: {shown}), as "
            "the training script of another method writes it; the head of UnivFD alone, weight "
            "and bias, was expected"
        )
    expected = "the head of UnivFD, weight and bias alone, was expected"
    return f"{path} holds {shown or 'nothing'}; {expected}"


def _clip_config(base: Path) -> PreTrainedConfig:
    config = vision_config(read_config(base))
    if config.model_type != "clip_vision_model":
        raise IncompatibleWeights(
            f"the base {base} is a {config.model_type!r} model; UnivFD is a head on CLIP's "
            "projected feature (--base openai/clip-vit-large-patch14 for the published one)"
        )
    return config


def _feature(path: Path, width: int, base: Path, config: PreTrainedConfig) -> str:
    """What a head of this width looks at."""
    if width == config.projection_dim:
        return "projection"
    if width == config.hidden_size:
        return "pooler"
    raise IncompatibleWeights(
        f"{path} is a head on features of {width}, and the CLIP in {base} projects its "
        f"{config.hidden_size} to {config.projection_dim}; give the CLIP that the head was trained "
        "on (--base; openai/clip-vit-large-patch14 for the published one)"
    )


def _published_base(path: Path, base: Path, config: PreTrainedConfig) -> bool:
    """Whether the list of published detectors says that the head belongs to a CLIP of this shape.

    The head fits any CLIP of its width, and no comparison of logits would tell a wrong one.
    """
    entry = find_published(sha256=file_sha256(path))
    if entry is None or entry.tower is None:
        return False
    given = clip_name(config)
    if given != entry.tower:
        raise IncompatibleWeights(
            f"{path} is {entry.id} by its SHA-256, a head on CLIP {entry.tower}, and the base "
            f"{base} is {f'CLIP {given}' if given else 'another CLIP'}; its answers there mean "
            "nothing. Give the CLIP that it was trained on (--base openai/clip-vit-large-patch14)"
        )
    return True


def _head(weight: Tensor, bias: Tensor) -> Head:
    head = Head(weight.shape[1])
    with torch.no_grad():
        head.linear.weight.copy_(weight)
        head.linear.bias.copy_(bias)
    return head


def _original(path: Path, base: Path, features: tuple[str, ...]) -> Callable[[Tensor], Tensor]:
    """The head on the projection of the pooled output, of tensors that are read again."""

    @cache
    def parts() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
        _, weight, bias = _layer(path)
        tower = load_backbone(base, ("pooler",))
        projection = torch.eye(weight.shape[1])
        for file in weights_files(base):
            projection = read_tensor_file(file).get(_PROJECTION, projection).float()
        return tower, projection, weight, bias

    def original(pixels: Tensor) -> Tensor:
        tower, projection, weight, bias = parts()
        with torch.inference_mode():
            feature = tower(pixels).pooler_output  # (B, hidden_size)
            if features == ("projection",):
                feature = F.linear(feature, projection)  # (B, projection_dim)
            return F.linear(feature, weight, bias)[:, 0]

    return original


def _notes(size: int, features: tuple[str, ...], base: Path, *, known: bool) -> tuple[str, ...]:
    notes = [
        f"As in the published evaluation the centre of {size} pixels is cut out of the picture and "
        "nothing is scaled. Where a picture is smaller, zeros surround it; the benchmark published "
        "with Effort repeats such a picture instead."
    ]
    if features == ("pooler",):
        notes.append(
            "The head is as wide as CLIP's pooled output and not as its projection, so it was "
            "taken for a head on the pooled output, which variants of UnivFD look at."
        )
    notes.append(
        "The file holds the head alone, so nothing in it can confirm the weights of the CLIP: "
        f"{base.absolute().name} was taken as given"
        + (", which has the shape of the published one." if known else ".")
    )
    return tuple(notes)
