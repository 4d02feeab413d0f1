"""The tables of a report as text, before they are HTML or Markdown.

A number stands as ``0.912`` with its interval ``[0.884, 0.936]``; where there is none, ``n/a`` and
the number of a footnote that says why.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unmask.evaluate.evaluation import (
    Comparison,
    Coverage,
    Measure,
    Robustness,
    Row,
    Shares,
)
from unmask.evaluate.intervals import Interval

__all__ = [
    "GUIDE",
    "Cell",
    "Table",
    "comparison_table",
    "interval_text",
    "measure_cell",
    "metric_name",
    "result_tables",
    "row_name",
    "share_text",
    "short_reason",
    "unit_name",
    "units_name",
]

_NAMES: Mapping[str, str] = {
    "auc": "AUC",
    "average_precision": "AP",
    "eer": "EER",
    "tpr_at_fpr_1": "TPR at FPR 1 %",
    "tpr_at_fpr_5": "TPR at FPR 5 %",
    "partial_auc_10": "pAUC to FPR 10 %",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "false_positive_rate": "FPR",
    "true_positive_rate": "TPR",
    "brier": "Brier score",
    "ece": "ECE",
    "log_loss": "Log loss",
}

_LESS_IS_BETTER = frozenset({"eer", "false_positive_rate", "brier", "ece", "log_loss"})

_TABLES: Mapping[str, tuple[str, ...]] = {
    "Ranking": (
        "auc", "average_precision", "eer", "tpr_at_fpr_1", "tpr_at_fpr_5", "partial_auc_10",
    ),
    "Decisions at the threshold": (
        "accuracy", "balanced_accuracy", "false_positive_rate", "true_positive_rate",
    ),
    "P(fake) as a probability": ("brier", "ece", "log_loss"),
}  # fmt: skip
"""Title of a table to its metrics: so few columns that it fits a page."""

_OTHER = "Further metrics"

_LACKS_CLASS = re.compile(r"needs (?:reals|fakes), and the data have none$")

_MANY_DROPPED = 0.05
"""Share of resamples without a value from which a footnote tells of it."""

GUIDE = (
    "AUC: the chance that a fake scores above a real (0.5 is guessing). AP: average precision. "
    "EER: the error rate where as many reals are called fake as fakes real. TPR at FPR 1 %: the "
    "share of fakes found when 1 % of reals may be called fake. pAUC: the AUC up to FPR 10 %, "
    "scaled so that 0.5 is guessing. FPR: the share of reals called fake; TPR: the share of fakes "
    "called fake. Brier score, ECE and log loss: how far P(fake) is from the truth as a "
    "probability; the bootstrap interval of ECE is biased upwards, since resampling adds noise to "
    "its bins. Mixed units: videos, and the pictures of data sets without videos. "
    "↑ more is better, ↓ less is better."
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One field of a table."""

    text: str
    details: tuple[str, ...] = ()
    """What belongs to the number, a line each: its interval, further numbers in words."""
    note: int = 0
    """Number of the footnote, from 1 on; 0 where there is none."""


@dataclass(frozen=True, slots=True)
class Table:
    """A header, rows of as many cells, and the footnotes that cells point to."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    names: int = 1
    """How many columns on the left hold words, not numbers."""
    footnotes: tuple[str, ...] = ()


def metric_name(name: str) -> str:
    """A metric as papers name it; one that is not known keeps its name.

    >>> metric_name("tpr_at_fpr_1")
    'TPR at FPR 1 %'
    """
    return _NAMES.get(name, name.replace("_", " "))


def row_name(row: Row) -> str:
    """What a row is called in a table."""
    return {"mean": "Mean over data sets", "all": "All pooled"}.get(row.kind, row.name)


def unit_name(unit: str, count: int) -> str:
    """The unit for a count of it: ``picture``, ``pictures``."""
    return unit if count == 1 else unit + "s"


def units_name(of: Row | Robustness, count: int) -> str:
    """The units of a row or cell for a count of them; ``mixed units`` where it has both kinds."""
    return unit_name("mixed unit" if of.mixed else of.unit or "item", count)


def share_text(share: float) -> str:
    """A share in per cent, n/a where it is NaN.

    >>> share_text(0.0315)
    '3.1 %'
    """
    return "n/a" if math.isnan(share) else f"{100 * share:.1f} %"


def interval_text(interval: Interval, *, signed: bool = False, percent: bool = False) -> str:
    """The bounds in brackets, with ``percent`` in per cent; ``[n/a]`` where there are none.

    >>> interval_text(Interval(0.9, 0.85, 0.94))
    '[0.850, 0.940]'
    """
    bounds = (interval.low, interval.high)
    if any(math.isnan(bound) for bound in bounds):
        return "[n/a]"
    if percent:
        low, high = (f"{100 * bound:.1f}" for bound in bounds)
    else:
        low, high = (f"{bound:+.3f}" if signed else f"{bound:.3f}" for bound in bounds)
    return f"[{low}, {high}]"


def result_tables(rows: Sequence[Row], bootstraps: int) -> tuple[Table, ...]:
    """The metrics of rows, in tables narrow enough for a page."""
    present = list(dict.fromkeys(measure.name for row in rows for measure in row.measures))
    known = {name for names in _TABLES.values() for name in names}
    tables = {**_TABLES, _OTHER: tuple(name for name in present if name not in known)}
    found: list[Table] = []
    for title, names in tables.items():
        columns = [name for name in names if name in present]
        if columns or (not present and not found):  # without any metric, the counts alone
            found.append(_result_table(title, columns, rows, bootstraps))
    return (*found, *_verdict_tables(rows))


def _verdict_tables(rows: Sequence[Row]) -> list[Table]:
    """What each class is called at the band of the operating point, if there is one."""
    lines, notes = [], []  # type: list[tuple[Cell, ...]], list[str]
    for row in rows:
        if row.verdicts is not None:
            reals, fakes = row.verdicts.reals, row.verdicts.fakes
            cells = (*_shares(reals, "reals", notes), *_shares(fakes, "fakes", notes))
            lines.append((*_row_head(row), *cells))
    called = ("called real", "inconclusive", "called fake")
    columns = tuple(f"{name} {each}" for name in ("Reals", "Fakes") for each in called)
    header = ("Data", "Real / fake", "Scored", *columns)
    title = "Verdicts at the operating point"
    return [Table(title, header, tuple(lines), footnotes=tuple(notes))] if lines else []


def _shares(shares: Shares | None, name: str, notes: list[str]) -> tuple[Cell, ...]:
    if shares is None:
        note = _noted(notes, f"no {name}, or of a mean: a data set without any")
        return (Cell("n/a", note=note),) * 3
    return tuple(
        Cell(share_text(each))
        for each in (shares.called_real, shares.inconclusive, shares.called_fake)
    )


def _result_table(
    title: str, columns: Sequence[str], rows: Sequence[Row], bootstraps: int
) -> Table:
    notes: list[str] = []
    lines = []
    for row in rows:
        measures = {measure.name: measure for measure in row.measures}
        numbers = [measure_cell(measures.get(name), bootstraps, notes) for name in columns]
        lines.append((*_row_head(row), *numbers))
    arrows = [f"{metric_name(name)} {'↓' if name in _LESS_IS_BETTER else '↑'}" for name in columns]
    header = ("Data", "Real / fake", "Scored", *arrows)
    return Table(title, header, tuple(lines), footnotes=tuple(notes))


def _row_head(row: Row) -> tuple[Cell, Cell, Cell]:
    total = row.n_real + row.n_fake
    groups = f"in {row.n_groups:,} {unit_name('group', row.n_groups)}"
    return (
        Cell(row_name(row), (units_name(row, 2),)),
        Cell(f"{row.n_real:,} / {row.n_fake:,}", () if row.n_groups == total else (groups,)),
        _coverage(row.coverage),
    )


def _coverage(coverage: Coverage) -> Cell:
    if not coverage.given:
        return Cell("none given")
    share = coverage.scored / coverage.given
    text = "100 %" if coverage.scored == coverage.given else f"{100 * share:.1f} %"
    return Cell(text, (f"{coverage.scored:,} of {coverage.given:,}",))


def measure_cell(measure: Measure | None, bootstraps: int, notes: list[str]) -> Cell:
    """A number with its interval; what else belongs to it is a footnote in ``notes``."""
    if measure is None:
        return Cell("n/a", note=_noted(notes, "not measured for this row"))
    if measure.interval is None:
        return Cell("n/a", note=_noted(notes, short_reason(measure.reason)))
    interval = measure.interval
    note = "; ".join(filter(None, [measure.caution, _doubt(interval, bootstraps)]))
    number = _noted(notes, note) if note else 0
    return Cell(f"{interval.value:.3f}", (interval_text(interval),), number)


def short_reason(reason: str) -> str:
    """The reason without the metric, which the column names already."""
    found = _LACKS_CLASS.search(reason)
    return found[0] if found else reason or "no reason was recorded"


def _noted(notes: list[str], note: str) -> int:
    """The number of a footnote, which is added unless it is there."""
    if note not in notes:
        notes.append(note)
    return notes.index(note) + 1


def _doubt(interval: Interval, bootstraps: int) -> str:
    """Why an interval is missing or rests on fewer resamples; empty where it is sound."""
    drawn = interval.resamples + interval.dropped
    if math.isnan(interval.low) or math.isnan(interval.high):
        if interval.dropped:
            return f"no interval: the metric has no value in any of {drawn:,} resamples"
        if not bootstraps:
            return "no interval: no resamples were drawn"
        return "no interval: a class comes from a single group, so that resampling tells nothing"
    if interval.dropped > _MANY_DROPPED * drawn:
        return (
            f"the interval leaves out {interval.dropped:,} of {drawn:,} resamples, in which the "
            "metric has no value"
        )
    return ""


def comparison_table(comparisons: Sequence[Comparison], bootstraps: int) -> Table:
    """The first detector minus the second, on the same items."""
    notes: list[str] = []
    rows = []
    for each in comparisons:
        doubt = _doubt(each.difference, bootstraps)
        difference = Cell(
            f"{each.difference.value:+.3f}",
            (interval_text(each.difference, signed=True),),
            _noted(notes, doubt) if doubt else 0,
        )
        p_value = Cell("n/a", note=_noted(notes, _NO_P)) if each.p_value is None else _p(each)
        at = () if each.thresholds is None else ("at {:.4g} and {:.4g}".format(*each.thresholds),)
        words = (Cell(each.dataset), Cell(metric_name(each.metric), at))
        names = (Cell(each.first), Cell(each.second))
        rows.append((*words, *names, _told(each), difference, p_value))
    header = ("Data", "Metric", "First", "Second", "Finding", "First − second", "p (DeLong)")
    return Table("Comparison", header, tuple(rows), names=5, footnotes=tuple(notes))


_NO_P = (
    "DeLong's test is for the AUC of items that are independent of one another; the interval is "
    "the answer"
)


def _p(comparison: Comparison) -> Cell:
    value = comparison.p_value or 0.0
    return Cell("< 0.001" if value < 0.001 else f"{value:.3f}")


def _told(comparison: Comparison) -> Cell:
    """What the interval says, by whether 0 lies in it."""
    low, high = comparison.difference.low, comparison.difference.high
    if math.isnan(low) or math.isnan(high):
        return Cell("no interval, nothing shown")
    if low <= 0 <= high:
        return Cell("no difference shown")
    first_ahead = (low > 0) != (comparison.metric in _LESS_IS_BETTER)
    # A rate at a threshold of one's own is bought by the other rate: neither is better by it.
    said = _RATES.get(comparison.metric, "is better")
    return Cell(f"{'first' if first_ahead else 'second'} {said}")


_RATES: Mapping[str, str] = {
    "false_positive_rate": "calls fewer reals fake",
    "true_positive_rate": "calls more fakes fake",
}
