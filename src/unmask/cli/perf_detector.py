"""The detector that a documented command scores with: a trained one, or a bare model."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.cli.reference_config import ScriptConfig
from unmask.errors import ConfigError, UntrainedHead

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from unmask.models.detector import Detector, Located
    from unmask.models.modeling import UnmaskForImageClassification
    from unmask.preprocess import Preprocess

__all__ = ["make_detector"]

Say = Callable[[str], None]


def make_detector(
    arguments: argparse.Namespace,
    config: ScriptConfig,
    seed: int,
    say: Say,
    *,
    trained_only: bool = False,
) -> Detector:
    """The trained detector or published file that is named, or a bare model with a seeded head.

    Args:
        arguments: Of the command line.
        config: Of the YAML file.
        seed: Of a head that is not trained.
        say: Told what became of the tensors of a published file, what the YAML changes, and what
            of it is not applied.
        trained_only: Refuse what has no trained head.

    Raises:
        ConfigError: ``use_svd`` with a trained detector, an ``svd_rank`` that leaves nothing, or a
            base for something that has one.
        UntrainedHead: With ``trained_only``.
        WeightsError: Weights that cannot be used.
    """
    from unmask.models.detector import locate

    name = arguments.weights or config.huggingface_model_name
    if Path(name).expanduser().is_file():
        return _published(Path(name).expanduser(), arguments, config, say)
    located = locate(name, revision=arguments.revision, offline=arguments.offline)
    if located.hub_id is not None:  # this commit of it from here on
        name = located.id
    if trained_only or _has_head(located.folder):
        return _trained(name, arguments, config, say, trained_only=trained_only)
    return _bare(name, located, arguments, config, seed, say)


def _has_head(folder: Path) -> bool:
    """Whether it is a detector: one of ours, or a classifier that somebody else published."""
    from unmask.models.configuration import UnmaskConfig
    from unmask.models.published.recognise import recognise
    from unmask.models.weights import read_config

    return recognise(folder) is not None or isinstance(read_config(folder), UnmaskConfig)


def _published(
    path: Path, arguments: argparse.Namespace, config: ScriptConfig, say: Say
) -> Detector:
    """A published Effort file, as it is."""
    from unmask._device import choose_device, choose_dtype
    from unmask.models.detector import Detector
    from unmask.models.published.effort import read_effort
    from unmask.models.published.imported import key_report
    from unmask.models.weights import file_sha256
    from unmask.types import DetectorRef

    if arguments.revision is not None:
        raise ConfigError(f"--revision {arguments.revision} belongs to a Hub id; {path} is a file")
    _refuse_labels(str(path), arguments)
    _refuse_residual(str(path), config)
    device = choose_device(_device(arguments, config))
    dtype = choose_dtype(arguments.dtype, device)
    base = _base_config(arguments.base or config.base, offline=arguments.offline)
    imported = read_effort(path, base_config=base)
    say(f"{path}: {len(imported.keys)} tensors")
    for line in (*key_report(imported.keys), *imported.notes):
        say(f"  {line}")
    model = _as_configured(imported.model, config, say)
    model.requires_grad_(False)
    model.to(device)
    model.backbone.to(dtype)
    ref = DetectorRef(str(path), file_sha256(path), trained=True)
    return Detector(model, model.config, model.spec.preprocess, ref, device, dtype)


def _trained(
    name: str,
    arguments: argparse.Namespace,
    config: ScriptConfig,
    say: Say,
    *,
    trained_only: bool,
) -> Detector:
    from unmask.models.detector import load

    _refuse_residual(name, config)
    try:
        detector = load(
            name,
            offline=arguments.offline,
            allow_untrained=not trained_only,
            base=arguments.base,
            fake_labels=arguments.fake_label,
            device=_device(arguments, config),
            dtype=arguments.dtype,
        )
    except UntrainedHead as error:
        raise UntrainedHead(
            f"{name} has no head that was trained to tell real from fake, so its scores would mean "
            "nothing. Give a published Effort file (.pth), a folder that 'unmask convert' or "
            "'unmask train' wrote, or a built-in detector with --weights; 'unmask models' lists "
            "what there is."
        ) from error
    _say_what_is_not_applied(detector, config, say)
    return detector


def _bare(
    name: str,
    located: Located,
    arguments: argparse.Namespace,
    config: ScriptConfig,
    seed: int,
    say: Say,
) -> Detector:
    from unmask.models.detector import read_preprocess, untrained_detector
    from unmask.models.effort import attach

    _refuse_labels(name, arguments)
    if arguments.base is not None:
        raise ConfigError(
            f"--base {arguments.base} is for an Effort file or an adapter, and {name} is a whole "
            "model; leave it out"
        )
    detector = untrained_detector(
        name,
        head=arguments.head,
        seed=seed,
        preprocess=_with_yaml(read_preprocess(located.folder), config, say),
        # It is in the cache now; the Hub need not be asked again.
        offline=arguments.offline or located.hub_id is not None,
        device=_device(arguments, config),
        dtype=arguments.dtype,
    )
    if config.use_svd:
        attach(detector.model.backbone, keep=config.svd_rank)
        detector.model.requires_grad_(False)
    return detector


def _device(arguments: argparse.Namespace, config: ScriptConfig) -> str:
    device: str = arguments.device or ("auto" if config.cuda else "cpu")
    return device


def _refuse_residual(name: str, config: ScriptConfig) -> None:
    if config.use_svd:
        raise ConfigError(
            f"use_svd is true, and {name} is a trained detector: what its residual "
            "learnt is merged into its weights. Set use_svd to false, or name a bare CLIP."
        )


def _refuse_labels(name: str, arguments: argparse.Namespace) -> None:
    if arguments.fake_label:
        raise ConfigError(
            f"--fake-label {arguments.fake_label[0]} is for another's image classifier, and {name} "
            "has no labels to choose from; leave it out"
        )


def _base_config(name: str | None, *, offline: bool) -> PreTrainedConfig | None:
    """The configuration of the CLIP that an Effort file was made of, where one is named."""
    from unmask.models.detector import locate
    from unmask.models.weights import read_config

    return None if name is None else read_config(locate(name, offline=offline).folder)


def _as_configured(
    model: UnmaskForImageClassification, config: ScriptConfig, say: Say
) -> UnmaskForImageClassification:
    """The model with the preprocessing of the YAML: an Effort file says nothing of its own."""
    from unmask.models.modeling import assemble

    spec = model.spec
    preprocess = _with_yaml(spec.preprocess, config, say)
    if preprocess == spec.preprocess:
        return model
    face = spec.face and replace(spec.face, size=preprocess.height)
    return assemble(model.backbone, model.head, replace(spec, preprocess=preprocess, face=face))


def _with_yaml(own: Preprocess, config: ScriptConfig, say: Say) -> Preprocess:
    """A model's own preparation with what the YAML says instead."""
    made = replace(own, mean=config.mean or own.mean, std=config.std or own.std)
    size = config.resolution
    if size is None or (own.height, own.width) == (size, size):
        return made
    say(
        f"resolution is {size} and the model's own is {own.height}: its position grid is "
        "interpolated (resolution: null in the YAML keeps the model's own)"
    )
    edge = own.shortest_edge and round(own.shortest_edge * size / own.height)
    return replace(made, height=size, width=size, shortest_edge=edge)


def _say_what_is_not_applied(detector: Detector, config: ScriptConfig, say: Say) -> None:
    """A trained detector brings its own preprocessing; the YAML's would make it another one."""
    own = detector.preprocess
    given = {"mean": config.mean, "std": config.std, "resolution": config.resolution}
    has = {"mean": own.mean, "std": own.std, "resolution": own.height}
    other = [key for key, value in given.items() if value is not None and value != has[key]]
    if other:
        say(
            f"{detector.ref.id} brings its own preprocessing; {', '.join(other)} of the YAML "
            f"{'is' if len(other) == 1 else 'are'} not applied"
        )
