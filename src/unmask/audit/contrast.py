"""What of a feature differs between the classes, in a clause."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unmask.audit.columns import Column

__all__ = ["contrast"]

_Part = tuple[float, float, str]
"""Its share of the fakes, its share of the reals, and how it is called."""


def contrast(column: Column, labels: npt.NDArray[np.int64]) -> str:
    """``format: png in 100 % of fakes, 0 % of reals``: what differs most in how frequent it is.

    Of categories one; of numbers the range; or that a file has none. Of a value and its opposite,
    which differ alike, that of the fakes is told.
    """
    parts = _categories(column, labels) if column.categories else _ranges(column, labels)
    if not parts:
        return f"{column.name}: in no file"
    of_fakes, of_reals, name = max(parts, key=lambda part: (_gap(part), part[0] > part[1]))
    return f"{column.name}: {name} in {_percent(of_fakes)} of fakes, {_percent(of_reals)} of reals"


def _gap(part: _Part) -> float:
    return round(abs(part[0] - part[1]), 9)


def _categories(column: Column, labels: npt.NDArray[np.int64]) -> list[_Part]:
    return [
        (*_shares(column.values == value, labels), column.categories[int(value)] or "none")
        for value in np.unique(column.values)
    ]


def _ranges(column: Column, labels: npt.NDArray[np.int64]) -> list[_Part]:
    """The range more frequent in fakes, the one more frequent in reals, and that of no value."""
    missing = np.isnan(column.values)
    if missing.all():
        return []
    parts: list[_Part] = [(*_shares(missing, labels), "none")] if missing.any() else []
    values, number = np.unique(column.values[~missing], return_inverse=True)
    known = labels[~missing]
    ahead = np.zeros(len(values))
    for label, sign in ((1, 1), (0, -1)):
        total = max(1, int((labels == label).sum()))
        ahead += sign * np.bincount(number[known == label], minlength=len(values)) / total
    for more in (ahead, -ahead):
        first, last = _heaviest(more)
        inside = ~missing & (column.values >= values[first]) & (column.values <= values[last])
        parts.append((*_shares(inside, labels), _range(values, first, last)))
    return parts


def _heaviest(weights: npt.NDArray[np.float64]) -> tuple[int, int]:
    """First and last place of the run with the largest sum."""
    before = np.concatenate([[0.0], np.cumsum(weights)])
    least = np.minimum.accumulate(before[:-1])
    last = int(np.argmax(np.round(before[1:] - least, 9)))
    return int(np.argmin(before[: last + 1])), last


def _range(values: npt.NDArray[np.float64], first: int, last: int) -> str:
    low, high = _number(values[first]), _number(values[last])
    if low == high:
        return low
    if first == 0:
        return f"up to {high}"
    return f"{low} and more" if last == len(values) - 1 else f"{low} to {high}"


def _shares(inside: npt.NDArray[np.bool_], labels: npt.NDArray[np.int64]) -> tuple[float, float]:
    return float(inside[labels == 1].mean()), float(inside[labels == 0].mean())


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _percent(share: float) -> str:
    """In whole per cent, but 0 and 100 only where they are exact."""
    if 0 < share < 0.005:
        return "under 1 %"
    if 0.995 <= share < 1:
        return "over 99 %"
    return f"{100 * share:.0f} %"
