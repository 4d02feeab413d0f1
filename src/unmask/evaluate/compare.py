"""Two detectors on the same items: what the difference is, and whether it could be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from unmask.errors import MetricUndefined, ScoresError
from unmask.evaluate.counts import Array
from unmask.evaluate.evaluation import Comparison
from unmask.evaluate.intervals import Interval, delong, percentile_interval
from unmask.evaluate.rows import Drawn, draw, few, seed_of
from unmask.evaluate.table import Scores, by_dataset, scored, select
from unmask.evaluate.units import Units, units_of
from unmask.evaluate.videos import How
from unmask.evaluate.weighted import default_metrics
from unmask.types import Reason

__all__ = ["COMPARED", "compare", "paired"]

COMPARED = ("auc", "average_precision", "eer", "tpr_at_fpr_5", "brier", "log_loss")
"""Metrics of the scores themselves; what depends on a threshold is each detector's own."""


@dataclass(frozen=True, slots=True, eq=False)
class _Both:
    """One data set (or all of them) under both detectors, in the same resamples."""

    name: str
    first: tuple[Units, Drawn]
    second: tuple[Units, Drawn]


def compare(
    first: Scores,
    second: Scores,
    names: tuple[str, str],
    *,
    how: How = "mean",
    k: int = 3,
    n: int = 1000,
    seed: int = 0,
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """The first minus the second, per data set, over their mean and pooled; and what to know.

    On the items that both scored. A data set without both classes has no comparison, and where a
    class was lost since not both scored it, there is no mean over the others.

    Args:
        first: Scores of one detector.
        second: Scores of another one on the same data.
        names: What to call the two.
        how: From frames to videos, for data sets that have videos.
        k: For ``top-k``.
        n: Resamples of whole groups, the same ones for both; 0 for no intervals.
        seed: Of the resamples.

    Raises:
        ScoresError: no item that both scored, or one of another label, video or content.
    """
    one, other, note = paired(first, second)
    parts, others = by_dataset(one), by_dataset(other)
    pairs = [
        _both(name, part, others[name], how=how, k=k, n=n, seed=seed)
        for name, part in parts.items()
        if len(set(part.label.tolist())) == 2
    ]
    there = {pair.name for pair in pairs}
    given = {name: set(part.label.tolist()) for name, part in by_dataset(first).items()}
    lost = [name for name, labels in given.items() if {0, 1} <= labels and name not in there]
    left_out = [name for name in given if name not in there and name not in lost]
    notes = [note]
    if left_out:
        notes.append(f"not compared, since they have one class only: {few(left_out)}")
    if lost:
        notes.append(
            f"not compared, since one of their classes has no item that both scored: {few(lost)}; "
            "there is no mean without them"
        )
    found = [each for pair in pairs for each in _compared(pair, names)]
    if len(pairs) > 1 and not lost:
        found += _mean(pairs, names)
    if len(parts) > 1 and len(set(one.label.tolist())) == 2:
        found += _compared(_both("all", one, other, how=how, k=k, n=n, seed=seed), names)
    return tuple(found), tuple(notes)


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


def _both(name: str, one: Scores, other: Scores, *, how: How, k: int, n: int, seed: int) -> _Both:
    metrics = {key: each for key, each in default_metrics(0.5).items() if key in COMPARED}
    units = [units_of(each, how, k=k)[-1] for each in (one, other)]
    drawn = [draw(each, metrics, n=n, seed=seed_of(seed, each)) for each in units]
    return _Both(name, (units[0], drawn[0]), (units[1], drawn[1]))


def _compared(pair: _Both, names: tuple[str, str]) -> list[Comparison]:
    found = []
    for metric in COMPARED:
        difference = _difference(metric, [pair])
        p_value = _p_value(pair) if metric == "auc" else None
        found.append(Comparison(pair.name, metric, *names, difference, p_value))
    return found


def _mean(pairs: Sequence[_Both], names: tuple[str, str]) -> list[Comparison]:
    return [
        Comparison("mean", metric, *names, _difference(metric, pairs), None) for metric in COMPARED
    ]


def _difference(metric: str, pairs: Sequence[_Both]) -> Interval:
    """The mean over data sets of the difference, with its interval."""
    values = [_value(each.first[1], metric) - _value(each.second[1], metric) for each in pairs]
    drawn = [each.first[1].resampled[metric] - each.second[1].resampled[metric] for each in pairs]
    together: Array = np.empty(0)
    if all(len(each) for each in drawn):
        together = np.mean(drawn, axis=0)
    return percentile_interval(float(np.mean(values)), together)


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
