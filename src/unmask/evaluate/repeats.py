"""Rows of a table of scores that say the same, or the contrary, of one item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from unmask.errors import ScoresError
from unmask.evaluate.agreement import DIFFERENCES, check_alike, differences
from unmask.evaluate.table import Column, Scores, columns_of, data_hash, joined, select

__all__ = ["REPEATED", "put_together", "repeated"]

REPEATED = "repeated rows"
"""The setting that says how many rows were left out since they repeat another one."""

_OF_THE_RUN = frozenset({"elapsed_ms", "logit"})
"""Columns that no item is told apart by: the time that it took, and another form of P(fake)."""

_LABELS = {0: "real", 1: "fake"}


def put_together(tables: Sequence[Scores], names: Sequence[str]) -> Scores:
    """The rows of one or several tables of one detector; each item of a data set counts once.

    A row that repeats another one is left out, and the settings count them (:func:`repeated`). They
    also list in what the tables differ (:func:`~unmask.evaluate.agreement.differences`).

    Args:
        tables: One at least.
        names: What to call each in a message, such as its file.

    Raises:
        ScoresError: tables of two detectors, or in which P(fake) means something else; an item of
            two labels, or of two contents or scores within its data set.
    """
    whole = _joined(tables, names)
    places = [
        f"{name}, row {row + 1}"
        for name, table in zip(names, tables, strict=True)
        for row in range(len(table))
    ]
    _check_labels(whole, places)
    kept = _once(whole, places)
    if kept.all():
        return whole
    left = select(whole, kept)
    count = repeated(whole) + int(np.sum(~kept))
    settings = {**whole.meta.settings, REPEATED: count}
    return replace(left, meta=replace(left.meta, settings=settings, data_sha256=data_hash(left)))


def _joined(tables: Sequence[Scores], names: Sequence[str]) -> Scores:
    whole = joined(tables)
    metas = [table.meta for table in tables]
    check_alike(metas, names)
    differ = differences(metas, names)
    if not differ:
        return whole
    settings = {**whole.meta.settings, DIFFERENCES: differ}
    return replace(whole, meta=replace(whole.meta, settings=settings))


def repeated(scores: Scores) -> int:
    """How many rows were left out, of the lists that were read or of the tables."""
    own = scores.meta.settings
    tables = own.get("tables")
    parts = [own, *(tables if isinstance(tables, list) and REPEATED not in own else [])]
    counts = [part.get(REPEATED) for part in parts if isinstance(part, Mapping)]
    return sum(count for count in counts if isinstance(count, int) and count > 0)


def _check_labels(scores: Scores, places: Sequence[str]) -> None:
    """Nothing, if no file is real here and fake there; one of other bytes is another file."""
    first: dict[str, dict[str, int]] = {}
    for row in np.flatnonzero(scores.label >= 0).tolist():
        sha256 = scores.sha256[row]
        before = first.setdefault(scores.source[row], {})
        same = [before[each] for each in (sha256, "") if each in before]
        for other in same if sha256 else before.values():
            if scores.label[other] != scores.label[row]:
                one, two = (_LABELS[int(scores.label[each])] for each in (other, row))
                raise ScoresError(
                    f"{scores.source[row]} is {one} by {places[other]} and {two} by {places[row]}. "
                    "A file has one label: mend the data that were scored, and score them again."
                )
        before.setdefault(sha256, row)


def _once(scores: Scores, places: Sequence[str]) -> npt.NDArray[np.bool_]:
    """``(N,)``: False where a row repeats one before it."""
    columns = [each for name, each in columns_of(scores) if name not in _OF_THE_RUN]
    rows = zip(*(_cells(each) for each in (*columns, *scores.extra.values())), strict=True)
    first: dict[tuple[str, str], int] = {}
    said: set[tuple[object, ...]] = set()
    kept = np.ones(len(scores), np.bool_)
    for row, words in enumerate(rows):
        before = first.setdefault((scores.dataset[row], scores.source[row]), row)
        _check_same(scores, before, row, places)
        kept[row] = words not in said
        said.add(words)
    return kept


def _cells(column: Column) -> list[object]:
    """The cells of a column, None for NaN, which does not equal itself."""
    cells: list[object] = column.tolist()
    return [None if each != each else each for each in cells]


def _check_same(scores: Scores, one: int, other: int, places: Sequence[str]) -> None:
    hashes = {scores.sha256[one], scores.sha256[other]} - {""}
    before, now = scores.p_fake[one], scores.p_fake[other]
    differ = "other bytes" if len(hashes) > 1 else ""
    if not differ and before != now and not np.isnan([before, now]).all():
        differ = "another score"
    if differ:
        raise ScoresError(
            f"{scores.source[other]} of the data set {scores.dataset[other]} has {differ} in "
            f"{places[other]} than in {places[one]}. An item of a data set has one score: leave "
            "out one of the two, or give their data sets names of their own."
        )
