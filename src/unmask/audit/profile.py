"""How many pictures of which kind there are, for each data set, split and label."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unmask.audit.metadata import Picture, Unread
from unmask.types import Label, Sample

__all__ = ["Cell", "Spread", "profile"]


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the ends of some numbers."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class Cell:
    """The pictures of one label in one split of one data set."""

    dataset: str
    split: str
    label: Label
    n: int
    """Pictures that could be read."""
    n_unread: int
    n_units: int
    """Identities or videos; pictures where the data name none. Copies are one."""
    formats: tuple[tuple[str, int], ...]
    """``(format, how many)``, the most frequent first."""
    width: Spread | None
    height: Spread | None
    jpeg_quality: Spread | None
    bytes_per_pixel: Spread | None


def profile(
    pictures: Sequence[Picture], units: npt.NDArray[np.int64], unread: Iterable[Unread]
) -> tuple[Cell, ...]:
    """One cell per data set, split and label, sorted.

    Args:
        pictures: What could be read, ``(N,)``.
        units: ``(N,)`` of :func:`unmask.audit.leaks.units_of`.
        unread: What could not be read.
    """
    read: defaultdict[tuple[str, str, int], list[int]] = defaultdict(list)
    for place, picture in enumerate(pictures):
        read[_key(picture.sample)].append(place)
    lost = Counter(_key(each.sample) for each in unread)
    return tuple(
        _cell(
            key,
            [pictures[place] for place in read.get(key, [])],
            len(np.unique(units[read.get(key, [])])),
            lost[key],
        )
        for key in sorted({*read, *lost})
    )


def _key(sample: Sample) -> tuple[str, str, int]:
    return sample.dataset, sample.split, -1 if sample.label is None else sample.label


def _cell(
    key: tuple[str, str, int], pictures: Sequence[Picture], n_units: int, n_unread: int
) -> Cell:
    dataset, split, label = key
    containers = [picture.container for picture in pictures]
    qualities = [each.compression.quality for each in containers if each.compression]
    return Cell(
        dataset,
        split,
        None if label < 0 else label,
        n=len(pictures),
        n_unread=n_unread,
        n_units=n_units,
        formats=tuple(Counter(each.format for each in containers).most_common()),
        width=_spread([each.width for each in containers]),
        height=_spread([each.height for each in containers]),
        jpeg_quality=_spread(qualities),
        bytes_per_pixel=_spread([each.n_bytes / (each.width * each.height) for each in containers]),
    )


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    return Spread(float(min(values)), float(np.median(values)), float(max(values)))
