"""Where the errors are: false alarms and misses within parts of the data.

Pictures count by themselves, and intervals are Clopper-Pearson's, which take them as independent:
for frames of a few videos they are too narrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from unmask.errors import ConfigError, near_names
from unmask.evaluate.evaluation import Slice
from unmask.evaluate.intervals import Interval, clopper_pearson
from unmask.evaluate.table import Column, Scores, scored, select

__all__ = [
    "COLUMNS",
    "LEAST_REALS",
    "SOURCE",
    "available",
    "default_columns",
    "slices",
    "worst_slice",
]

SOURCE = "source"
"""The column that says which data set an item comes from, as it was given (before any join)."""

LEAST_REALS = 20
"""Reals below which a slice is not named the worst one: a single false alarm would be 5 % of them,
the larger of the two usual targets."""

COLUMNS = (
    SOURCE, "dataset", "generator", "split", "faces", "face_px", "sharpness", "face_confidence",
    "format", "width", "height", "aspect", "jpeg_quality",
)  # fmt: skip
"""What can be sliced by in every table of scores, beside the columns of a manifest."""

_DEFAULT = (SOURCE, "face_px", "sharpness", "jpeg_quality", "aspect", "format")
_OWN = {SOURCE: "dataset", "dataset": "dataset", "generator": "generator", "split": "split"}
_PARTS = 4
_VALUES = 30
"""Values of a column that have a line of their own; the others share one."""
_UNKNOWN = "unknown"
_OTHERS = "(other values)"


def available(scores: Scores) -> list[str]:
    """The columns to slice by."""
    return sorted({*_OWN, *scores.extra})


def default_columns(scores: Scores) -> list[str]:
    """Those of the usual columns that the table has and that tell its items apart."""
    there = [name for name in _DEFAULT if name in _OWN or name in scores.extra]
    return [name for name in there if len({value for _, value, _ in _parts(scores, name)}) > 1]


def slices(scores: Scores, columns: Iterable[str], threshold: float) -> tuple[Slice, ...]:
    """False positive and false negative rate at the threshold in each part of each column.

    Numbers are cut at their quartiles over all scored items; texts have a slice for each value,
    the most frequent first. A manifest's column that holds nothing but numbers counts as such.

    Args:
        scores: All of them; items without score or label are left out.
        columns: Among :func:`available`.
        threshold: ``p_fake >= threshold`` is called fake.

    Raises:
        ConfigError: a column that the table does not have.
    """
    measured = select(scores, scored(scores) & (scores.label >= 0))
    found = []
    for column in dict.fromkeys(columns):
        for rows, value, _ in _parts(measured, column):
            found.append(_slice(column, value, select(measured, rows), threshold))
    return tuple(found)


def worst_slice(found: Sequence[Slice]) -> Slice | None:
    """The slice whose false-positive rate has the highest lower bound; None without candidates.

    The lower bound rather than the rate, so that chance among few reals does not decide; slices of
    fewer than :data:`LEAST_REALS` reals are no candidates.
    """
    able = [(each, each.fpr) for each in found if each.n_real >= LEAST_REALS]
    bounds = [(fpr.low, each) for each, fpr in able if fpr is not None]
    return max(bounds, key=lambda pair: pair[0])[1] if bounds else None


Part = tuple[npt.NDArray[np.bool_], str, int]
"""The rows, the value in words, how many rows."""


def _parts(scores: Scores, name: str) -> list[Part]:
    if name not in _OWN and name not in scores.extra:
        raise ConfigError(f"no column {name!r} to slice by. {near_names(name, available(scores))}")
    column: Column = getattr(scores, _OWN[name]) if name in _OWN else scores.extra[name]
    if column.dtype.kind == "O":
        numbers = _as_numbers(column)
        return _by_value(column) if numbers is None else _by_range(numbers)
    return _by_range(column.astype(np.float64))


def _as_numbers(column: Column) -> npt.NDArray[np.float64] | None:
    """Texts that are all numbers (or empty), and more than a handful of different ones."""
    given = column != ""
    if len(set(column[given])) <= _PARTS + 1:
        return None
    numbers = np.full(len(column), np.nan)
    try:
        numbers[given] = column[given].astype(np.float64)
    except ValueError:
        return None
    return numbers


def _by_value(column: Column) -> list[Part]:
    names, counts = np.unique(column.astype(np.str_), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    parts = []
    for index in order[:_VALUES]:
        name = str(names[index])
        parts.append((column == name, name or _UNKNOWN, int(counts[index])))
    if len(order) > _VALUES:
        rest = ~np.isin(column.astype(np.str_), names[order[:_VALUES]])
        parts.append((rest, _OTHERS, int(rest.sum())))
    return parts


def _by_range(numbers: npt.NDArray[np.float64]) -> list[Part]:
    known = np.isfinite(numbers)
    parts: list[Part] = []
    distinct = np.unique(numbers[known])
    if len(distinct) <= _PARTS + 1:
        parts = [_part(numbers == value, f"{value:g}") for value in distinct]
    else:
        edges = np.unique(np.quantile(numbers[known], np.linspace(0, 1, _PARTS + 1)))
        last = len(edges) - 2
        for index, (low, high) in enumerate(pairwise(edges)):
            closed = index == last
            inside = (numbers >= low) & ((numbers <= high) if closed else (numbers < high))
            parts.append(_part(inside, f"[{low:.4g}, {high:.4g}{']' if closed else ')'}"))
    if not known.all():
        parts.append(_part(~known, _UNKNOWN))
    return parts


def _part(rows: npt.NDArray[np.bool_], value: str) -> Part:
    return rows, value, int(rows.sum())


def _slice(column: str, value: str, part: Scores, threshold: float) -> Slice:
    called = part.p_fake >= threshold
    real, fake = part.label == 0, part.label == 1
    return Slice(
        column=column,
        value=value,
        n_real=int(real.sum()),
        n_fake=int(fake.sum()),
        fpr=_share(called & real, real),
        fnr=_share(~called & fake, fake),
    )


def _share(wrong: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> Interval | None:
    return clopper_pearson(int(wrong.sum()), int(among.sum())) if among.any() else None
