"""What the plots of a report draw: ROC and DET curves, bands around them, reliability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unmask.errors import ConfigError, MetricUndefined
from unmask.evaluate.counts import Array, Counts, rank
from unmask.evaluate.intervals import Seed, groups_per_class, resampled_counts
from unmask.evaluate.weighted import calibration_bins, kept_steps, rates

__all__ = ["Band", "Det", "Reliability", "Roc", "det", "reliability", "roc", "roc_band"]


@dataclass(frozen=True, slots=True, eq=False)
class Roc:
    """Points of a ROC curve from (0, 0) to (1, 1), each ``(K,)``."""

    fpr: Array
    tpr: Array
    thresholds: Array
    """``score >= threshold`` is fake; the first is infinite."""


@dataclass(frozen=True, slots=True, eq=False)
class Det:
    """Points of a detection error trade-off curve, each ``(K,)``.

    The axes of such a plot are normal deviates, on which rates of 0 and 1 have no place.
    """

    fpr: Array
    fnr: Array
    thresholds: Array


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """P(fake) against the share of fakes, in bins of equal width."""

    edges: Array
    """``(bins + 1,)``; bin k holds ``edges[k] <= p < edges[k + 1]``, the last also 1."""
    mean: Array
    """``(bins,)`` mean P(fake); NaN in an empty bin."""
    share: Array
    """``(bins,)`` share of fakes; NaN in an empty bin."""
    count: npt.NDArray[np.int64]
    """``(bins,)``."""


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """TPR at given FPR, with its bootstrap interval at each of them; each ``(K,)``."""

    fpr: Array
    tpr: Array
    low: Array
    """NaN, as ``high``, where a class comes from one group only."""
    high: Array


def roc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> Roc:
    """The ROC curve with the points that scikit-learn's ``roc_curve`` keeps.

    Raises:
        MetricUndefined: one class only.
        ScoresError: labels and scores do not fit together.
    """
    counts = rank(labels, scores).counts()
    fpr, tpr = rates(counts)
    points = np.concatenate([[0], kept_steps(counts) + 1])
    thresholds = np.concatenate([[np.inf], counts.scores])
    return Roc(fpr[points], tpr[points], thresholds[points])


def det(labels: npt.ArrayLike, scores: npt.ArrayLike) -> Det:
    """The miss rate against the false alarm rate, at the points of :func:`roc`.

    Raises:
        MetricUndefined: one class only.
        ScoresError: labels and scores do not fit together.
    """
    curve = roc(labels, scores)
    return Det(curve.fpr, 1 - curve.tpr, curve.thresholds)


def reliability(labels: npt.ArrayLike, scores: npt.ArrayLike, bins: int = 15) -> Reliability:
    """Mean P(fake) and share of fakes in each bin.

    Raises:
        ScoresError: labels and scores do not fit together, or scores are no probabilities.
        ConfigError: ``bins`` is below 1.
    """
    edges, mean, share, count = calibration_bins(rank(labels, scores).counts(), bins)
    return Reliability(edges, mean, share, count.astype(np.int64))


def roc_band(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    groups: npt.ArrayLike,
    fpr: Array,
    *,
    n: int = 1000,
    seed: Seed,
    level: float = 0.95,
) -> Band:
    """The ROC curve at given FPR, and the percentiles of TPR over resamples of whole groups.

    The band holds at each FPR for itself, not for the whole curve at once. Resamples of one
    class only are dropped, as in :func:`~unmask.evaluate.intervals.bootstrap`.

    Args:
        labels: ``(N,)``.
        scores: ``(N,)``.
        groups: ``(N,)``.
        fpr: ``(K,)`` rates in 0..1.
        n: How many resamples.
        seed: As in :func:`~unmask.evaluate.intervals.bootstrap`.
        level: Probability that the band holds the TPR.

    Raises:
        MetricUndefined: one class only, or no resample has both.
        ScoresError: labels, scores and groups do not fit together.
        ConfigError: ``n``, ``level`` or ``fpr`` is out of range.
    """
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}; a probability between 0 and 1 was expected (0.95)")
    if len(fpr) == 0 or fpr.min() < 0 or fpr.max() > 1:
        raise ConfigError("fpr must be rates between 0 and 1, at least one")
    ranking = rank(labels, scores)
    whole = _tpr_at(ranking.counts(), fpr)
    if groups_per_class(labels, groups) < 2:
        nothing = np.full(len(fpr), np.nan)
        return Band(fpr, whole, nothing, nothing)
    drawn = [
        _tpr_at(counts, fpr)
        for counts in resampled_counts(ranking, groups, n=n, seed=seed)
        if counts.n_real and counts.n_fake
    ]
    if not drawn:
        raise MetricUndefined(
            f"none of {n} resamples of whole groups has both classes; ask for more",
            code="no_resamples",
        )
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Band(fpr, whole, low, high)


def _tpr_at(counts: Counts, at: Array) -> Array:
    """TPR on straight lines between the points, the upper end where the curve is upright."""
    fpr, tpr = rates(counts)
    after = np.searchsorted(fpr, at, side="right")
    before = after - 1
    after = np.minimum(after, len(fpr) - 1)
    width = fpr[after] - fpr[before]
    share = np.divide(at - fpr[before], width, out=np.zeros_like(at), where=width > 0)
    tpr_between: Array = tpr[before] + share * (tpr[after] - tpr[before])
    return tpr_between
