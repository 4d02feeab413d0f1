"""What a search tries of a tower: single blocks, runs of blocks to the end, and all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from transformers import PreTrainedConfig

from unmask.errors import ConfigError, near_names
from unmask.models.backbone import feature_width, tower_class
from unmask.models.configuration import UnmaskConfig, read_spec, tower_config
from unmask.models.features import TOWERS, vision_config
from unmask.models.locate import locate
from unmask.models.weights import read_config

__all__ = ["FeatureList", "SweepPooling", "feature_lists", "poolings_of", "read_tower_config"]

SweepPooling = Literal["cls", "mean", "pooler"]

_MOST_STARTS = 12
"""Runs of blocks that are tried; of deeper towers they start at every second block or fewer."""


@dataclass(frozen=True, slots=True)
class FeatureList:
    """Features that a head sees side by side."""

    name: str
    """Short: ``mean@4..12`` for ``mean@4`` to ``mean@12``."""
    features: tuple[str, ...]


def read_tower_config(reference: str, *, revision: str | None, offline: bool) -> PreTrainedConfig:
    """The configuration of the tower of a model or detector; no weights are read.

    Raises:
        WeightsError: it cannot be found.
        ConfigError: it is incomplete.
    """
    config = read_config(
        locate(reference, revision=revision, offline=offline, weights=False).folder
    )
    if isinstance(config, UnmaskConfig):
        return tower_config(read_spec(config).backbone_config)
    return vision_config(config)


def poolings_of(config: PreTrainedConfig) -> tuple[SweepPooling, ...]:
    """What a tower surely has: its tokens' poolings, and a pooler that its file always holds."""
    kind = config.model_type
    found: list[SweepPooling] = []
    if kind in TOWERS:
        found += ["cls", "mean"] if TOWERS[kind][1] else ["mean"]
    on_demand = "add_pooling_layer" in tower_class(config, ["pooler"])[1]
    if not on_demand and getattr(config, "vision_use_head", True):
        found.append("pooler")
    return tuple(found)


def feature_lists(
    config: PreTrainedConfig, poolings: Sequence[str] = ()
) -> tuple[FeatureList, ...]:
    """All lists to try, the simple ones first.

    They are each pooling of each block; ``mean`` of each block to the last, the same with ``cls``
    beside it (or ``cls`` alone where ``mean`` is not asked for); and everything.

    Args:
        config: Of the tower.
        poolings: Which of ``cls``, ``mean`` and ``pooler``; those of :func:`poolings_of` where
            none are given.

    Raises:
        ConfigError: a pooling is not known.
        IncompatibleWeights: the tower does not have it.
    """
    for each in poolings:
        if each not in get_args(SweepPooling):
            raise ConfigError(
                f"the pooling {each!r} is not known. {near_names(each, get_args(SweepPooling))}"
            )
    chosen = tuple(dict.fromkeys(poolings)) or poolings_of(config)
    by_block = [each for each in ("mean", "cls") if each in chosen]
    feature_width(config, list(chosen))  # refuses what the tower lacks
    depth = int(config.num_hidden_layers) if by_block else 0
    found = [
        FeatureList(f"{pooling}@{block}", (f"{pooling}@{block}",))
        for pooling in by_block
        for block in range(1, depth + 1)
    ]
    pooler = ("pooler",) if "pooler" in chosen else ()
    if pooler:
        found.append(FeatureList("pooler", pooler))
    starts = range(1, depth, max(1, depth // _MOST_STARTS))
    for joined in _runs(by_block):
        found += [_run(joined, start, depth) for start in starts]
    everything = _run(by_block, 1, depth) if by_block else FeatureList("", ())
    if pooler and by_block:
        found.append(FeatureList("all", (*everything.features, *pooler)))
    return tuple(found)


def _runs(by_block: Sequence[str]) -> list[Sequence[str]]:
    return [by_block[:1], by_block] if len(by_block) > 1 else [by_block] if by_block else []


def _run(poolings: Sequence[str], start: int, depth: int) -> FeatureList:
    features = tuple(f"{each}@{block}" for each in poolings for block in range(start, depth + 1))
    return FeatureList(f"{'+'.join(poolings)}@{start}..{depth}", features)
