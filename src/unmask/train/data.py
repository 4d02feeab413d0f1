"""Labelled samples in two parts: to learn from, and to choose and calibrate on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unmask.errors import SourceError
from unmask.sources import read_sources
from unmask.types import Sample

__all__ = ["apart", "cell_weights", "counted", "read_labelled", "unit"]

_VALIDATION_SHARE = 0.2


def read_labelled(data: Sequence[str | Path], *, seed: int) -> list[Sample]:
    """All samples with ``split`` train or val; other splits of a manifest are left out.

    Where the data name no split, a fifth of the groups goes to validation, drawn by hash.

    Raises:
        SourceError: a sample without label, a split that is not known or given for some samples
            only, or a part in which one of the classes is missing.
    """
    samples = list(read_sources(data))
    unlabelled = [sample.source for sample in samples if sample.label is None]
    if unlabelled:
        raise SourceError(
            f"{len(unlabelled)} of {len(samples)} samples have no label, the first is "
            f"{unlabelled[0]}. Training needs a manifest with the columns path,label or a folder "
            "with sub-folders real/ and fake/."
        )
    splits = {sample.split for sample in samples}
    if splits == {""}:
        samples = _split(samples, seed)
    elif not splits <= {"train", "val", "test"}:
        raise SourceError(
            f"the data name the splits {sorted(splits)}; expected train, val and test for every "
            "sample, or none at all"
        )
    samples = [sample for sample in samples if sample.split != "test"]
    for part in ("train", "val"):
        labels = {sample.label for sample in samples if sample.split == part}
        if labels != {0, 1}:
            raise SourceError(
                f"the part {part!r} must hold real and fake samples; its labels are "
                f"{sorted(str(label) for label in labels)} (0 real, 1 fake). Give more data or a "
                "manifest with a split column."
            )
    return samples


def _split(samples: Iterable[Sample], seed: int) -> list[Sample]:
    """Groups in the order of a seeded hash; the first fifth of each class's groups validates."""
    samples = list(samples)
    chosen: set[str] = set()
    for label in (0, 1):
        groups = {_group(sample) for sample in samples if sample.label == label}
        order = sorted(groups, key=lambda group: _hash(seed, group))
        wanted = max(1, round(_VALIDATION_SHARE * len(order)))
        already = len(chosen & groups)
        chosen.update([group for group in order if group not in chosen][: max(0, wanted - already)])
    return [
        replace(sample, split="val" if _group(sample) in chosen else "train") for sample in samples
    ]


def _group(sample: Sample) -> str:
    """What must not be split. A picture alone goes by its folder's and its own name.

    Not by its whole path: the same data elsewhere would be split otherwise.
    """
    alone = f"{sample.path.parent.name}/{sample.path.name}"
    return f"{sample.dataset}/{sample.group or sample.video or alone}"


def _hash(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}:{text}".encode(errors="surrogateescape")).hexdigest()


def apart(samples: Sequence[Sample], hashes: Sequence[str]) -> tuple[list[Sample], list[Sample]]:
    """The samples without those of ``train`` whose bytes are in ``val`` too, and those.

    Args:
        samples: ``(N,)``.
        hashes: ``(N,)`` content hashes; empty where a file cannot be read.

    Raises:
        SourceError: the same bytes are real and fake, or a class has nothing left to train on.
    """
    first: dict[str, Sample] = {}
    validating: set[str] = set()
    for sample, key in zip(samples, hashes, strict=True):
        other = first.setdefault(key, sample)
        if key and other.label != sample.label:
            raise SourceError(
                f"{other.source} and {sample.source} have the same bytes, and one is labelled "
                "real, the other fake. Correct the label of one, or remove both."
            )
        if key and sample.split == "val":
            validating.add(key)
    kept: list[Sample] = []
    repeated: list[Sample] = []
    for sample, key in zip(samples, hashes, strict=True):
        (repeated if sample.split == "train" and key in validating else kept).append(sample)
    if repeated and {each.label for each in kept if each.split == "train"} != {0, 1}:
        raise SourceError(
            f"{len(repeated)} training samples have the same bytes as validation samples, the "
            f"first is {repeated[0].source}; without them a class has nothing to learn from. "
            "Give more data, or other splits."
        )
    return kept, repeated


def unit(sample: Sample) -> str:
    """What counts once in a metric: the video of a frame, else the picture itself."""
    name = f"{sample.video}" if sample.video else f"{sample.path}"
    return f"{sample.dataset}/{sample.label}/{name}"


def counted(samples: Iterable[Sample]) -> dict[str, int]:
    """How many samples there are, by ``part/data set/class``."""
    names = (
        f"{sample.split}/{sample.dataset or 'data'}/{'fake' if sample.label else 'real'}"
        for sample in samples
    )
    return dict(sorted(Counter(names).items()))


def cell_weights(samples: Sequence[Sample]) -> npt.NDArray[np.float64]:
    """Weights, ``(N,)`` with mean 1: classes count alike, and data sets alike within a class."""
    cells = [(sample.label, sample.dataset) for sample in samples]
    sizes = {cell: cells.count(cell) for cell in set(cells)}
    per_class = {label: sum(1 for cell in sizes if cell[0] == label) for label in (0, 1)}
    weights = np.array([1 / (sizes[cell] * per_class[cell[0] or 0]) for cell in cells])
    result: npt.NDArray[np.float64] = weights * (len(cells) / weights.sum())
    return result
