"""An evaluation on a terminal of 100 columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING

from unmask.evaluate.evaluation import Comparison, Coverage, Evaluation, Row, Slice
from unmask.evaluate.intervals import Interval
from unmask.files import one_line

if TYPE_CHECKING:
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
    threshold = evaluation.threshold
    band = "" if threshold.real_below is None else f", real below {threshold.real_below:.4g}"
    console.print(
        f"threshold {threshold.value:.4g}{band} ({one_line(threshold.source)}); "
        f"frames to videos by {evaluation.aggregation}"
    )
    if evaluation.comparisons:
        first = evaluation.comparisons[0]
        console.print(f"\n{one_line(first.first)} minus {one_line(first.second)}:")
        console.print(_comparisons([e for e in evaluation.comparisons if e.metric == "auc"]))
        console.print("The report compares the other metrics too.")
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


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for index, column in enumerate(columns):
        table.add_column(
            column,
            justify="left" if index < 2 else "right",
            no_wrap=True,
            overflow="ellipsis",
            max_width=_NAME if index == 0 else None,
        )
    return table


def _cells(row: Row) -> list[str]:
    found = {measure.name: measure.interval for measure in row.measures}
    prefix = "fakes: " if row.kind == "generator" else ""
    return [
        f"{prefix}{one_line(row.name)}",
        row.unit,
        f"{row.n_real}/{row.n_fake}",
        _covered(row.coverage),
        with_bounds(found.get("auc")),
        *(_number(found.get(name)) for name in _COLUMNS),
    ]


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


def _comparisons(comparisons: Sequence[Comparison]) -> Table:
    table = _table("data set", "metric", "difference [95 %]", "p (DeLong)")
    for each in comparisons:
        table.add_row(
            one_line(each.dataset),
            each.metric,
            with_bounds(each.difference),
            "" if each.p_value is None else f"{each.p_value:.2g}",
        )
    return table


def _worst(part: Slice) -> str:
    return (
        f"worst slice: {one_line(part.column)} = {one_line(part.value)}, false positive rate "
        f"{with_bounds(part.fpr)} of {part.n_real} reals"
    )
