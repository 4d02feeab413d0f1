"""How sure a number is: bootstrap over groups, DeLong's test, exact binomial intervals.

Frames of one video, or pictures of one person, are not independent: whole groups are resampled,
never items. Each resample draws as many groups as there are, with replacement (Field and Welsh,
Bootstrapping clustered data, JRSS B 2007); an interval is the percentiles of a metric over the
resamples (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unmask.errors import ConfigError, MetricUndefined, ScoresError
from unmask.evaluate.counts import Array, Counts, Labels, Ranking, checked, rank
from unmask.evaluate.weighted import Metric
from unmask.types import Reason

__all__ = [
    "DeLong",
    "Interval",
    "Seed",
    "bootstrap",
    "clopper_pearson",
    "delong",
    "groups_per_class",
    "paired_difference",
    "percentile_interval",
    "resampled_counts",
    "resampled_metrics",
]

Seed = int | Sequence[int]
"""The seed of :func:`numpy.random.default_rng`; several numbers keep data sets apart."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A number and the interval that holds it with probability ``level``.

    ``low`` and ``high`` are NaN where nothing can be said: a class that comes from one group
    only gives the same numbers in every resample, which is not certainty.
    """

    value: float
    low: float
    high: float
    level: float = 0.95
    resamples: int = 0
    """The bootstrap resamples behind it; 0 where it is no bootstrap interval."""
    dropped: int = 0
    """Resamples left out because the metric has no value there (mostly: one class only)."""


@dataclass(frozen=True, slots=True)
class DeLong:
    """The difference of two AUCs on the same items, with its standard error and test."""

    difference: float
    standard_error: float
    p_value: float
    """Two-sided, that both detectors have the same AUC."""


def bootstrap(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    groups: npt.ArrayLike,
    metrics: Mapping[str, Metric],
    *,
    n: int = 1000,
    seed: Seed,
    level: float = 0.95,
) -> dict[str, Interval | Reason]:
    """Each metric on the data with its percentile interval, or the reason why it has no value.

    Resamples are not stratified. One in which a metric has no value, since all its groups are of
    one class, is dropped for that metric and counted in ``Interval.dropped``.

    Args:
        labels: ``(N,)`` 0 real, 1 fake.
        scores: ``(N,)``.
        groups: ``(N,)`` what belongs together, by name or number; each item its own where nothing
            does.
        metrics: Functions of counts, such as :func:`unmask.evaluate.weighted.default_metrics`.
        n: How many resamples.
        seed: The same seed gives the same resamples for the same groups.
        level: Probability that the interval holds the number.

    Raises:
        ScoresError: labels, scores and groups do not fit together.
        ConfigError: ``n`` or ``level`` is out of range.
    """
    _check_level(level)
    found: dict[str, Interval | Reason] = {}
    here = {name: _value(metric, rank(labels, scores).counts()) for name, metric in metrics.items()}
    defined = {name: metrics[name] for name, value in here.items() if isinstance(value, float)}
    drawn = resampled_metrics(labels, scores, groups, defined, n=n, seed=seed)
    enough = groups_per_class(labels, groups) >= 2
    for name, value in here.items():
        if isinstance(value, Reason):
            found[name] = value
        else:
            values = drawn[name] if enough else np.empty(0)
            found[name] = percentile_interval(value, values, level)
    return found


def paired_difference(
    labels: npt.ArrayLike,
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    groups: npt.ArrayLike,
    metric: Metric,
    *,
    n: int = 1000,
    seed: Seed,
    level: float = 0.95,
) -> Interval:
    """The metric of ``a`` minus that of ``b`` on the same items, both in the same resamples.

    Raises:
        MetricUndefined: the metric has no value on the data.
        ScoresError, ConfigError: as :func:`bootstrap`.
    """
    value = metric(rank(labels, a).counts()) - metric(rank(labels, b).counts())
    if groups_per_class(labels, groups) < 2:
        return percentile_interval(value, np.empty(0), level)
    of_a, of_b = (
        resampled_metrics(labels, each, groups, {"": metric}, n=n, seed=seed)[""] for each in (a, b)
    )
    return percentile_interval(value, of_a - of_b, level)


def resampled_metrics(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    groups: npt.ArrayLike,
    metrics: Mapping[str, Metric],
    *,
    n: int = 1000,
    seed: Seed,
) -> dict[str, Array]:
    """The values of each metric over the resamples, ``(n,)``; NaN where it has none.

    For what is computed from several metrics or data sets, such as the mean over data sets, whose
    interval is :func:`percentile_interval` of the mean of their arrays (each with its own seed).

    Raises:
        ScoresError, ConfigError: as :func:`bootstrap`.
    """
    ranking = rank(labels, scores)
    drawn = {name: np.full(n, np.nan) for name in metrics}
    for index, counts in enumerate(resampled_counts(ranking, groups, n=n, seed=seed)):
        for name, metric in metrics.items():
            value = _value(metric, counts)
            if isinstance(value, float):
                drawn[name][index] = value
    return drawn


def resampled_counts(
    ranking: Ranking, groups: npt.ArrayLike, *, n: int, seed: Seed
) -> Iterator[Counts]:
    """The counts of ``n`` resamples of whole groups, one after the other.

    Args:
        ranking: Of N items.
        groups: ``(N,)``, in the order of the items, not of the ranking.
        n: How many.
        seed: As in :func:`bootstrap`.

    Raises:
        ScoresError: there are not as many groups as items.
        ConfigError: ``n`` is below 1.
    """
    if n < 1:
        raise ConfigError(f"{n} resamples were asked for; at least 1 is needed (1000 is usual)")
    codes, many = _codes(groups, len(ranking.order))
    places = codes[ranking.order]
    generator = np.random.default_rng(seed)
    for _ in range(n):
        times = np.bincount(generator.integers(0, many, many), minlength=many)
        yield ranking.counts(times.astype(np.float64)[places])


def percentile_interval(value: float, drawn: Array, level: float = 0.95) -> Interval:
    """The interval between the percentiles of resampled values; NaN among them are dropped.

    Raises:
        ConfigError: ``level`` is not between 0 and 1.
    """
    _check_level(level)
    kept = drawn[~np.isnan(drawn)]
    dropped = len(drawn) - len(kept)
    if not len(kept):
        return Interval(value, math.nan, math.nan, level, 0, dropped)
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), level, len(kept), dropped)


def groups_per_class(labels: npt.ArrayLike, groups: npt.ArrayLike) -> int:
    """The number of groups that the class has which comes from fewest; of the classes there are.

    Raises:
        ScoresError: there are not as many groups as labels, or an item has none.
    """
    given = np.asarray(labels)
    codes, _ = _codes(groups, len(given))
    return min(len(np.unique(codes[given == label])) for label in np.unique(given))


def clopper_pearson(k: int, n: int, level: float = 0.95) -> Interval:
    """The share ``k / n`` with its exact binomial interval.

    Clopper and Pearson, The Use of Confidence or Fiducial Limits (Biometrika 1934).

    Raises:
        MetricUndefined: ``n`` is 0.
        ScoresError: ``k`` is not between 0 and ``n``.
        ConfigError: ``level`` is not between 0 and 1.
    """
    from scipy.stats import beta

    _check_level(level)
    if n == 0 and k == 0:
        raise MetricUndefined("a share of no items has no value", code="no_items")
    if not 0 <= k <= n:
        raise ScoresError(f"{k} of {n} is no share; the part must be between 0 and the whole")
    tail = (1 - level) / 2
    low = 0.0 if k == 0 else float(beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k == n else float(beta.ppf(1 - tail, k + 1, n - k))
    return Interval(k / n, low, high, level)


def delong(labels: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike) -> DeLong:
    """AUC of ``a`` minus AUC of ``b``, tested on items that are independent of one another.

    DeLong, DeLong and Clarke-Pearson (Biometrics 1988) by the midranks of Sun and Xu (IEEE
    Signal Processing Letters 2014). Frames of one video are not independent: for them the
    p-value is too small, and :func:`paired_difference` over groups is the answer.

    Raises:
        MetricUndefined: a class has fewer than two items, or the AUCs differ without variance
            (both classes apart in both, in opposite order).
        ScoresError: labels and scores do not fit together.
    """
    from scipy.stats import norm

    parts = [_placements(*checked(labels, scores)) for scores in (a, b)]
    difference = float(parts[0][0].mean() - parts[1][0].mean())
    variance = sum(
        float(np.var(first - second, ddof=1)) / len(first)
        for first, second in zip(parts[0], parts[1], strict=True)
    )
    error = math.sqrt(variance)
    # Placements that differ by rounding alone do not vary.
    if error < 1e-12:
        if abs(difference) < 1e-12:
            return DeLong(0.0, 0.0, 1.0)
        raise MetricUndefined(
            f"the AUCs differ by {difference:.3g}, and no item's share in that varies: there is "
            "nothing to test by",
            code="no_variance",
        )
    return DeLong(difference, error, float(2 * norm.sf(abs(difference) / error)))


def _placements(labels: Labels, scores: Array) -> tuple[Array, Array]:
    """Share of reals below each fake, and of fakes above each real; ties count half.

    The midrank of an item among all, less that among its own class, is how many of the other
    class stand below it.
    """
    from scipy.stats import rankdata

    fakes, reals = scores[labels == 1], scores[labels == 0]
    if min(len(fakes), len(reals)) < 2:
        raise MetricUndefined(
            f"DeLong's test needs two items of each class; there are {len(reals)} reals and "
            f"{len(fakes)} fakes",
            code="too_few_items",
        )
    ranks = rankdata(scores)
    below_fakes = (ranks[labels == 1] - rankdata(fakes)) / len(reals)
    below_reals = (ranks[labels == 0] - rankdata(reals)) / len(fakes)
    return below_fakes, 1 - below_reals


def _value(metric: Metric, counts: Counts) -> float | Reason:
    try:
        return float(metric(counts))
    except MetricUndefined as error:
        return Reason(error.code, str(error))


def _codes(groups: npt.ArrayLike, items: int) -> tuple[npt.NDArray[np.intp], int]:
    """Groups as numbers from 0 on, ``(N,)``, and how many there are."""
    given = np.asarray(groups)
    if given.shape != (items,):
        raise ScoresError(
            f"groups have shape {given.shape}; one group for each of {items} items was expected"
        )
    empty = np.flatnonzero(given == "")
    if len(empty):
        raise ScoresError(
            f"item number {empty[0]} and {len(empty) - 1} others have an empty group; items that "
            "belong to nothing must each be a group of their own, by their source for instance"
        )
    names, codes = np.unique(given, return_inverse=True)
    return codes, len(names)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}; a probability between 0 and 1 was expected (0.95)")
