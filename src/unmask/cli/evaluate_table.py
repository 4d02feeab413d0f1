"""An evaluation on a terminal of 100 columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING

from unmask.evaluate.evaluation import (
    Comparison,
    Coverage,
    Evaluation,
    Measure,
    Robustness,
    Row,
    Slice,
    Stability,
)
from unmask.evaluate.intervals import Interval
from unmask.files import one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["WIDTH", "to_text"]

WIDTH = 100
_NAME = 22
"""Characters of a name; with the numbers it makes 99."""

_COLUMNS = {
    "eer": "EER",
    "tpr_at_fpr_5": "TPR@5%",
    "false_positive_rate": "FPR",
    "true_positive_rate": "TPR",
    "accuracy": "acc.",
}


def to_text(evaluation: Evaluation) -> str:
    """The table, what decides its threshold, comparisons, the worst slice and all notes."""
    from rich.console import Console

    buffer = StringIO()
    console = Console(file=buffer, width=WIDTH, highlight=False, markup=False, emoji=False)
    console.print(_rows(evaluation))
    if any(_is_doubtful(measure) for row in evaluation.rows for measure in row.measures):
        console.print("* too few reals for this FPR: the TPR at FPR 0")
    threshold = evaluation.threshold
    band = "" if threshold.real_below is None else f", real below {threshold.real_below:.4g}"
    console.print(
        f"threshold {threshold.value:.4g}{band} ({one_line(threshold.source)}); "
        f"frames to videos by {evaluation.aggregation}"
    )
    if evaluation.comparisons:
        first = evaluation.comparisons[0]
        console.print(f"\n{one_line(first.first)} minus {one_line(first.second)}:")
        console.print(_comparisons(evaluation.comparisons))
        console.print("The report compares the other metrics too.")
    if evaluation.robustness:
        _print_robustness(console, evaluation)
    if evaluation.worst_slice is not None:
        console.print(_worst(evaluation.worst_slice))
    for note in evaluation.notes:
        console.print(f"note: {one_line(note)}")
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def _rows(evaluation: Evaluation) -> Table:
    table = _table("data set", "unit", "real/fake", "scored", "AUC [95 %]", *_COLUMNS.values())
    before = "dataset"
    for row in evaluation.rows:
        if row.kind != before:
            table.add_section()
            before = row.kind
        table.add_row(*_cells(row))
    return table


def _table(*columns: str, names: int = 2, longest: int = _NAME) -> Table:
    """An empty table, the first columns of which hold names, the very first so many characters."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for index, column in enumerate(columns):
        table.add_column(
            column,
            justify="left" if index < names else "right",
            no_wrap=True,
            overflow="ellipsis",
            max_width=longest if index == 0 else None,
        )
    return table


def _cells(row: Row) -> list[str]:
    found = {measure.name: measure for measure in row.measures}
    auc = found.get("auc")
    prefix = "fakes: " if row.kind == "generator" else ""
    return [
        f"{prefix}{one_line(row.name)}",
        "mixed" if row.mixed else row.unit,
        f"{row.n_real}/{row.n_fake}",
        _covered(row.coverage),
        with_bounds(auc.interval if auc else None),
        *(_measured(found.get(name)) for name in _COLUMNS),
    ]


def _measured(measure: Measure | None) -> str:
    if measure is None:
        return _number(None)
    return _number(measure.interval) + ("*" if _is_doubtful(measure) else "")


def _is_doubtful(measure: Measure) -> bool:
    """Whether the number is one of this table and says less than its name."""
    return bool(measure.caution) and measure.name in _COLUMNS


def _covered(coverage: Coverage) -> str:
    if coverage.scored == coverage.given:
        return "all"
    share = 100 * coverage.scored / coverage.given
    return f"{min(share, 99.9):.1f}%"


def with_bounds(interval: Interval | None) -> str:
    """A number with its interval; without one where nothing is known of it."""
    if interval is None or math.isnan(interval.low):
        return _number(interval)
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _number(interval: Interval | None) -> str:
    return "n/a" if interval is None else f"{interval.value:.3f}"


_DIFFERENCES = ("auc", "false_positive_rate", "true_positive_rate")
_NARROW = 16
"""Characters of a name beside three signed numbers with their intervals."""


def _comparisons(comparisons: Sequence[Comparison]) -> Table:
    """A row for each data set: how AUC, FPR and TPR differ."""
    from unmask.evaluate.report_tables import metric_name

    heads = [f"{metric_name(name)} [95 %]" for name in _DIFFERENCES]
    table = _table("data set", *heads, "p (DeLong)", names=1, longest=_NARROW)
    at = {(each.dataset, each.metric): each for each in comparisons if each.metric in _DIFFERENCES}
    for name in dict.fromkeys(name for name, _ in at):
        found = [at.get((name, metric)) for metric in _DIFFERENCES]
        p_value = found[0].p_value if found[0] else None
        table.add_row(
            one_line(name),
            *(with_bounds(each.difference if each else None) for each in found),
            "" if p_value is None else f"{p_value:.2g}",
        )
    return table


def _worst(part: Slice) -> str:
    return (
        f"worst slice: {one_line(part.column)} = {one_line(part.value)}, false positive rate "
        f"{with_bounds(part.fpr)} of {part.n_real} reals"
    )


_SHORT = 12
"""Characters of a data set's name above a column of the table of alterations."""
_MOST = 4
"""Columns of data sets that fit beside those of stability."""
_MOST_RATES = 3
"""Columns of rates with their intervals that fit beside those of verdicts."""


def _print_robustness(console: Console, evaluation: Evaluation) -> None:
    from unmask.evaluate.report_robustness import verdicts_changed
    from unmask.evaluate.rows import few

    cells, changed = evaluation.robustness, verdicts_changed(evaluation)
    names = sorted(dict.fromkeys(cell.dataset for cell in cells), key=lambda name: name != "mean")
    shown = names[:_MOST]
    console.print(f"\nAUC of altered pictures, how far P(fake) moves, and the {changed}:")
    console.print(_alterations(cells, evaluation.stability, shown))
    if names[_MOST:]:
        console.print(f"The report also has {few([one_line(name) for name in names[_MOST:]])}.")
    rates = _rates(cells, names)
    if rates:
        console.print(f"\nFPR and TPR of altered pictures at the threshold; {changed}, by class:")
        console.print(_decisions(cells, evaluation.stability, rates))
        if len(names) > len({name for name, _ in rates}):
            console.print("The report has FPR and TPR of every data set.")
    lost = [each for each in cells if each.coverage.scored < each.coverage.given]
    if lost:
        console.print("+ some of the given items have no score, see the report")


def _alterations(
    cells: Sequence[Robustness], moved: Sequence[Stability], names: Sequence[str]
) -> Table:
    """A row for each alteration: AUC of each of these data sets, then the stability."""
    at = {(each.dataset, each.kind, each.severity): each for each in cells}
    heads = [f"{_cut(one_line(name))}\n{_unit(cells, name)}" for name in names]
    table = _table("alteration", *heads, "median shift", "95 % below", "changed", names=1)
    stability = {(each.kind, each.severity): each for each in moved}
    for kind, severity in dict.fromkeys((each.kind, each.severity) for each in cells):
        table.add_row(
            _alteration(kind, severity),
            *(_altered(at.get((name, kind, severity))) for name in names),
            *_moved(stability.get((kind, severity))),
        )
    return table


def _alteration(kind: str, severity: int) -> str:
    return f"{kind}@{severity}" if severity else "as it is"


def _unit(cells: Sequence[Robustness], name: str) -> str:
    found = next(each for each in cells if each.dataset == name)
    return "mixed" if found.mixed else found.unit or ""


def _rates(cells: Sequence[Robustness], names: Sequence[str]) -> list[tuple[str, str]]:
    """Data set and metric of the rates to show: of the mean, and of sets that are no part of it.

    A set of one class has one rate. Without a mean, the first set of both classes stands for it.
    """
    from unmask.evaluate.report_robustness import matrix_metrics

    known = {
        name: [
            metric
            for metric in matrix_metrics([each for each in cells if each.dataset == name])
            if metric != "auc"
        ]
        for name in names
    }
    both = [name for name in names if len(known[name]) == 2]
    alone = [name for name in names if len(known[name]) == 1]
    alone.sort(key=lambda name: known[name] != ["false_positive_rate"])  # new false alarms first
    shown = [*both[:1], *alone]
    return [(name, metric) for name in shown for metric in known[name]][:_MOST_RATES]


def _decisions(
    cells: Sequence[Robustness], moved: Sequence[Stability], rates: Sequence[tuple[str, str]]
) -> Table:
    """A row for each alteration: these rates with their intervals, then what reals and fakes do."""
    from unmask.evaluate.report_robustness import matrix_measure
    from unmask.evaluate.report_tables import metric_name

    at = {(each.dataset, each.kind, each.severity): each for each in cells}
    stability = {(each.kind, each.severity): each for each in moved}
    heads = [f"{metric_name(metric)} {_cut(one_line(name))}\n[95 %]" for name, metric in rates]
    table = _table("alteration", *heads, "reals\nchanged", "fakes\nchanged", names=1)

    def rate(name: str, metric: str, kind: str, severity: int) -> str:
        cell = at.get((name, kind, severity))
        measure = matrix_measure(cell, metric) if cell else None
        return with_bounds(measure.interval) if measure else ""

    for kind, severity in dict.fromkeys((each.kind, each.severity) for each in cells):
        found = stability.get((kind, severity))
        classes = (found.reals, found.fakes) if found else (None, None)
        table.add_row(
            _alteration(kind, severity),
            *(rate(name, metric, kind, severity) for name, metric in rates),
            *("" if each is None else _percent(each.changed) for each in classes),
        )
    return table


def _cut(name: str) -> str:
    return name if len(name) <= _SHORT else f"{name[: _SHORT - 1]}…"


def _altered(cell: Robustness | None) -> str:
    if cell is None:
        return ""
    lost = cell.coverage.scored < cell.coverage.given
    return _number(cell.auc.interval) + ("+" if lost else "")


def _moved(cell: Stability | None) -> list[str]:
    if cell is None:
        return ["", "", ""]
    return [f"{cell.median_shift:.3f}", f"{cell.p95_shift:.3f}", _percent(cell.changed)]


def _percent(share: float) -> str:
    return "n/a" if math.isnan(share) else f"{100 * share:.1f}%"
