"""The detector that a documented command scores with: a trained one, or a bare model."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.cli.reference_config import ScriptConfig
from unmask.errors import ConfigError

if TYPE_CHECKING:
    from unmask.models.detector import Detector
    from unmask.preprocess import Preprocess

__all__ = ["make_detector"]


def make_detector(
    arguments: argparse.Namespace, config: ScriptConfig, seed: int, say: Callable[[str], None]
) -> Detector:
    """The trained detector that is named, or a bare model with a seeded head.

    Args:
        arguments: Of the command line.
        config: Of the YAML file.
        seed: Of a head that is not trained.
        say: Told what the YAML changes, or what of it is not applied.

    Raises:
        ConfigError: ``use_svd`` with a trained detector, or an ``svd_rank`` that leaves nothing.
        WeightsError: Weights that cannot be used.
    """
    from unmask.models.configuration import UnmaskConfig
    from unmask.models.detector import load, locate, untrained_detector
    from unmask.models.effort import attach
    from unmask.models.weights import read_config

    name = arguments.weights or config.huggingface_model_name
    device = arguments.device or ("auto" if config.cuda else "cpu")
    located = locate(name, revision=arguments.revision, offline=arguments.offline)
    if located.hub_id is not None:  # it is in the cache now; the Hub need not be asked again
        name = located.id
    offline = arguments.offline or located.hub_id is not None
    if isinstance(read_config(located.folder), UnmaskConfig):
        if config.use_svd:
            raise ConfigError(
                f"use_svd is true, and {located.id} is a trained detector: what its residual "
                "learnt is merged into its weights. Set use_svd to false, or name a bare CLIP."
            )
        detector = load(
            name, offline=offline, allow_untrained=True, device=device, dtype=arguments.dtype
        )
        _say_what_is_not_applied(detector, config, say)
        return detector
    detector = untrained_detector(
        name,
        head=arguments.head,
        seed=seed,
        preprocess=_preprocess(located.folder, config, say),
        offline=offline,
        device=device,
        dtype=arguments.dtype,
    )
    if config.use_svd:
        attach(detector.model.backbone, rank=config.svd_rank)
        detector.model.requires_grad_(False)
    return detector


def _preprocess(folder: Path, config: ScriptConfig, say: Callable[[str], None]) -> Preprocess:
    """The model's own processor with what the YAML says instead."""
    from unmask.models.locate import read_preprocess

    own = read_preprocess(folder)
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


def _say_what_is_not_applied(
    detector: Detector, config: ScriptConfig, say: Callable[[str], None]
) -> None:
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
