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
        console.print(_comparisons([e for e in evaluation.comparisons if e.metric == "auc"]))
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


def _table(*columns: str, names: int = 2) -> Table:
    """An empty table, the first columns of which hold names."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for index, column in enumerate(columns):
        table.add_column(
            column,
            justify="left" if index < names else "right",
            no_wrap=True,
            overflow="ellipsis",
            max_width=_NAME if index == 0 else None,
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


_SHORT = 12
"""Characters of a data set's name above a column of the table of alterations."""
_MOST = 4
"""Columns of data sets that fit beside those of stability."""


def _print_robustness(console: Console, evaluation: Evaluation) -> None:
    names = list(dict.fromkeys(cell.dataset for cell in evaluation.robustness))
    shown = sorted(names, key=lambda name: name != "mean")[:_MOST]
    console.print("\nAUC of altered pictures, how far P(fake) moves, and how many answers change:")
    console.print(_alterations(evaluation.robustness, evaluation.stability, shown))
    if len(names) > len(shown):
        console.print(f"The report has {len(names) - len(shown)} more data sets.")
    lost = [each for each in evaluation.robustness if each.coverage.scored < each.coverage.given]
    if lost:
        console.print("+ some of the given items have no score, see the report")


def _alterations(
    cells: Sequence[Robustness], moved: Sequence[Stability], names: Sequence[str]
) -> Table:
    """A row for each alteration: AUC of each of these data sets, then the stability."""
    heads = [_cut(one_line(name)) for name in names]
    table = _table("alteration", *heads, "median shift", "95 % below", "changed", names=1)
    at = {(each.dataset, each.kind, each.severity): each for each in cells}
    stability = {(each.kind, each.severity): each for each in moved}
    for kind, severity in dict.fromkeys((each.kind, each.severity) for each in cells):
        table.add_row(
            f"{kind}@{severity}" if severity else "as it is",
            *(_altered(at.get((name, kind, severity))) for name in names),
            *_moved(stability.get((kind, severity))),
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
    return [f"{cell.median_shift:.3f}", f"{cell.p95_shift:.3f}", f"{100 * cell.flipped:.1f}%"]
