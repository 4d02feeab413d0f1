"""What of a feature differs between the classes, in a clause."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unmask.audit.columns import Column

__all__ = ["contrast"]

_MOST_VALUES = 32
"""With more distinct values than this the medians are told, else the value that differs most."""


def contrast(column: Column, labels: npt.NDArray[np.int64]) -> str:
    """``format: png in 100 % of fakes, 0 % of reals``, or the medians of both classes."""
    fake, real = column.values[labels == 1], column.values[labels == 0]
    values = np.unique(column.values[~np.isnan(column.values)])
    if len(values) > _MOST_VALUES and not column.categories:
        return f"{column.name}: median {_median(fake)} for fakes, {_median(real)} for reals"
    shares = [(_share(fake, value), _share(real, value), value) for value in values]
    if not shares:
        return f"{column.name}: in no file"
    of_fakes, of_reals, value = max(shares, key=lambda share: abs(share[0] - share[1]))
    name = column.categories[int(value)] or "none" if column.categories else f"{value:.6g}"
    return f"{column.name}: {name} in {_percent(of_fakes)} of fakes, {_percent(of_reals)} of reals"


def _share(values: npt.NDArray[np.float64], value: float) -> float:
    return float((values == value).mean())


def _median(values: npt.NDArray[np.float64]) -> str:
    known = values[~np.isnan(values)]
    if not len(known):
        return "none"
    median = float(np.median(known))
    return f"{median:,.0f}" if median >= 1000 else f"{median:.3g}"


def _percent(share: float) -> str:
    """In whole per cent, but 0 and 100 only where they are exact."""
    if 0 < share < 0.005:
        return "under 1 %"
    if 0.995 <= share < 1:
        return "over 99 %"
    return f"{100 * share:.0f} %"
