"""Any image classifier of transformers, taken apart into a tower, its feature and a linear head.

What the head of a family reads is known from a table, and then proved: the parts must give the
logits of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

# Reached as attributes, see backbone.py.
import transformers
from torch import Tensor, nn
from transformers import PreTrainedConfig

from unmask.errors import ConfigError, IncompatibleWeights
from unmask.models.backbone import extract, feature_width, tower_class, tower_config_for
from unmask.models.configuration import DetectorSpec, Domain, HeadSpec, backbone_config_of
from unmask.models.features import vision_config
from unmask.models.heads import Head
from unmask.models.locate import read_preprocess
from unmask.models.modeling import assemble
from unmask.models.published.config_json import read_config_json
from unmask.models.published.imported import Imported, KeyFate
from unmask.models.published.labels import Polarity, meaning, polarity
from unmask.models.published.trace import blanks, targets
from unmask.models.weights import load_strictly, quiet, read_config, weights_files
from unmask.preprocess import Preprocess
from unmask.types import FaceSpec

__all__ = ["architecture", "read_classifier"]

# What the head reads, by model_type of the tower, as the ForImageClassification class of each
# family does it in transformers; of all others it is the pooler.
_READS: Mapping[str, tuple[str, ...]] = {
    "clip_vision_model": ("mean",),
    "metaclip_2_vision_model": ("mean",),
    "siglip_vision_model": ("mean",),
    "dinov2": ("cls", "mean"),
    "dinov2_with_registers": ("cls", "mean"),
    "vit": ("cls",),
    "deit": ("cls",),
    "vit_msn": ("cls",),
    "ijepa": ("mean",),
}
# Layers around the linear one that change nothing at inference, or only the shape.
_TRANSPARENT = (nn.Dropout, nn.Flatten, nn.Identity)
_SUFFIX = "ForImageClassification"
# Tensors of a published classifier that its head does not look at, and why they are there.
_UNUSED: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r".*\b(position_ids|relative_position_index|relative_coords_table)$"),
        "a table that is computed anew",
    ),
    (re.compile(r"(\w+\.)?pooler\."), "a pooler that the head does not read"),
    (re.compile(r"vision_model\.head\."), "a pooling head that the classifier does not read"),
)
# Of the largest contribution of the feature to a logit. Another feature than the head's misses
# by the order of 1; float32 of another order of operations by less than 1e-5.
_TOLERANCE = 1e-4


def architecture(folder: Path) -> str | None:
    """The ``...ForImageClassification`` that ``config.json`` names; None if it names none.

    Raises:
        ConfigError: If ``config.json`` is missing, is not JSON, or names them in another form.
    """
    names = read_config_json(folder).get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"{folder / 'config.json'}: architectures is {names!r}; a list of names was expected"
        )
    return next((name for name in names if name.endswith(_SUFFIX)), None)


def read_classifier(
    folder: Path, *, fake_labels: Sequence[str] = (), domain: Domain = "image"
) -> Imported:
    """An image classifier of transformers, as a detector of ours.

    Its labels become P(fake) by :mod:`unmask.models.published.labels`: the logit is the log-odds
    that the softmax gives to all fake labels together.

    Args:
        folder: A model folder with ``config.json``, weights and ``preprocessor_config.json``.
        fake_labels: Names or numbers of the labels that mean fake, where their names do not tell.
        domain: What it learnt from; ``face`` if its pictures are to be cut as faces first.

    Raises:
        ConfigError: If a label is not understood, or a configuration is missing or damaged.
        CorruptWeights: If a weights file is damaged or not finite.
        IncompatibleWeights: If the classifier is not a tower with one linear layer on a feature
            that is known, or its weights do not fit it.
    """
    kind = _class_of(folder)
    _check_labels(folder)
    config = read_config(folder)
    _check_problem(folder, config)
    signs = polarity(config.id2label, fake_labels=fake_labels, label2id=_label2id(folder))
    preprocess = read_preprocess(folder)
    whole = _load(kind, folder, config)
    prefix, tower, linear = _parts(whole)
    features = _READS.get(vision_config(config).model_type, ("pooler",))
    backbone = _own_tower(tower, config, features)
    head = _head(linear, signs, feature_width(backbone.config, features))
    _prove(whole, backbone, head, signs, features, preprocess)
    spec = DetectorSpec(
        backbone_config=backbone_config_of(backbone.config),
        features=features,
        head=HeadSpec(outputs=head.linear.out_features, fakes=head.fakes),
        preprocess=preprocess,
        domain=domain,
        face=FaceSpec(size=max(preprocess.height, preprocess.width)) if domain == "face" else None,
    )
    del whole, tower, linear  # the parts are enough from here on
    files = weights_files(folder)
    reload = cache(lambda: _load(kind, folder, config))
    return Imported(
        kind="hf",
        model=assemble(backbone, head, spec),
        keys=_fates(kind, config, prefix, backbone.state_dict(), files),
        original=lambda pixels: _log_odds(_logits(reload(), pixels), signs),
        files=tuple(files),
        notes=_notes(config.id2label, signs, fake_labels, domain),
    )


def _class_of(folder: Path) -> Any:  # noqa: ANN401  # a transformers class, untyped
    name = architecture(folder)
    if name is None:
        names = read_config_json(folder).get("architectures")
        raise IncompatibleWeights(
            f"{folder} is of architecture {names}; a classifier of transformers (...{_SUFFIX}) "
            "was expected"
        )
    if name.startswith("TimmWrapper"):
        raise IncompatibleWeights(
            f"{folder} wraps a model of timm, which is not part of transformers and is not read; "
            "name a classifier of transformers' own"
        )
    kind = getattr(transformers, name, None)
    if kind is None:
        raise IncompatibleWeights(
            f"{folder} is a {name}, which transformers {transformers.__version__} does not have; "
            "its own code is not run"
        )
    return kind


def _check_problem(folder: Path, config: PreTrainedConfig) -> None:
    problem = config.problem_type
    several = len(config.id2label) > 1
    if problem == "regression" or (problem == "multi_label_classification" and several):
        raise IncompatibleWeights(
            f"{folder} has the problem_type {problem!r}: its outputs are not probabilities of "
            "labels that exclude each other, so no P(fake) follows from them"
        )


def _check_labels(folder: Path) -> None:
    """Raise where the mappings of the file are of another form than transformers takes as given."""
    values = read_config_json(folder)
    for field, kinds in (("id2label", str), ("label2id", int | str)):
        mapping = values.get(field)
        if mapping is None:
            continue
        if not isinstance(mapping, dict) or not all(
            isinstance(value, kinds) for value in mapping.values()
        ):
            raise ConfigError(
                f"{folder / 'config.json'}: {field} is {mapping!r}; an object of names and "
                "numbers was expected"
            )


def _label2id(folder: Path) -> Mapping[str, object]:
    """As the file has it: transformers adds its own where there is none."""
    return read_config_json(folder).get("label2id") or {}


def _load(kind: Any, folder: Path, config: PreTrainedConfig) -> nn.Module:  # noqa: ANN401  # as above
    whole = load_strictly(
        kind, folder, config, may_be_left=lambda key: _why_unused(key) is not None
    )
    whole.eval()
    return whole.requires_grad_(False)


def _parts(whole: nn.Module) -> tuple[str, nn.Module, nn.Linear]:
    """The name of the tower in the classifier, the tower, and the linear layer on its feature."""
    children = {
        name: child
        for name, child in whole.named_children()
        if any(True for _ in child.parameters())
    }
    classifier = children.pop("classifier", None)
    layers = list(classifier) if isinstance(classifier, nn.Sequential) else [classifier]
    linears = [layer for layer in layers if not isinstance(layer, _TRANSPARENT)]
    if len(children) != 1 or len(linears) != 1 or not isinstance(linears[0], nn.Linear):
        found = [f"{name} ({type(child).__name__})" for name, child in whole.named_children()]
        raise IncompatibleWeights(
            f"{type(whole).__name__} is not supported: it is made of {', '.join(found)}; one tower "
            "and one linear layer named 'classifier' were expected"
        )
    ((name, tower),) = children.items()
    return name, tower, linears[0]


def _own_tower(tower: nn.Module, config: PreTrainedConfig, features: tuple[str, ...]) -> nn.Module:
    """The tower as :func:`build_backbone` makes it, with the tensors of the classifier's."""
    state = dict(tower.state_dict())
    own = tower_config_for(config, features)
    kind, options = tower_class(own, features)
    if kind is transformers.AutoModel:  # which takes no tensors, and would choose the same class
        kind = type(tower)
    with quiet():
        backbone, info = kind.from_pretrained(
            None,
            config=own,
            state_dict=state,
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    lost = [key for key in info["unexpected_keys"] if not re.match(r"(head|pooler)\.", key)]
    if info["missing_keys"] or lost:
        raise IncompatibleWeights(
            f"the tower of this {own.model_type!r} classifier is not the one that is built for "
            f"the feature {'+'.join(features)}: missing {sorted(info['missing_keys'])[:4]}, left "
            f"over {sorted(lost)[:4]}"
        )
    backbone.eval()
    return backbone  # type: ignore[no-any-return]  # transformers is untyped for mypy


def _head(linear: nn.Linear, signs: Polarity, width: int) -> Head:
    """The head with the rows of the real labels first, then those of the fake ones."""
    order = [*signs.real, *signs.fake]
    if tuple(linear.weight.shape) != (len(order), width):
        raise IncompatibleWeights(
            f"the classifier's weight has the shape {list(linear.weight.shape)}; "
            f"{len(order)} labels and a feature of {width} were expected"
        )
    head = Head(width, len(order), fakes=len(signs.fake))
    with torch.no_grad():
        head.linear.weight.copy_(linear.weight[order])
        head.linear.bias.zero_()
        if linear.bias is not None:
            head.linear.bias.copy_(linear.bias[order])
    return head


def _prove(
    whole: nn.Module,
    backbone: nn.Module,
    head: Head,
    signs: Polarity,
    features: Sequence[str],
    preprocess: Preprocess,
) -> None:
    """Raise unless the head on the feature gives the logits of the whole classifier."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 3, preprocess.height, preprocess.width, generator=generator)
    theirs = _logits(whole, pixels)[:, [*signs.real, *signs.fake]]
    with torch.inference_mode():
        ours = head.linear(extract(backbone, pixels, features))
    bias = head.linear.bias.detach()
    off = float((ours - theirs).abs().max())
    if not off <= _TOLERANCE * float((theirs - bias).abs().max()) + 1e-7:
        raise IncompatibleWeights(
            f"{type(whole).__name__} is not supported: its logits are not those of its linear "
            f"layer on {'+'.join(features)} (they differ by {off:.2g})"
        )


def _logits(whole: nn.Module, pixels: Tensor) -> Tensor:
    try:
        with torch.inference_mode():
            return whole(pixels).logits.float()  # type: ignore[no-any-return]  # untyped
    except (ValueError, RuntimeError) as error:
        raise IncompatibleWeights(
            f"{type(whole).__name__} does not take pictures of {pixels.shape[-2]}x"
            f"{pixels.shape[-1]}, which its preprocessor_config.json makes: {error}"
        ) from error


def _log_odds(logits: Tensor, signs: Polarity) -> Tensor:
    """Log-odds ``(B,)`` of fake, as the softmax over ``(B, labels)`` has them."""
    if not signs.real:
        return logits[:, signs.fake[0]]  # a single output, whose sigmoid is its probability
    shares = logits.double().log_softmax(dim=1)
    fake, real = shares[:, list(signs.fake)], shares[:, list(signs.real)]
    return (fake.logsumexp(dim=1) - real.logsumexp(dim=1)).float()


def _fates(
    kind: Any,  # noqa: ANN401  # as above
    config: PreTrainedConfig,
    prefix: str,
    own: Collection[str],
    files: Sequence[Path],
) -> tuple[KeyFate, ...]:
    """What became of each tensor of the files; ``own`` are the names in our tower."""
    fates = []
    for key, names in targets(kind, config, blanks(files)).items():
        ours = [name.removeprefix(f"{prefix}.") for name in names if name.startswith(f"{prefix}.")]
        found = [f"backbone.{name}" for name in ours if name in own]
        found += [_of_head(name) for name in names if name.startswith("classifier.")]
        if found:
            fates += [KeyFate(key, target) for target in found]
        else:
            fates.append(KeyFate(key, None, _why_unused(key) or "the head does not read it"))
    return tuple(fates)


def _of_head(name: str) -> str:
    return f"head.linear.{name.rpartition('.')[2]}"


def _why_unused(key: str) -> str | None:
    return next((why for pattern, why in _UNUSED if pattern.match(key)), None)


def _notes(
    id2label: Mapping[int, str], signs: Polarity, fake_labels: Sequence[str], domain: Domain
) -> tuple[str, ...]:
    reals = ", ".join(repr(id2label[number]) for number in signs.real) or "nothing else"
    fakes = ", ".join(repr(id2label[number]) for number in signs.fake)
    why = "as told" if fake_labels else "by their names"
    notes = [f"The labels were read {why}: {reals} as real, {fakes} as fake."]
    turned = [
        id2label[number]
        for wrong, numbers in (("real", signs.fake), ("fake", signs.real))
        for number in numbers
        if meaning(id2label[number]) == wrong
    ]
    if turned:
        notes.append(
            f"The names of {', '.join(map(repr, turned))} say the opposite of what was told."
        )
    if domain == "image":
        notes.append("It was taken for a detector of whole pictures; no faces are cut for it.")
    else:
        notes.append(
            "How the faces were cut that it learnt from is not known; they are cut in our own way."
        )
    return tuple(notes)
