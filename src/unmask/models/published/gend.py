"""GenD: a vision tower whose layer norms were trained, with a linear head of two outputs.

A published folder has a ``config.json`` that names the tower and the head, and no code that
transformers knows; nothing of it is run here. The head looks at CLIP's pooled output, or at DINO's
CLS token, of unit length where it is a ``LinearNorm``; output 0 is real, 1 is fake. Source:
Yermakov et al., "Deepfake Detection that Generalizes Across Benchmarks", WACV 2026
(arXiv:2508.06248), and the key names of its released weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig

from unmask.errors import ConfigError, IncompatibleWeights
from unmask.models.backbone import tower_class, tower_config_for
from unmask.models.configuration import DetectorSpec, HeadSpec, backbone_config_of
from unmask.models.heads import Head
from unmask.models.locate import read_preprocess
from unmask.models.modeling import assemble
from unmask.models.published.clip_geometry import clip_config, clip_name
from unmask.models.published.config_json import read_config_json
from unmask.models.published.dino_geometry import dino_config
from unmask.models.published.imported import Imported, KeyFate
from unmask.models.published.tensor_file import read_tensor_file
from unmask.models.published.tensors import some, sound
from unmask.models.published.trace import targets
from unmask.models.weights import quiet, weights_files
from unmask.preprocess import Preprocess
from unmask.processor_config import IMAGENET_MEAN, IMAGENET_STD
from unmask.types import FaceSpec

__all__ = ["MODEL_TYPE", "read_gend"]

MODEL_TYPE = "GenD"

_HEADS: Mapping[str, bool] = {"linear": False, "LinearNorm": True}
"""Whether a head scales its feature to unit length, by its published name."""
_WEIGHT, _BIAS = "model.linear.weight", "model.linear.bias"


@dataclass(frozen=True, slots=True)
class _Family:
    """How a kind of tower stands in the file."""

    prefix: str
    """Of its keys."""
    saved: str
    """Put before its names to have them as transformers saves such a tower by itself."""
    feature: str
    dropped: Mapping[str, str]
    """Keys of the file that are left aside, and why."""


_POSITION_IDS = "a count from 0 that older versions of transformers stored"
_CLIP = _Family(
    "feature_extractor.vision_model.",
    "vision_model.",
    "pooler",
    {
        "feature_extractor.visual_projection.weight": "the projection, which the head does not "
        "look at",
        "feature_extractor.vision_model.embeddings.position_ids": _POSITION_IDS,
    },
)
_DINO = _Family("feature_extractor.backbone.", "", "cls", {})


def read_gend(folder: Path, *, base_config: PreTrainedConfig | None = None) -> Imported:
    """The detector of a published GenD folder, and the means to check it.

    Args:
        folder: With ``config.json`` (``backbone``, ``head``) and the weights.
        base_config: Of the tower that was trained, where it is none of OpenAI's CLIP models and
            none of the smaller DINOv3 ones; says what shapes cannot.

    Raises:
        ConfigError: If ``config.json`` is missing, damaged or names an unknown tower or head.
        CorruptWeights: If a weights file is damaged, or holds values that are not finite.
        IncompatibleWeights: If weights are missing, are left over or do not fit, or the tower is
            one that transformers does not have.
    """
    name, normalize = _settings(folder)
    family = _family(folder, name)
    files = weights_files(folder)
    state = _read(family, files)
    config = _config(family, state, base_config)
    backbone = _tower(folder, family, config, state)
    preprocess = _preprocess(folder, config)
    spec = DetectorSpec(
        backbone_config=backbone_config_of(backbone.config),
        features=(family.feature,),
        head=HeadSpec(outputs=2, normalize=normalize),
        preprocess=preprocess,
        domain="face",
        # Its own crops are cut at the size of the face and scaled down smoothly afterwards.
        face=FaceSpec(finder="yunet", scale=1.3, size=preprocess.height, antialias=True),
    )
    head = _head(folder, state, int(config.hidden_size), normalize=normalize)
    return Imported(
        kind="gend",
        model=assemble(backbone, head, spec),
        keys=_fates(family, config, state),
        original=_original(folder, family, config, normalize=normalize),
        files=tuple(files),
        notes=_notes(folder, config, known=base_config is None),
        trained=_trained(backbone, head),
    )


def _settings(folder: Path) -> tuple[str, bool]:
    """The name of the tower, and whether the head scales its feature."""
    values = read_config_json(folder)
    if values.get("model_type") != MODEL_TYPE:
        raise ConfigError(
            f"{folder / 'config.json'} is of model_type {values.get('model_type')!r}; "
            f"{MODEL_TYPE!r} was expected"
        )
    name, head = values.get("backbone"), values.get("head")
    if not isinstance(name, str):
        raise ConfigError(f"{folder / 'config.json'}: backbone is {name!r}; a name was expected")
    if not isinstance(head, str) or head not in _HEADS:
        raise ConfigError(
            f"{folder / 'config.json'}: head is {head!r}; known are {', '.join(_HEADS)}"
        )
    return name, _HEADS[head]


def _family(folder: Path, name: str) -> _Family:
    """The kind of tower that a name stands for, by the words that the published code looks for."""
    lower = name.lower()
    if "clip" in lower:
        return _CLIP
    if "vit_pe" in lower:
        raise IncompatibleWeights(
            f"{folder} is a GenD on the Perception Encoder ({name}), a tower that transformers "
            "does not have; those on CLIP and on DINO are read"
        )
    if "dino" in lower:
        return _DINO
    raise ConfigError(
        f"{folder / 'config.json'}: backbone is {name!r}; the name of a CLIP or of a DINO was "
        "expected"
    )


def _read(family: _Family, files: Sequence[Path]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for path in files:
        for key, value in read_tensor_file(path).items():
            state[key] = value if key in family.dropped else sound(path, key, value)
    return state


def _of_tower(family: _Family, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the tower, by the names without its prefix."""
    return {
        key.removeprefix(family.prefix): value
        for key, value in state.items()
        if key.startswith(family.prefix) and key not in family.dropped
    }


def _config(
    family: _Family, state: Mapping[str, Tensor], base_config: PreTrainedConfig | None
) -> PreTrainedConfig:
    shapes = {name: value.shape for name, value in _of_tower(family, state).items()}
    describe = clip_config if family is _CLIP else dino_config
    return tower_config_for(describe(shapes, base_config=base_config), (family.feature,))


def _tower(
    folder: Path, family: _Family, config: PreTrainedConfig, state: Mapping[str, Tensor]
) -> nn.Module:
    """The tower with the tensors of the file, float32; every key of the file has its place."""
    known = {_WEIGHT, _BIAS, *family.dropped}
    foreign = [key for key in state if not key.startswith(family.prefix) and key not in known]
    kind, options = tower_class(config, (family.feature,))
    with quiet():
        tower, info = kind.from_pretrained(
            None,
            config=config,
            state_dict=_saved(family, state),
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below
            **options,
        )
    for problem, keys in (
        ("are missing", _in_file(family, info["missing_keys"])),
        ("are left over", [*foreign, *_in_file(family, info["unexpected_keys"])]),
        ("have another shape", _in_file(family, [key[0] for key in info["mismatched_keys"]])),
    ):
        if keys:
            raise IncompatibleWeights(
                f"{folder} is no whole GenD on a {config.model_type!r} tower: {len(keys)} weights "
                f"{problem}: {some(sorted(keys))}"
            )
    tower.eval()
    return tower  # type: ignore[no-any-return]  # transformers is untyped for mypy


def _in_file(family: _Family, names: Iterable[str]) -> list[str]:
    return [f"{family.prefix}{name.removeprefix(family.saved)}" for name in names]


def _saved(family: _Family, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{family.saved}{name}": value for name, value in _of_tower(family, state).items()}


def _head(folder: Path, state: Mapping[str, Tensor], width: int, *, normalize: bool) -> Head:
    for key, shape in ((_WEIGHT, (2, width)), (_BIAS, (2,))):
        found = tuple(state[key].shape) if key in state else "missing"
        if found != shape:
            raise IncompatibleWeights(
                f"{folder} has no head of GenD: {key} is {found}, the shape {shape} was expected"
            )
    head = Head(width, 2, normalize=normalize)
    with torch.no_grad():
        head.linear.weight.copy_(state[_WEIGHT])
        head.linear.bias.copy_(state[_BIAS])
    return head


def _preprocess(folder: Path, config: PreTrainedConfig) -> Preprocess:
    """What the processor published with the tower does, which GenD takes over."""
    if (folder / "preprocessor_config.json").is_file():
        return read_preprocess(folder)
    if config.model_type == "clip_vision_model":
        return Preprocess.openai_clip(config.image_size)
    if config.model_type == "dinov3_vit":
        return Preprocess(224, 224, "squash", "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    return Preprocess(224, 224, "shortest_edge", "bicubic", IMAGENET_MEAN, IMAGENET_STD, 256)


def _fates(
    family: _Family, config: PreTrainedConfig, state: Mapping[str, Tensor]
) -> tuple[KeyFate, ...]:
    kind, options = tower_class(config, (family.feature,))
    made = targets(kind, config, _saved(family, state), **options)
    fates = []
    for key in state:
        if key in family.dropped:
            fates.append(KeyFate(key, None, family.dropped[key]))
        elif key in (_WEIGHT, _BIAS):
            fates.append(KeyFate(key, f"head.{key.removeprefix('model.')}"))
        else:
            names = made[f"{family.saved}{key.removeprefix(family.prefix)}"]
            fates += [KeyFate(key, f"backbone.{name}") for name in names]
    return tuple(fates)


def _original(
    folder: Path, family: _Family, config: PreTrainedConfig, *, normalize: bool
) -> Callable[[Tensor], Tensor]:
    """Log-odds from the folder's own tensors, read again, as its publisher computes them."""

    @cache
    def parts() -> tuple[nn.Module, Tensor, Tensor]:
        state = _read(family, weights_files(folder))
        tower = _tower(folder, family, config, state)
        return tower, state[_WEIGHT].float(), state[_BIAS].float()

    def original(pixels: Tensor) -> Tensor:
        tower, weight, bias = parts()
        with torch.inference_mode():
            output = tower(pixels)
            feature = (
                output.pooler_output if family is _CLIP else output.last_hidden_state[:, 0]
            ).float()  # (B, width)
            if normalize:
                feature = feature / feature.norm(dim=1, keepdim=True)
            shares = F.linear(feature, weight, bias).log_softmax(dim=1)
            return shares[:, 1] - shares[:, 0]

    return original


def _trained(backbone: nn.Module, head: Head) -> dict[str, Tensor]:
    """The layer norms and the head: what GenD's recipe trains."""
    state = {f"head.{name}": value for name, value in head.state_dict().items()}
    for name, module in backbone.named_modules():
        if isinstance(module, nn.LayerNorm):
            for leaf, value in module.state_dict().items():
                state[f"backbone.{name}.{leaf}"] = value
    return state


def _notes(folder: Path, config: PreTrainedConfig, *, known: bool) -> tuple[str, ...]:
    notes = [
        "GenD was trained on faces cut by an aligner of its own (RetinaFace, its own five-point "
        "template, margin 1.3); here they are cut by YuNet and this package's template with the "
        "same margin, which is near it and not the same. Logits are equal on equal crops."
    ]
    if known:
        what = clip_name(config) if config.model_type == "clip_vision_model" else "DINOv3"
        notes.append(
            f"The tower has the shapes of {what}, so its {config.num_attention_heads} attention "
            f"heads and its activation {config.hidden_act} were taken from there; the folder does "
            "not say them."
        )
    if not (folder / "preprocessor_config.json").is_file():
        notes.append("The folder has no processor; the one published with its tower was taken.")
    return tuple(notes)
