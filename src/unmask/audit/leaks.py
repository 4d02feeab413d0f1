"""The same picture, person or footage where it must not be: in two splits, or under two labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from unmask.types import Sample

__all__ = [
    "Copy",
    "CopyKind",
    "SharedGroup",
    "copies_of",
    "group_of",
    "identical_pairs",
    "shared_groups",
    "units_of",
]

Pairs = npt.NDArray[np.int64]
"""``(P, 2)`` places in the list of samples."""

CopyKind = Literal["identical", "near", "embedding"]


@dataclass(frozen=True, slots=True)
class Copy:
    """Two files that show the same picture."""

    kind: CopyKind
    """Same bytes, alike for the perceptual hash, or alike for the detector's tower."""
    first: str
    second: str
    across_splits: bool
    across_labels: bool
    across_groups: bool
    """Whether nothing in the data says that they belong together."""


@dataclass(frozen=True, slots=True)
class SharedGroup:
    """An identity or video with pictures in more than one split."""

    dataset: str
    group: str
    splits: tuple[str, ...]
    n_pictures: int


def group_of(sample: Sample) -> str:
    """What must not be split, as the data say it; empty where they say nothing."""
    name = sample.group or sample.video
    return f"{sample.dataset}/{_within(sample, name)}" if name else ""


def _within(sample: Sample, name: str) -> str:
    """The name without that of the data set, which full identities begin with."""
    return name.removeprefix(f"{sample.dataset}/") if sample.dataset else name


def identical_pairs(hashes: Sequence[str]) -> Pairs:
    """Each file but the first of those with the same bytes, paired with that first one."""
    first: dict[str, int] = {}
    found = [
        (first[key], place)
        for place, key in enumerate(hashes)
        if first.setdefault(key, place) != place
    ]
    return np.array(found, np.int64).reshape(-1, 2)


def copies_of(samples: Sequence[Sample], kind: CopyKind, pairs: Pairs) -> list[Copy]:
    """The pairs by name, with what is known of both.

    Near copies within one group are left out: frames of a video and a face before and after its
    swap look alike, which is no error of the data.
    """
    found = []
    for one, two in pairs.tolist():
        first, second = samples[one], samples[two]
        known = group_of(first)
        together = known != "" and known == group_of(second)
        if together and kind != "identical":
            continue
        found.append(
            Copy(
                kind,
                first.source,
                second.source,
                across_splits="" not in (first.split, second.split) and first.split != second.split,
                across_labels=None not in (first.label, second.label)
                and first.label != second.label,
                across_groups=not together,
            )
        )
    return found


def shared_groups(samples: Iterable[Sample]) -> list[SharedGroup]:
    """The groups, and the videos, whose pictures lie in more than one split."""
    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    for sample in samples:
        for name in {sample.group, sample.video} - {""}:
            if sample.split:
                members[sample.dataset, _within(sample, name)].append(sample.split)
    return [
        SharedGroup(dataset, name, tuple(sorted(set(splits))), len(splits))
        for (dataset, name), splits in sorted(members.items())
        if len(set(splits)) > 1
    ]


def units_of(samples: Sequence[Sample], copies: Iterable[Pairs]) -> npt.NDArray[np.int64]:
    """``(N,)`` number of what must stay together: group, else picture, and copies joined.

    Args:
        samples: ``(N,)``.
        copies: Pairs that show the same picture.
    """
    names = [group_of(sample) or f"\0{place}" for place, sample in enumerate(samples)]
    numbers = np.unique(np.array(names, object).astype(str), return_inverse=True)[1]
    count = int(numbers.max()) + 1 if len(numbers) else 0
    joined = np.concatenate([np.empty((0, 2), np.int64), *copies])
    ends = numbers[joined[:, 0]], numbers[joined[:, 1]]
    graph = coo_matrix((np.ones(len(joined)), ends), shape=(count, count))
    roots: npt.NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return roots[numbers]
