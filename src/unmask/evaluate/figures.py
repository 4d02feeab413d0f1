"""What the plots of a report draw for one row of the table."""

from __future__ import annotations

import numpy as np

from unmask.errors import MetricUndefined
from unmask.evaluate.counts import Array
from unmask.evaluate.curves import reliability, roc_band
from unmask.evaluate.evaluation import Curves
from unmask.evaluate.intervals import Seed
from unmask.evaluate.units import Units

__all__ = ["FPR_GRID", "HISTOGRAM_BINS", "MOST_DRAWN", "curves_of"]

MOST_DRAWN = 12
"""Data sets of a report that have plots: of more, those with the lowest AUC; tables have all."""

HISTOGRAM_BINS = 20

FPR_GRID: Array = np.unique(
    np.concatenate([[0.0], np.logspace(-4, 0, 41), np.linspace(0, 1, 51)]).round(6)
)
"""Where curves have a point: evenly for the ROC plot, by powers of ten for its left end."""


def curves_of(name: str, units: Units, *, n: int, seed: Seed) -> Curves | None:
    """The curves of one row, None without items; one class only leaves the ROC curve empty.

    Args:
        name: Of the row.
        units: What was measured.
        n: Resamples behind the band; 0 for none.
        seed: Of the resamples.
    """
    if not len(units.labels):
        return None
    fpr, tpr, low, high = _roc(units, n=n, seed=seed)
    bins = reliability(units.labels, units.p_fake)
    filled = bins.count > 0
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    real, fake = (np.histogram(units.p_fake[units.labels == label], edges)[0] for label in (0, 1))
    return Curves(
        name=name,
        fpr=fpr,
        tpr=tpr,
        tpr_low=low,
        tpr_high=high,
        bin_p_fake=_floats(bins.mean[filled]),
        bin_share_fake=_floats(bins.share[filled]),
        bin_count=tuple(int(each) for each in bins.count[filled]),
        histogram_edges=_floats(edges),
        histogram_real=tuple(int(each) for each in real),
        histogram_fake=tuple(int(each) for each in fake),
        unit=units.unit,
    )


Floats = tuple[float, ...]


def _roc(units: Units, *, n: int, seed: Seed) -> tuple[Floats, Floats, Floats, Floats]:
    """FPR, TPR and the band; all empty with one class, the band where nothing can be said."""
    if not (units.n_real and units.n_fake):
        return (), (), (), ()
    try:
        band = roc_band(units.labels, units.p_fake, units.groups, FPR_GRID, n=max(n, 1), seed=seed)
    except MetricUndefined:  # no resample had both classes
        return (), (), (), ()
    if n == 0 or np.isnan(band.low).any():
        return _floats(band.fpr), _floats(band.tpr), (), ()
    return _floats(band.fpr), _floats(band.tpr), _floats(band.low), _floats(band.high)


def _floats(values: Array) -> Floats:
    return tuple(float(each) for each in values)
