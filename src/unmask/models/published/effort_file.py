"""What a published Effort file holds, each tensor at its place, and whether it is sound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from unmask.errors import IncompatibleWeights
from unmask.models.backbone import build_backbone
from unmask.models.published.imported import KeyFate
from unmask.models.published.tensor_file import read_tensor_file
from unmask.models.published.tensors import named, some, sound

__all__ = [
    "FEATURES",
    "TRAINED",
    "EffortFile",
    "check_complete",
    "read_effort_file",
    "shapes_of",
    "tower_prefix",
]

FEATURES = ("pooler",)
"""What the head looks at."""
_MAIN = "weight_main"
TRAINED = ("U_residual", "S_residual", "V_residual")
"""What was trained of each layer: the factors of ``U diag(S) V``."""
_FROZEN = ("U_r", "S_r", "V_r")
_WRAPPER = "state_dict"
_POSITION_IDS = "embeddings.position_ids"
# How far the product of the frozen factors may be from weight_main, of its size, and in units of
# the rounding of the file's numbers: both came from one decomposition, which leaves some 1e-6.
_FACTORED, _ROUNDINGS = 1e-3, 16


@dataclass(slots=True, eq=False)
class EffortFile:
    """The tensors of a published file, by their place; names are those of ``CLIPVisionModel``."""

    path: Path
    plain: dict[str, Tensor] = field(default_factory=dict)
    split: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """By layer: its ``weight_main`` and residual, by leaf."""
    head: dict[str, Tensor] = field(default_factory=dict)
    fates: list[KeyFate] = field(default_factory=list)

    def weight(self, layer: str, dtype: torch.dtype) -> Tensor:
        """``weight_main + U diag(S) V``, computed in ``dtype``, ``(out, in)``."""
        main, U, S, V = (self.split[layer][leaf].to(dtype) for leaf in (_MAIN, *TRAINED))
        return main + (U * S) @ V


def read_effort_file(path: Path) -> tuple[EffortFile, list[str]]:
    """Every tensor of the file at its place, and in a sentence what else it holds.

    Raises:
        MissingSource: If there is no such file.
        CorruptWeights: If it is damaged or cut short.
        IncompatibleWeights: If it is something else than tensors of a tower and a head.
    """
    state, notes = _unwrapped(read_tensor_file(path), path)
    names = {key: key.removeprefix("module.") for key in state}  # a prefix only, D22
    _refuse_other_kinds(path, set(names.values()))
    if len(set(names.values())) < len(names):
        raise IncompatibleWeights(
            f"{path} holds keys both with and without 'module.', so which of them count is unclear"
        )
    found = EffortFile(path)
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
            f"{path}: {some(foreign)} belong to no Effort detector; its keys begin with backbone. "
            "or head."
        )
    return found, notes


def _unwrapped(content: Mapping[str, object], path: Path) -> tuple[Mapping[str, object], list[str]]:
    """The tensors by key, and what else the file holds, in a sentence."""
    inner = content.get(_WRAPPER)
    if not isinstance(inner, Mapping):
        return content, []
    state = named(path, inner)
    beside = sorted(key for key in content if key != _WRAPPER)
    if not beside:
        return state, []
    inside = {key.removeprefix("module.") for key in state}
    twice = [key for key in beside if key.removeprefix("module.") in inside]
    if twice:
        raise IncompatibleWeights(
            f"{path} holds {some(twice)} both under {_WRAPPER} and beside it, so which of them "
            "counts is unclear; save the state_dict() alone"
        )
    return state, [f"Beside the weights {path.name} holds {some(beside)}, which is not read."]


def _place(found: EffortFile, key: str, name: str, value: Tensor) -> KeyFate:
    """Put one tensor of the tower where it belongs, and say what becomes of it."""
    layer, _, leaf = name.rpartition(".")
    if leaf == _MAIN or leaf in TRAINED:
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
            else f"is no Effort file: its keys are {some(sorted(names))}; backbone.* and head.* "
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


def check_complete(
    found: EffortFile, shapes: Mapping[str, torch.Size], config: PreTrainedConfig
) -> None:
    """Raise unless the file has exactly the tensors of the tower and head, sound ones.

    Raises:
        CorruptWeights: If a tensor holds values that are not finite.
        IncompatibleWeights: If one is missing, left over, of another shape or no weight.
    """
    with torch.device("meta"):
        tower = build_backbone(config, FEATURES)
    prefix = tower_prefix(tower)
    expected = {name.removeprefix(prefix): value.shape for name, value in tower.named_parameters()}
    given = dict(shapes)
    for name, value in found.head.items():
        given[f"head.{name}"] = value.shape
    width = int(config.hidden_size)
    expected |= {"head.weight": torch.Size((2, width)), "head.bias": torch.Size((2,))}
    missing = [name for name in expected if name not in given] + _missing_leaves(found)
    if missing:
        raise IncompatibleWeights(
            f"{found.path} is not whole: {some(missing)} missing. Fetch it again, or look for "
            "the complete file."
        )
    left_over = [name for name in given if name not in expected]
    if left_over:
        raise IncompatibleWeights(
            f"{found.path}: {some(left_over)} have no place in a CLIP vision tower with a head"
        )
    for name, shape in given.items():
        _check_shape(found.path, name, shape, expected[name])
    for layer, parts in found.split.items():
        _check_residual(found.path, layer, parts)
    _check_values(found)


def shapes_of(found: EffortFile) -> dict[str, torch.Size]:
    """Of the tower's tensors as they will be; an incomplete layer is told of later.

    Raises:
        IncompatibleWeights: If a layer is there both whole and split.
    """
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


def _missing_leaves(found: EffortFile) -> list[str]:
    wanted = {
        layer: (_MAIN, *TRAINED, *(_FROZEN if parts.keys() & set(_FROZEN) else ()))
        for layer, parts in found.split.items()
    }
    return [
        f"{layer}.{leaf}"
        for layer, leaves in wanted.items()
        for leaf in leaves
        if leaf not in found.split[layer]
    ]


def _check_residual(path: Path, layer: str, parts: Mapping[str, Tensor]) -> None:
    if parts[_MAIN].ndim != 2:
        raise IncompatibleWeights(
            f"{path}: {layer} is split and has the shape {list(parts[_MAIN].shape)}; only the "
            "matrix of a linear layer has singular values"
        )
    out, width = parts[_MAIN].shape
    count = parts["S_residual"].numel()
    if count == 0:
        raise IncompatibleWeights(
            f"{path}: the residual of {layer} is empty, so nothing was trained in it"
        )
    shapes = {"U_residual": (out, count), "S_residual": (count,), "V_residual": (count, width)}
    if "S_r" in parts:
        kept = parts["S_r"].numel()
        shapes |= {"U_r": (out, kept), "S_r": (kept,), "V_r": (kept, width)}
    for leaf, shape in shapes.items():
        _check_shape(path, f"{layer}.{leaf}", parts[leaf].shape, torch.Size(shape))


def _check_shape(path: Path, name: str, given: torch.Size, expected: torch.Size) -> None:
    if given != expected:
        raise IncompatibleWeights(
            f"{path}: {name} has the shape {list(given)}; {list(expected)} was expected"
        )


def _check_values(found: EffortFile) -> None:
    used = {f"backbone.{name}": value for name, value in found.plain.items()}
    used |= {f"head.{name}": value for name, value in found.head.items()}
    for layer, parts in found.split.items():
        used |= {f"backbone.{layer}.{leaf}": value for leaf, value in parts.items()}
    for name, value in used.items():
        sound(found.path, name, value)
    for layer, parts in found.split.items():
        if "S_r" in parts:
            _check_factors(found.path, layer, parts)


def _check_factors(path: Path, layer: str, parts: Mapping[str, Tensor]) -> None:
    """Raise unless the frozen factors, which are dropped, say the same as ``weight_main``.

    Both are multiplied with two vectors of a seed, which costs less than their product, and which
    two matrices that differ pass with a probability of zero.
    """
    main, U, S, V = (parts[leaf].double() for leaf in (_MAIN, *_FROZEN))
    probe = torch.randn(main.shape[1], 2, generator=torch.Generator().manual_seed(0)).double()
    expected = main @ probe
    off = float((U @ (S[:, None] * (V @ probe)) - expected).norm())
    rounding = max(torch.finfo(value.dtype).eps for value in parts.values())
    allowed = max(_FACTORED, _ROUNDINGS * rounding) * float(expected.norm())
    if not off <= allowed:
        raise IncompatibleWeights(
            f"{path}: U_r diag(S_r) V_r of {layer} is not its weight_main (they differ by "
            f"{off:.2g}, {allowed:.2g} allowed), so which of them counts is unclear"
        )


def tower_prefix(tower: nn.Module) -> str:
    """``vision_model.`` where this version of transformers has it before each name of a CLIP."""
    return "vision_model." if hasattr(tower, "vision_model") else ""
