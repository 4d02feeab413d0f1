"""Effort: a CLIP vision tower whose attention weights are split by their singular values.

A published file holds, for each attention projection, ``weight_main`` (the largest singular
triples, frozen) and ``U_residual``, ``S_residual``, ``V_residual`` (what was trained); the layer
computes with ``weight_main + U diag(S) V``. The head is ``Linear(width, 2)`` on the pooled output,
0 real and 1 fake. Source: Yan et al., "Orthogonal Subspace Decomposition for Generalizable
AI-Generated Image Detection", ICML 2025, and the key names of its released weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from transformers import PreTrainedConfig

from unmask.errors import CorruptWeights, IncompatibleWeights
from unmask.models.backbone import build_backbone
from unmask.models.catalog import find_published
from unmask.models.configuration import DetectorSpec, Domain, HeadSpec, backbone_config_of
from unmask.models.heads import Head, new_head
from unmask.models.modeling import assemble
from unmask.models.published.clip_geometry import clip_config, clip_name
from unmask.models.published.imported import Imported, KeyFate
from unmask.models.published.tensor_file import read_tensor_file
from unmask.models.weights import file_sha256
from unmask.preprocess import Preprocess
from unmask.types import FaceSpec

__all__ = ["read_effort"]

_FEATURES = ("pooler",)
_MAIN = "weight_main"
_TRAINED = ("U_residual", "S_residual", "V_residual")
_FROZEN = ("U_r", "S_r", "V_r")
_WRAPPER = "state_dict"
_POSITION_IDS = "embeddings.position_ids"
_SHOWN = 8


@dataclass(slots=True, eq=False)
class _File:
    """The tensors of a published file, by their place; names are those of ``CLIPVisionModel``."""

    path: Path
    plain: dict[str, Tensor] = field(default_factory=dict)
    split: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """By layer: its ``weight_main`` and residual, by leaf."""
    head: dict[str, Tensor] = field(default_factory=dict)
    fates: list[KeyFate] = field(default_factory=list)

    def weight(self, layer: str, dtype: torch.dtype) -> Tensor:
        """``weight_main + U diag(S) V``, computed in ``dtype``, ``(out, in)``."""
        main, U, S, V = (self.split[layer][leaf].to(dtype) for leaf in (_MAIN, *_TRAINED))
        return main + (U * S) @ V


def read_effort(
    path: Path, *, base_config: PreTrainedConfig | None = None, domain: Domain | None = None
) -> Imported:
    """The detector of a published Effort file, merged, and the means to check it.

    Keys may begin with ``module.`` and may stand under ``state_dict``; a layer may hold its frozen
    factors ``U_r``, ``S_r``, ``V_r`` beside their product, which are dropped.

    Args:
        path: The file; see :func:`read_tensor_file` for the formats.
        base_config: Of the CLIP that was trained, where it is not one of OpenAI's; only the number
            of heads and the activation are taken from it, its shapes must be the file's.
        domain: ``face`` or ``image``; None tells it from the file's name where it is a published
            one, and takes ``face`` otherwise.

    Raises:
        MissingSource: If there is no such file.
        CorruptWeights: If it is damaged, cut short, or holds values that are not finite.
        IncompatibleWeights: If it is no weights file, is of another kind of detector, lacks or
            exceeds what an Effort detector has, or is of a geometry that is not known.
    """
    content = read_tensor_file(path)
    state, notes = _unwrapped(content, path)
    found = _sorted(path, state)
    shapes = _shapes(found)
    config = clip_config(shapes, base_config=base_config)
    _check(found, shapes, config)
    if base_config is None:
        notes.append(
            f"The tower has the shapes of OpenAI's CLIP {clip_name(config)}, so its "
            f"{config.num_attention_heads} attention heads and its activation {config.hidden_act} "
            "were taken from there; the file does not say them."
        )
    chosen, why = _domain(path, domain)
    notes.extend(why)
    tower = _merged_tower(found, config)
    size = int(config.image_size)
    spec = DetectorSpec(
        backbone_config=backbone_config_of(tower.config),
        features=_FEATURES,
        head=HeadSpec(outputs=2),
        preprocess=Preprocess.effort(size),
        domain=chosen,
        face=FaceSpec(finder="dlib81", scale=1.3, size=size) if chosen == "face" else None,
    )
    prefix = _tower_prefix(tower)
    return Imported(
        kind="effort",
        model=assemble(tower, _head(found, int(config.hidden_size)), spec),
        keys=tuple(_located(fate, prefix) for fate in found.fates),
        original=_original(found, config, tower),
        files=(path,),
        notes=tuple(notes),
        trained=_trained(found, prefix),
    )


def _unwrapped(content: Mapping[str, object], path: Path) -> tuple[Mapping[str, object], list[str]]:
    """The tensors by key, and what else the file holds, in a sentence."""
    inner = content.get(_WRAPPER)
    if not isinstance(inner, Mapping):
        return content, []
    beside = sorted(key for key in content if key != _WRAPPER)
    if not beside:
        return inner, []
    return inner, [f"Beside the weights {path.name} holds {', '.join(beside)}, which is not read."]


def _sorted(path: Path, state: Mapping[str, object]) -> _File:
    """Every tensor of the file at its place."""
    names = {key: str(key).removeprefix("module.") for key in state}  # a prefix only, D22
    _refuse_other_kinds(path, set(names.values()))
    if len(set(names.values())) < len(names):
        raise IncompatibleWeights(
            f"{path} holds keys both with and without 'module.', so which of them count is unclear"
        )
    found = _File(path)
    foreign = []
    for key, name in names.items():
        value = state[key]
        if not isinstance(value, Tensor):
            raise IncompatibleWeights(
                f"{path}: {key} is a {type(value).__name__}; only tensors were expected"
            )
        part, _, rest = name.partition(".")
        if part not in ("backbone", "head"):
            foreign.append(key)
        elif part == "head":
            found.head[rest] = value
            found.fates.append(KeyFate(key, f"head.linear.{rest}"))
        else:
            found.fates.append(_place(found, key, rest, value))
    if foreign:
        raise IncompatibleWeights(
            f"{path}: {_some(foreign)} belong to no Effort detector; its keys begin with backbone. "
            "or head."
        )
    return found


def _place(found: _File, key: str, name: str, value: Tensor) -> KeyFate:
    """Put one tensor of the tower where it belongs, and say what becomes of it."""
    layer, _, leaf = name.rpartition(".")
    if leaf == _MAIN or leaf in _TRAINED:
        found.split.setdefault(layer, {})[leaf] = value
        return KeyFate(key, f"{layer}.weight", "merged: weight_main + U diag(S) V in float64")
    if leaf in _FROZEN:
        found.split.setdefault(layer, {})[leaf] = value
        return KeyFate(key, None, "frozen factor of weight_main, which holds their product")
    if name == _POSITION_IDS:
        return KeyFate(key, None, "a count from 0 that older versions of transformers stored")
    found.plain[name] = value
    return KeyFate(key, name)


def _refuse_other_kinds(path: Path, names: set[str]) -> None:
    """Raise what a file is, where it is a known one of another kind."""
    starts = {name.split(".")[0] for name in names}
    split = any(name.endswith(f".{_MAIN}") for name in names)
    if not names:
        what = "holds no tensors; fetch it again"
    elif names <= {"weight", "bias", "fc.weight", "fc.bias"}:
        what = (
            "is a head alone, as UnivFD publishes it; convert it with 'unmask convert univfd' and "
            "the CLIP it belongs to (--base)"
        )
    elif {"model", "optimizer"} <= names or (starts & {"fc"} and starts & {"model"}):
        what = (
            "is a training file of the UniversalFakeDetect scripts (a whole CLIP and one logit), "
            "which no kind reads; its head alone, {weight, bias} of fc, is read by "
            "'unmask convert univfd'"
        )
    elif "feature_extractor" in starts:
        what = "is a GenD model; convert its folder with 'unmask convert gend'"
    elif not starts & {"backbone", "head"}:
        what = (
            "is a plain CLIP: it has neither residuals nor a head that learnt real from fake"
            if starts & {"vision_model", "text_model", "embeddings"}
            else f"is no Effort file: its keys are {_some(sorted(names))}; backbone.* and head.* "
            "were expected"
        )
    elif not split:
        what = (
            "has no residuals (no key ends with weight_main), so it is no Effort file; a tower "
            "with a head is read from a model folder ('unmask convert hf')"
        )
    else:
        return
    raise IncompatibleWeights(f"{path} {what}.")


def _check(found: _File, shapes: Mapping[str, torch.Size], config: PreTrainedConfig) -> None:
    """Raise unless the file has exactly the tensors of the tower and head, sound ones."""
    with torch.device("meta"):
        tower = build_backbone(config, _FEATURES)
    prefix = _tower_prefix(tower)
    expected = {name.removeprefix(prefix): value.shape for name, value in tower.named_parameters()}
    given = dict(shapes)
    for name, value in found.head.items():
        given[f"head.{name}"] = value.shape
    width = int(config.hidden_size)
    expected |= {"head.weight": torch.Size((2, width)), "head.bias": torch.Size((2,))}
    missing = [name for name in expected if name not in given] + _missing_leaves(found)
    if missing:
        raise IncompatibleWeights(
            f"{found.path} is not whole: {_some(missing)} missing. Fetch it again, or look for "
            "the complete file."
        )
    left_over = [name for name in given if name not in expected]
    if left_over:
        raise IncompatibleWeights(
            f"{found.path}: {_some(left_over)} have no place in a CLIP vision tower with a head"
        )
    for name, shape in given.items():
        _check_shape(found.path, name, shape, expected[name])
    for layer, parts in found.split.items():
        _check_residual(found.path, layer, parts)
    _check_values(found)


def _shapes(found: _File) -> dict[str, torch.Size]:
    """Of the tower's tensors as they will be; an incomplete layer is told of later."""
    shapes = {name: value.shape for name, value in found.plain.items()}
    for layer, parts in found.split.items():
        if f"{layer}.weight" in shapes:
            raise IncompatibleWeights(
                f"{found.path} holds {layer}.weight both whole and split, so which of them counts "
                "is unclear"
            )
        if _MAIN in parts:
            shapes[f"{layer}.weight"] = parts[_MAIN].shape
    return shapes


def _missing_leaves(found: _File) -> list[str]:
    wanted = {
        layer: (_MAIN, *_TRAINED, *(_FROZEN if parts.keys() & set(_FROZEN) else ()))
        for layer, parts in found.split.items()
    }
    return [
        f"{layer}.{leaf}"
        for layer, leaves in wanted.items()
        for leaf in leaves
        if leaf not in found.split[layer]
    ]


def _check_residual(path: Path, layer: str, parts: Mapping[str, Tensor]) -> None:
    out, width = parts[_MAIN].shape
    count = parts["S_residual"].numel()
    if count == 0:
        raise IncompatibleWeights(
            f"{path}: the residual of {layer} is empty, so nothing was trained in it"
        )
    shapes = {"U_residual": (out, count), "S_residual": (count,), "V_residual": (count, width)}
    for leaf, shape in shapes.items():
        _check_shape(path, f"{layer}.{leaf}", parts[leaf].shape, torch.Size(shape))


def _check_shape(path: Path, name: str, given: torch.Size, expected: torch.Size) -> None:
    if given != expected:
        raise IncompatibleWeights(
            f"{path}: {name} has the shape {list(given)}; {list(expected)} was expected"
        )


def _check_values(found: _File) -> None:
    used = {f"backbone.{name}": value for name, value in found.plain.items()}
    used |= {f"head.{name}": value for name, value in found.head.items()}
    for layer, parts in found.split.items():
        used |= {f"backbone.{layer}.{leaf}": parts[leaf] for leaf in (_MAIN, *_TRAINED)}
    for name, value in used.items():
        if not value.is_floating_point():
            raise IncompatibleWeights(
                f"{found.path}: {name} holds {value.dtype}; floating point was expected"
            )
        if not torch.isfinite(value).all():
            raise CorruptWeights(
                f"{found.path}: {name} holds values that are not finite; the file is damaged, "
                "fetch it again"
            )


def _domain(path: Path, given: Domain | None) -> tuple[Domain, list[str]]:
    """What the pictures must be, and why where nobody said so."""
    if given is not None:
        return given, []
    # By its content first; a known name tells what even another saving of it was trained for.
    published = find_published(sha256=file_sha256(path)) or find_published(file_name=path.name)
    if published is None:
        return "face", [
            "Nothing says whether it was trained on faces or on whole pictures; faces were taken "
            "(domain 'image' for the other)."
        ]
    return published.domain, [
        f"The file is {published.id} by its name or hash, so its domain is {published.domain!r}."
    ]


def _merged_tower(found: _File, config: PreTrainedConfig) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # what it starts with is overwritten
        tower = build_backbone(config, _FEATURES)
    prefix = _tower_prefix(tower)
    with torch.no_grad():
        for name, parameter in tower.named_parameters():
            own = name.removeprefix(prefix)
            layer = own.removesuffix(".weight")
            if layer in found.split:
                parameter.copy_(found.weight(layer, torch.float64))
            else:
                parameter.copy_(found.plain[own])
    return tower


def _head(found: _File, width: int) -> Head:
    head = new_head(width, 2, seed=0)  # what it starts with is overwritten
    with torch.no_grad():
        head.linear.weight.copy_(found.head["weight"])
        head.linear.bias.copy_(found.head["bias"])
    return head


def _original(
    found: _File, config: PreTrainedConfig, tower: nn.Module
) -> Callable[[Tensor], Tensor]:
    """The publisher's forward: weights rebuilt from the file's tensors in float32 at every call."""
    buffers = {name: value.clone() for name, value in tower.named_buffers()}
    with torch.device("meta"):  # a form to be filled, without weights of its own
        skeleton = build_backbone(config, _FEATURES)
    prefix = _tower_prefix(skeleton)

    def logits(pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            tensors = {prefix + name: value.float() for name, value in found.plain.items()}
            for layer in found.split:
                tensors[f"{prefix}{layer}.weight"] = found.weight(layer, torch.float32)
            pooled = functional_call(skeleton, (tensors, buffers), (pixels,)).pooler_output
            head = found.head["weight"].float(), found.head["bias"].float()
            logarithms = F.linear(pooled, *head).log_softmax(dim=1)  # (B, 2): real, fake
            return logarithms[:, 1] - logarithms[:, 0]

    return logits


def _trained(found: _File, prefix: str) -> dict[str, Tensor]:
    state = {
        f"backbone.{prefix}{layer}.{leaf}": parts[leaf].float()
        for layer, parts in found.split.items()
        for leaf in _TRAINED
    }
    return state | {f"head.linear.{name}": value.float() for name, value in found.head.items()}


def _tower_prefix(tower: nn.Module) -> str:
    """``vision_model.`` where this version of transformers has it before each name of a CLIP."""
    return "vision_model." if hasattr(tower, "vision_model") else ""


def _located(fate: KeyFate, prefix: str) -> KeyFate:
    """The fate with its target as our model names it."""
    if fate.target is None or fate.target.startswith("head."):
        return fate
    return KeyFate(fate.key, f"backbone.{prefix}{fate.target}", fate.reason)


def _some(names: Sequence[str]) -> str:
    """The first few, and how many there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
