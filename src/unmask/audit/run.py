"""All parts of an audit in order: read, find copies, try to separate, judge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from unmask.audit.columns import GROUPS, Column, columns_of
from unmask.audit.fingerprint import near_pairs
from unmask.audit.leaks import (
    Copy,
    SharedGroup,
    copies_of,
    identical_pairs,
    shared_groups,
    units_of,
)
from unmask.audit.metadata import Picture, Unread, read_picture
from unmask.audit.profile import Cell, profile
from unmask.audit.separability import Separability, Table, separability
from unmask.audit.verdict import Finding, Level, findings, worst
from unmask.errors import ConfigError, MissingSource
from unmask.flow import ordered
from unmask.images import Limits
from unmask.types import Sample

__all__ = ["Audit", "AuditOptions", "Progress", "audit"]

Ints = npt.NDArray[np.int64]

_WINDOW = 64
"""Pictures that may be read ahead."""

_MOST = 50_000
"""Pictures that the classifiers learn from; of more, so many are drawn. Copies: among all."""

Progress = Callable[[str, int | None], AbstractContextManager[Callable[[], None]]]
"""Opens a bar of that name and length; what it gives is called once per finished item."""


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What may be chosen.

    Raises:
        ConfigError: a number outside its range.
    """

    seed: int = 0
    """Of the folds, the classifiers and the intervals."""
    n_bootstrap: int = 1000
    workers: int = 2
    """Threads that read pictures."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 0 <= self.seed < 2**32:  # scikit-learn's range
            raise ConfigError(f"seed is {self.seed}; it must be 0 to {2**32 - 1}")
        if self.n_bootstrap < 1:
            raise ConfigError(f"n_bootstrap is {self.n_bootstrap}; it must be at least 1")
        if not 1 <= self.workers <= 256:
            raise ConfigError(f"workers is {self.workers}; it must be 1 to 256")


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found. ``docs/audit.md`` has its JSON form."""

    level: Level
    findings: tuple[Finding, ...]
    cells: tuple[Cell, ...]
    separability: tuple[Separability, ...]
    copies: tuple[Copy, ...]
    shared_groups: tuple[SharedGroup, ...]
    unread: tuple[Unread, ...]
    n_read: int
    n_learnt: int
    """Labelled pictures that the classifiers had; fewer than read where there are very many."""


def _silent(what: str, total: int | None) -> AbstractContextManager[Callable[[], None]]:
    del what, total
    return nullcontext(lambda: None)


def audit(
    samples: Iterable[Sample],
    options: AuditOptions,
    *,
    look_alikes: Callable[[Sequence[Sample]], Ints] | None = None,
    progress: Progress = _silent,
) -> Audit:
    """What tells the classes apart without a look at the faces, and what leaks between splits.

    Args:
        samples: Labelled or not; without labels only copies and shared groups are looked for.
        options: See there.
        look_alikes: Gives pairs ``(P, 2)`` of samples that look alike to a detector's tower, see
            :func:`unmask.audit.embedding.look_alikes`.
        progress: Opens a bar.

    Raises:
        MissingSource: no picture could be read.
    """
    pictures, unread = _read(list(samples), options, progress)
    known = [picture.sample for picture in pictures]
    identical, near = _copies(pictures, progress)
    units = units_of(known, [identical, near])
    copies = [*copies_of(known, "identical", identical), *copies_of(known, "near", near)]
    if look_alikes is not None:
        found = look_alikes(known)
        copies += copies_of(known, "embedding", _without(found, [identical, near]))
    tables = list(_tables(pictures, units, options.seed))
    rows = _separated(tables, options, progress)
    shared, cells = shared_groups(known), profile(pictures, units, unread)
    judged = findings(cells, rows, copies, shared)
    return Audit(
        level=worst(judged),
        findings=judged,
        cells=cells,
        separability=rows,
        copies=tuple(copies),
        shared_groups=tuple(shared),
        unread=tuple(unread),
        n_read=len(pictures),
        n_learnt=len(tables[0].labels) if tables else 0,
    )


def _read(
    samples: Sequence[Sample], options: AuditOptions, progress: Progress
) -> tuple[list[Picture], list[Unread]]:
    pictures: list[Picture] = []
    unread: list[Unread] = []

    def one(sample: Sample) -> Picture | Unread:
        return read_picture(sample, options.limits)

    with progress("reading", len(samples)) as advance:
        for each in ordered(one, samples, options.workers, _WINDOW):
            if isinstance(each, Picture):
                pictures.append(each)
            else:
                unread.append(each)
            advance()
    if not pictures:
        first = f" The first: {unread[0].reason.message}" if unread else ""
        raise MissingSource(f"none of {len(samples)} files is a picture that can be read.{first}")
    return pictures, unread


def _copies(pictures: Sequence[Picture], progress: Progress) -> tuple[Ints, Ints]:
    """Pairs of the same bytes, and pairs that look the same and have not the same bytes."""
    hashes = [picture.sha256 for picture in pictures]
    identical = identical_pairs(hashes)
    number = np.unique(hashes, return_inverse=True)[1]
    first = np.unique(number, return_index=True)[1]  # of equal files one is compared
    thumbnails = np.stack([pictures[place].thumbnail for place in first])
    found = [np.empty((0, 2), np.int64)]
    with progress("comparing", None) as advance:
        for pairs in near_pairs([pictures[place].phash for place in first], thumbnails):
            found.append(first[pairs])
            advance()
    return identical, np.concatenate(found)


def _separated(
    tables: Sequence[Table], options: AuditOptions, progress: Progress
) -> tuple[Separability, ...]:
    """The answers of all tables, by one thread.

    The fits are many and small: more threads wait for one another longer than they compute, ten
    times as long on two cores. One thread also gives the same sums on every machine.
    """
    from threadpoolctl import threadpool_limits

    rows: list[Separability] = []
    with (
        threadpool_limits(1),
        progress("separating", len(tables) * len(GROUPS)) as advance,
    ):
        for table in tables:
            rows += separability(
                table, seed=options.seed, n_bootstrap=options.n_bootstrap, advance=advance
            )
    return tuple(rows)


def _without(pairs: Ints, known: Sequence[Ints]) -> Ints:
    """The pairs that are not known as copies of another kind."""
    seen = {frozenset(pair) for each in known for pair in each.tolist()}
    kept = [pair for pair in pairs.tolist() if frozenset(pair) not in seen]
    return np.array(kept, np.int64).reshape(-1, 2)


def _tables(pictures: Sequence[Picture], units: Ints, seed: int) -> Iterator[Table]:
    """All sets together, then each set; one that lacks a class against that of the others."""
    labelled = np.array(
        [place for place, each in enumerate(pictures) if each.sample.label is not None], np.int64
    )
    if len(labelled) > _MOST:
        drawn = np.random.default_rng(seed).choice(len(labelled), _MOST, replace=False)
        labelled = labelled[np.sort(drawn)]
    if not len(labelled):
        return
    chosen = [pictures[place] for place in labelled]
    datasets = np.array([each.sample.dataset for each in chosen], object)
    whole = Table(
        "",
        np.array([each.sample.label for each in chosen], np.int64),
        units[labelled],
        columns_of(chosen),
        np.stack([each.thumbnail for each in chosen]).reshape(len(chosen), -1).astype(np.float64),
    )
    names = sorted(set(datasets))
    yield whole if len(names) > 1 else replace(whole, dataset=names[0])
    for name in names if len(names) > 1 else []:
        inside = datasets == name
        present = set(whole.labels[inside].tolist())
        if len(present) == 2:
            yield _part(whole, inside, name)
        else:
            missing = 1 - present.pop()
            against = ("reals", "fakes")[missing]
            yield replace(_part(whole, inside | (whole.labels == missing), name), against=against)


def _part(table: Table, chosen: npt.NDArray[np.bool_], dataset: str) -> Table:
    columns = tuple(
        Column(each.group, each.name, each.values[chosen], each.categories)
        for each in table.columns
    )
    return Table(
        dataset, table.labels[chosen], table.units[chosen], columns, table.thumbnails[chosen]
    )
