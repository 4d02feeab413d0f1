"""Effort: a CLIP vision tower whose attention weights are split by their singular values.

A published file holds, for each attention projection, ``weight_main`` (the largest singular
triples, frozen) and ``U_residual``, ``S_residual``, ``V_residual`` (what was trained); the layer
computes with ``weight_main + U diag(S) V``. The head is ``Linear(width, 2)`` on the pooled output,
0 real and 1 fake. Source: Yan et al., "Orthogonal Subspace Decomposition for Generalizable
AI-Generated Image Detection", ICML 2025, and the key names of its released weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from transformers import PreTrainedConfig

from unmask.models.backbone import build_backbone
from unmask.models.configuration import DetectorSpec, Domain, HeadSpec, backbone_config_of
from unmask.models.heads import Head, new_head
from unmask.models.modeling import assemble
from unmask.models.published.clip_geometry import clip_config, clip_name
from unmask.models.published.effort_file import (
    FEATURES,
    TRAINED,
    EffortFile,
    check_complete,
    read_effort_file,
    shapes_of,
    tower_prefix,
)
from unmask.models.published.imported import Imported, KeyFate
from unmask.models.published.known import known_as
from unmask.models.weights import file_sha256
from unmask.preprocess import Preprocess
from unmask.types import FaceSpec

__all__ = ["read_effort"]


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
        domain: ``face`` or ``image``; None tells it from the file's hash or name where it is a
            published one, and takes ``face`` otherwise.

    Raises:
        MissingSource: If there is no such file.
        CorruptWeights: If it is damaged, cut short, or holds values that are not finite.
        IncompatibleWeights: If it is no weights file, is of another kind of detector, lacks or
            exceeds what an Effort detector has, or is of a geometry that is not known.
    """
    found, notes = read_effort_file(path)
    shapes = shapes_of(found)
    config = clip_config(shapes, base_config=base_config)
    check_complete(found, shapes, config)
    if base_config is None:
        notes.append(
            f"The tower has the shapes of OpenAI's CLIP {clip_name(config)}, so its "
            f"{config.num_attention_heads} attention heads and its activation {config.hidden_act} "
            "were taken from there; the file does not say them."
        )
    chosen, why = _domain(path, config, domain)
    notes.extend(why)
    tower = _merged_tower(found, config)
    size = int(config.image_size)
    spec = DetectorSpec(
        backbone_config=backbone_config_of(tower.config),
        features=FEATURES,
        head=HeadSpec(outputs=2),
        preprocess=Preprocess.effort(size),
        domain=chosen,
        face=FaceSpec(finder="dlib81", scale=1.3, size=size) if chosen == "face" else None,
    )
    prefix = tower_prefix(tower)
    return Imported(
        kind="effort",
        model=assemble(tower, _head(found, int(config.hidden_size)), spec),
        keys=tuple(_located(fate, prefix) for fate in found.fates),
        original=_original(found, config, tower),
        files=(path,),
        notes=tuple(notes),
        trained=_trained(found, prefix),
    )


def _domain(path: Path, config: PreTrainedConfig, given: Domain | None) -> tuple[Domain, list[str]]:
    """What the pictures must be, and why where nobody said so."""
    if given is not None:
        return given, []
    known = known_as("effort", {path.name: file_sha256(path)}, config)
    if known is None:
        return "face", [
            "Nothing says whether it was trained on faces or on whole pictures; faces were taken. "
            "If it was whole pictures: 'unmask convert effort FILE DIR --domain image'."
        ]
    published, how = known
    why = (
        "its SHA-256"
        if how == "hash"
        else "its name only, and its SHA-256 is not the published one, which is unknown"
    )
    return published.domain, [
        f"The file is {published.id} by {why}; so its domain is {published.domain!r}."
    ]


def _merged_tower(found: EffortFile, config: PreTrainedConfig) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # what it starts with is overwritten
        tower = build_backbone(config, FEATURES)
    prefix = tower_prefix(tower)
    with torch.no_grad():
        for name, parameter in tower.named_parameters():
            own = name.removeprefix(prefix)
            layer = own.removesuffix(".weight")
            if layer in found.split:
                parameter.copy_(found.weight(layer, torch.float64))
            else:
                parameter.copy_(found.plain[own])
    return tower


def _head(found: EffortFile, width: int) -> Head:
    head = new_head(width, 2, seed=0)  # what it starts with is overwritten
    with torch.no_grad():
        head.linear.weight.copy_(found.head["weight"])
        head.linear.bias.copy_(found.head["bias"])
    return head


def _original(
    found: EffortFile, config: PreTrainedConfig, tower: nn.Module
) -> Callable[[Tensor], Tensor]:
    """The publisher's forward: weights rebuilt from the file's tensors in float32 at every call."""
    buffers = {name: value.clone() for name, value in tower.named_buffers()}
    with torch.device("meta"):  # a form to be filled, without weights of its own
        skeleton = build_backbone(config, FEATURES)
    prefix = tower_prefix(skeleton)

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


def _trained(found: EffortFile, prefix: str) -> dict[str, Tensor]:
    state = {
        f"backbone.{prefix}{layer}.{leaf}": parts[leaf].float()
        for layer, parts in found.split.items()
        for leaf in TRAINED
    }
    return state | {f"head.linear.{name}": value.float() for name, value in found.head.items()}


def _located(fate: KeyFate, prefix: str) -> KeyFate:
    """The fate with its target as our model names it."""
    if fate.target is None or fate.target.startswith("head."):
        return fate
    return KeyFate(fate.key, f"backbone.{prefix}{fate.target}", fate.reason)
