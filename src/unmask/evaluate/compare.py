"""Two detectors on the same items: what the difference is, and whether it could be chance."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unmask.errors import MetricUndefined, ScoresError
from unmask.evaluate.counts import Array
from unmask.evaluate.evaluation import Comparison, Threshold
from unmask.evaluate.intervals import Interval, clopper_pearson, delong, percentile_interval
from unmask.evaluate.rows import Drawn, draw, few, seed_of
from unmask.evaluate.table import Scores, by_dataset, scored, select
from unmask.evaluate.units import Units, units_of
from unmask.evaluate.videos import How
from unmask.evaluate.weighted import default_metrics
from unmask.types import Reason

__all__ = ["AT_THRESHOLD", "COMPARED", "compare", "paired"]

AT_THRESHOLD = ("false_positive_rate", "true_positive_rate")
"""Metrics of the decisions, each detector's at its own threshold; each needs one class only."""

COMPARED = (
    "auc", "average_precision", "eer", "tpr_at_fpr_5", "brier", "log_loss", *AT_THRESHOLD,
)  # fmt: skip
"""Of data sets with both classes."""

_CLASS = {"false_positive_rate": 0, "true_positive_rate": 1}
"""The class that a rate is a share of."""


@dataclass(frozen=True, slots=True, eq=False)
class _Both:
    """One data set (or all of them) under both detectors, in the same resamples."""

    name: str
    first: tuple[Units, Drawn]
    second: tuple[Units, Drawn]
    thresholds: tuple[float, float]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those of two classes; of one class its rate alone."""
        units = self.first[0]
        if units.n_real and units.n_fake:
            return COMPARED
        return AT_THRESHOLD[:1] if units.n_real else AT_THRESHOLD[1:]


def compare(
    first: Scores,
    second: Scores,
    names: tuple[str, str],
    *,
    thresholds: tuple[Threshold, Threshold],
    how: How = "mean",
    k: int = 3,
    n: int = 1000,
    seed: int = 0,
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """The first minus the second, per data set, over their mean and pooled; and what to know.

    On the items that both scored. A data set of one class is compared by FPR or TPR alone and no
    part of the mean; where a class was lost since not both scored it, there is no mean over the
    others.

    Args:
        first: Scores of one detector.
        second: Scores of another one on the same data.
        names: What to call the two.
        thresholds: Of the first and the second, each for its own FPR and TPR.
        how: From frames to videos, for data sets that have videos.
        k: For ``top-k``.
        n: Resamples of whole groups, the same ones for both; 0 for no intervals.
        seed: Of the resamples.

    Raises:
        ScoresError: no item that both scored, or one of another label, video or content.
    """
    one, other, note = paired(first, second)
    parts, others = by_dataset(one), by_dataset(other)

    def both(name: str, of_first: Scores, of_second: Scores) -> _Both:
        units = [units_of(each, how, k=k)[-1] for each in (of_first, of_second)]
        values = (thresholds[0].value, thresholds[1].value)
        drawn = [_drawn(*each, n=n, seed=seed) for each in zip(units, values, strict=True)]
        return _Both(name, (units[0], drawn[0]), (units[1], drawn[1]), values)

    pairs = [both(name, part, others[name]) for name, part in parts.items()]
    whole = [pair for pair in pairs if pair.metrics == COMPARED]
    lost = _lost(first, {pair.name for pair in whole})
    alone = [pair.name for pair in pairs if pair.metrics != COMPARED and pair.name not in lost]
    found = [each for pair in pairs if pair.name not in lost for each in _compared(pair, names)]
    if len(whole) > 1 and not lost:
        found += _mean(whole, names)
    if len(parts) > 1 and len(set(one.label.tolist())) == 2:
        found += _compared(both("all", one, other), names)
    notes = [note, _at(names, thresholds)]
    if alone:
        notes.append(f"of one class only, so compared by FPR or TPR alone: {few(alone)}")
    if lost:
        notes.append(
            f"not compared, since one of their classes has no item that both scored: {few(lost)}; "
            "there is no mean without them"
        )
    return tuple(found), (*notes, *_decided_otherwise(pairs))


def _lost(first: Scores, there: Container[str]) -> list[str]:
    """The data sets of two classes, one of which has no item that both scored."""
    given = {name: set(part.label.tolist()) for name, part in by_dataset(first).items()}
    return [name for name, labels in given.items() if {0, 1} <= labels and name not in there]


def _at(names: tuple[str, str], thresholds: tuple[Threshold, Threshold]) -> str:
    said = [
        f"{name} at {each.value:.4g} ({each.source})"
        for name, each in zip(names, thresholds, strict=True)
    ]
    return f"FPR and TPR are compared at the threshold of each: {', '.join(said)}"


def _decided_otherwise(pairs: Sequence[_Both]) -> list[str]:
    """Where both rank the items in the same way and still call some of them differently."""
    said = []
    for pair in pairs:
        first, second = (units.p_fake for units, _ in (pair.first, pair.second))
        one, other = (
            p_fake >= threshold
            for p_fake, threshold in zip((first, second), pair.thresholds, strict=True)
        )
        differ = int(np.sum(one != other))
        if differ and np.array_equal(_ranks(first), _ranks(second)):
            units = pair.first[0]
            said.append(f"{differ} of {len(units.labels)} {units.unit}s of {pair.name}")
    if not said:
        return []
    return [
        "both rank the items in the same order, so that AUC cannot tell them apart, but one alone "
        f"calls fake {few(said)}"
    ]


def _ranks(p_fake: Array) -> npt.NDArray[np.intp]:
    """``(U,)``: the place of each among the values that occur, ties alike."""
    places: npt.NDArray[np.intp] = np.unique(p_fake, return_inverse=True)[1]
    return places


def paired(first: Scores, second: Scores) -> tuple[Scores, Scores, str]:
    """Both tables cut to the items that both scored, in the same order, and how many those are.

    What is resampled together is what the first table says, for both.

    Raises:
        ScoresError: there are none, or one has another label, video or content in the other table.
    """
    rows_of = [_rows(table) for table in (first, second)]
    keys = [key for key in rows_of[0] if key in rows_of[1]]
    if not keys:
        raise ScoresError(
            f"the {len(first)} items scored by {first.meta.detector} and the {len(second)} scored "
            f"by {second.meta.detector} have none in common (by data set and name). Score the same "
            "data with both."
        )
    one, other = (
        select(table, np.array([rows[key] for key in keys], np.intp))
        for table, rows in zip((first, second), rows_of, strict=True)
    )
    _check_same(one, other)
    most = max(len(first), len(second))
    # Groups follow from files too, and both must be resampled alike.
    grouped = int(np.sum(one.group != other.group))
    other = replace(other, group=one.group, sha256=one.sha256)
    note = f"compared on the {len(keys)} of {most} items that both scored"
    if grouped:
        note += (
            f"; {grouped} of them belong to another group in the second table, and are resampled "
            "by the groups of the first"
        )
    return one, other, note


def _check_same(one: Scores, other: Scores) -> None:
    """Nothing, if the rows of both are of the same items."""
    known = (one.sha256 != "") & (other.sha256 != "")
    labels = np.array(["real", "fake"], object)
    for differs, what, (first, second) in (
        (one.label != other.label, "label", (labels[one.label], labels[other.label])),
        (one.video != other.video, "video", (one.video, other.video)),
        (known & (one.sha256 != other.sha256), "content", (one.sha256, other.sha256)),
    ):
        rows = np.flatnonzero(differs)
        if len(rows):
            row = rows[0]
            words = [f"{str(each[row])[:60]!r}" for each in (first, second)]
            raise ScoresError(
                f"{len(rows)} of {len(one)} items have another {what} in the second table, such as "
                f"{one.source[row]}: {words[0]} in the first, {words[1]} in the second. Score the "
                "same data with both."
            )


def _rows(scores: Scores) -> dict[tuple[str, str], int]:
    usable = np.flatnonzero(scored(scores) & (scores.label >= 0))
    return {(scores.dataset[row], scores.source[row]): int(row) for row in usable}


def _drawn(units: Units, threshold: float, *, n: int, seed: int) -> Drawn:
    metrics = default_metrics(threshold)
    return draw(units, {name: metrics[name] for name in COMPARED}, n=n, seed=seed_of(seed, units))


def _compared(pair: _Both, names: tuple[str, str]) -> list[Comparison]:
    found = []
    for metric in pair.metrics:
        difference = _difference(metric, [pair])
        p_value = _p_value(pair) if metric == "auc" else None
        thresholds = pair.thresholds if metric in AT_THRESHOLD else None
        found.append(Comparison(pair.name, metric, *names, difference, p_value, thresholds))
    return found


def _mean(pairs: Sequence[_Both], names: tuple[str, str]) -> list[Comparison]:
    return [
        replace(each, dataset="mean", difference=_difference(each.metric, pairs), p_value=None)
        for each in _compared(pairs[0], names)
    ]


def _difference(metric: str, pairs: Sequence[_Both]) -> Interval:
    """The mean over data sets of the difference, with its interval."""
    values = [_value(each.first[1], metric) - _value(each.second[1], metric) for each in pairs]
    drawn = [each.first[1].resampled[metric] - each.second[1].resampled[metric] for each in pairs]
    together: Array = np.empty(0)
    if all(len(each) for each in drawn):
        together = np.mean(drawn, axis=0)
    found = percentile_interval(float(np.mean(values)), together)
    if metric in AT_THRESHOLD and found.low == found.high:
        return _exact(metric, found, values, pairs)
    return found


def _exact(
    metric: str, found: Interval, values: Sequence[float], pairs: Sequence[_Both]
) -> Interval:
    """Every resample says the same, which is not certainty, unless the decisions must be alike.

    Where none of n groups (or each) is called differently by the two, the share of such groups has
    the exact binomial interval; of a mean, the mean of the data sets' bounds, as in
    :func:`unmask.evaluate.rows.mean_row`.
    """
    if any(value not in (-1.0, 0.0, 1.0) for value in values) or all(map(_is_same, pairs)):
        return found
    lows, highs = [], []
    for value, pair in zip(values, pairs, strict=True):
        units = pair.first[0]
        n = len(np.unique(units.groups[units.labels == _CLASS[metric]]))
        share = clopper_pearson(round(abs(value)) * n, n)
        bounds = {0.0: (-share.high, share.high), 1.0: (share.low, 1.0), -1.0: (-1.0, -share.low)}
        lows.append(bounds[value][0])
        highs.append(bounds[value][1])
    return replace(found, low=float(np.mean(lows)), high=float(np.mean(highs)), resamples=0)


def _is_same(pair: _Both) -> bool:
    """Whether both tables have one and the same score and threshold for everything."""
    alike = np.array_equal(pair.first[0].p_fake, pair.second[0].p_fake)
    return alike and pair.thresholds[0] == pair.thresholds[1]


def _value(drawn: Drawn, metric: str) -> float:
    value = drawn.values[metric]
    return np.nan if isinstance(value, Reason) else value


def _p_value(pair: _Both) -> float | None:
    """DeLong's, where items are independent: none shares its group with another."""
    one, other = pair.first[0], pair.second[0]
    if one.n_groups < len(one.labels):
        return None
    try:
        return delong(one.labels, one.p_fake, other.p_fake).p_value
    except MetricUndefined:
        return None
