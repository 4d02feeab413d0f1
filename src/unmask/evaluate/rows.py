"""The lines of the table: each metric of each data set with its interval, or why it has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from unmask.errors import MetricUndefined
from unmask.evaluate.counts import Array, rank
from unmask.evaluate.evaluation import Coverage, Measure, Row, Shares, Threshold, Verdicts
from unmask.evaluate.intervals import (
    clopper_pearson,
    groups_per_class,
    percentile_interval,
    resampled_metrics,
)
from unmask.evaluate.units import Units
from unmask.evaluate.weighted import Metric
from unmask.types import Reason

__all__ = ["Drawn", "draw", "few", "mean_row", "row", "seed_of"]

RowKind = Literal["dataset", "mean", "generator", "all"]


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """The metrics of one set of units, on the data and on its resamples."""

    values: Mapping[str, float | Reason]
    resampled: Mapping[str, Array]
    """``(n,)`` for each metric that has a value; empty where a class comes from one group only."""


def seed_of(seed: int, units: Units) -> tuple[int, int]:
    """A seed of their own for units of other groups, and the same one for those of the same.

    So what stands beside a data set does not change its intervals, and two rows of the very same
    items have the same ones, whatever they are called.
    """
    return seed, units.key


def few(names: Sequence[str], most: int = 12) -> str:
    """Names for a sentence: the first ones, and how many more there are.

    >>> few(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def draw(units: Units, metrics: Mapping[str, Metric], *, n: int, seed: Sequence[int]) -> Drawn:
    """Each metric on the units and on ``n`` resamples of whole groups; ``n`` may be 0."""
    if not len(units.labels):
        none = Reason("no_items", "none of the items has both a score and a label")
        return Drawn(dict.fromkeys(metrics, none), {})
    counts = rank(units.labels, units.p_fake).counts()
    values: dict[str, float | Reason] = {}
    for name, metric in metrics.items():
        try:
            values[name] = float(metric(counts))
        except MetricUndefined as error:
            values[name] = Reason(error.code, str(error))
    defined = {name: metrics[name] for name, value in values.items() if isinstance(value, float)}
    if n == 0 or groups_per_class(units.labels, units.groups) < 2:
        return Drawn(values, {name: np.empty(0) for name in defined})
    resampled = resampled_metrics(units.labels, units.p_fake, units.groups, defined, n=n, seed=seed)
    return Drawn(values, resampled)


def row(
    name: str,
    kind: RowKind,
    units: Units,
    drawn: Drawn,
    *,
    notes: Sequence[str] = (),
    threshold: Threshold | None = None,
) -> Row:
    """One line of the table; with verdicts where the threshold has a band."""
    said = list(notes)
    defined = [each for each in drawn.resampled.values() if len(each)]
    if drawn.resampled and not defined and groups_per_class(units.labels, units.groups) < 2:
        said.append("no intervals: all items of a class belong to one group")
    return Row(
        name=name,
        kind=kind,
        unit=units.unit,
        n_real=units.n_real,
        n_fake=units.n_fake,
        n_groups=units.n_groups,
        coverage=units.coverage,
        measures=tuple(_measure(metric, drawn, units) for metric in drawn.values),
        notes=tuple(said),
        verdicts=_verdicts(units, threshold),
    )


def _verdicts(units: Units, threshold: Threshold | None) -> Verdicts | None:
    if threshold is None or threshold.real_below is None:
        return None
    called_fake = units.p_fake >= threshold.value
    called_real = units.p_fake < threshold.real_below

    def of(label: int) -> Shares | None:
        given = units.labels == label
        if not given.any():
            return None
        real, fake = float(called_real[given].mean()), float(called_fake[given].mean())
        between = float((~called_real & ~called_fake)[given].mean())
        return Shares(real, between, fake)

    return Verdicts(of(0), of(1))


def _measure(metric: str, drawn: Drawn, units: Units) -> Measure:
    value = drawn.values[metric]
    if isinstance(value, Reason):
        return Measure(metric, None, value.message)
    found = percentile_interval(value, drawn.resampled[metric])
    if metric in _AT_FPR and units.n_real * _AT_FPR[metric] < 1:
        return Measure(metric, found, caution=_too_few(units.n_real))
    if metric in _RATES and value in (0.0, 1.0) and found.low == found.high:
        n = _groups_behind(metric, units)
        return Measure(metric, clopper_pearson(round(value) * n, n))
    return Measure(metric, found)


_AT_FPR = {"tpr_at_fpr_1": 0.01, "tpr_at_fpr_5": 0.05}
"""The false-positive rate of a metric: with fewer reals than one over it, it is 0 or above it."""


def _too_few(n_real: int) -> str:
    reals = "1 real" if n_real == 1 else f"{n_real} reals"
    return (
        f"with {reals} there is no FPR between 0 and {100 / n_real:.1f} %: this is the TPR at FPR 0"
    )


_RATES = frozenset({"accuracy", "balanced_accuracy", "false_positive_rate", "true_positive_rate"})
"""Where none or all of the items count, every resample says the same, which is not certainty: their
interval is the exact binomial one over as many trials as there are groups."""


def _groups_behind(metric: str, units: Units) -> int:
    """The groups that a rate rests on; of the class with fewer where both count alike."""
    if metric == "balanced_accuracy":
        return groups_per_class(units.labels, units.groups)
    label = {"false_positive_rate": 0, "true_positive_rate": 1}.get(metric)
    return len(np.unique(units.groups if label is None else units.groups[units.labels == label]))


def mean_row(
    rows: Sequence[Row], drawn: Sequence[Drawn], *, left_out: Sequence[str] = (), lost: str = ""
) -> Row:
    """The mean over data sets, each counting alike, of the metrics that all of them have.

    Args:
        rows: Of the data sets, all pictures or all videos; one or more.
        drawn: Theirs, in the same order, each resampled by itself.
        left_out: Data sets that are no part of it, with the reason.
        lost: Why there is no mean, since of some data set a whole class could not be scored; empty
            where all have what they were given.
    """
    names = few([each.name for each in rows])
    notes = [f"over {len(rows)} data set(s), each counting alike: {names}", *left_out]
    unit = "video" if any(each.unit == "video" for each in rows) else "picture"
    pictures = [each.name for each in rows if each.unit != unit]
    if pictures:
        notes.append(f"no videos in {few(pictures)}: each picture counts")
    return Row(
        name="mean",
        kind="mean",
        unit="video" if unit == "video" else "picture",
        n_real=sum(each.n_real for each in rows),
        n_fake=sum(each.n_fake for each in rows),
        n_groups=sum(each.n_groups for each in rows),
        coverage=_sum([each.coverage for each in rows]),
        measures=tuple(
            Measure(metric, None, lost) if lost else _mean(metric, rows, drawn)
            for metric in drawn[0].values
        ),
        notes=tuple(notes),
        mixed=bool(pictures),
        verdicts=_mean_verdicts([each.verdicts for each in rows]),
    )


def _mean_verdicts(parts: Sequence[Verdicts | None]) -> Verdicts | None:
    """Each data set counting alike; a class that one of them lacks has no mean."""
    known = [each for each in parts if each is not None]
    if len(known) < len(parts):
        return None
    return Verdicts(
        _mean_shares([each.reals for each in known]), _mean_shares([each.fakes for each in known])
    )


def _mean_shares(parts: Sequence[Shares | None]) -> Shares | None:
    known = [each for each in parts if each is not None]
    if len(known) < len(parts):
        return None
    return Shares(
        float(np.mean([each.called_real for each in known])),
        float(np.mean([each.inconclusive for each in known])),
        float(np.mean([each.called_fake for each in known])),
    )


def _mean(metric: str, rows: Sequence[Row], drawn: Sequence[Drawn]) -> Measure:
    values = [each.values[metric] for each in drawn]
    defined = [value for value in values if not isinstance(value, Reason)]
    if len(defined) < len(values):
        pairs = zip(rows, values, strict=True)
        without = [each.name for each, value in pairs if isinstance(value, Reason)]
        said = f"{len(without)} of {len(rows)} data sets have none: {few(without)}"
        return Measure(metric, None, said)
    arrays = [each.resampled[metric] for each in drawn]
    together = np.mean(arrays, axis=0) if all(len(each) for each in arrays) else np.empty(0)
    found = percentile_interval(float(np.mean(defined)), together)
    few_reals = [
        each.name for each in rows for m in each.measures if m.name == metric and m.caution
    ]
    if few_reals:
        said = f"too few reals for this FPR in {few(few_reals)}: there it is the TPR at FPR 0"
        return Measure(metric, found, caution=said)
    if metric in _RATES and found.low == found.high and found.value in (0.0, 1.0):
        own = [
            m.interval for each in rows for m in each.measures if m.name == metric and m.interval
        ]
        # All data sets stand at the same end; the mean of their bounds is on the safe side.
        low, high = (float(np.mean([getattr(i, end) for i in own])) for end in ("low", "high"))
        return Measure(metric, replace(found, low=low, high=high, resamples=0))
    return Measure(metric, found)


def _sum(parts: Sequence[Coverage]) -> Coverage:
    missing: dict[str, int] = {}
    for part in parts:
        for reason, count in part.missing.items():
            missing[reason] = missing.get(reason, 0) + count
    whole = Coverage(sum(each.given for each in parts), sum(each.scored for each in parts))
    return replace(whole, missing=missing)
