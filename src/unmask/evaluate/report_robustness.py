"""What altered pictures did, as a report shows it: matrices by severity, verdicts that change."""

from __future__ import annotations

import math
from collections.abc import Sequence

from unmask.evaluate.evaluation import Evaluation, Measure, Moved, Robustness, Stability
from unmask.evaluate.figures import MOST_DRAWN
from unmask.evaluate.report_tables import (
    Cell,
    Table,
    measure_cell,
    metric_name,
    share_text,
    short_reason,
    units_name,
)

__all__ = [
    "MATRICES",
    "MEAN",
    "about_stability",
    "absent",
    "drawn_matrices",
    "matrices",
    "matrix_measure",
    "matrix_metrics",
    "matrix_title",
    "robustness_table",
    "severities",
    "stability_tables",
    "verdicts_changed",
]

MEAN = "Mean over data sets"
"""What the matrix of the mean is called."""

MATRICES = ("auc", "false_positive_rate", "true_positive_rate")
"""What is measured of altered pictures."""


def drawn_matrices(evaluation: Evaluation) -> set[str]:
    """The names of the matrices that have a plot: of many those with the lowest AUC."""
    found = matrices(evaluation)
    means = {
        name: [cell.auc.interval.value for cell in cells if cell.auc.interval is not None]
        for name, cells in found.items()
    }
    order = sorted(
        found, key=lambda name: sum(means[name]) / len(means[name]) if means[name] else math.inf
    )
    return {*order[:MOST_DRAWN], MEAN}


def matrices(evaluation: Evaluation) -> dict[str, list[Robustness]]:
    """The cells of each data set, by its name."""
    found: dict[str, list[Robustness]] = {}
    for cell in evaluation.robustness:
        found.setdefault(cell.dataset, []).append(cell)
    return {MEAN if name == "mean" else name: each for name, each in found.items()}


def severities(cells: Sequence[Robustness] | Sequence[Stability]) -> list[int]:
    """The severities above 0 that occur, rising."""
    return sorted({cell.severity for cell in cells} - {0})


def matrix_measure(cell: Robustness, metric: str) -> Measure | None:
    """One of :data:`MATRICES` in a cell; None where it was not measured."""
    return {"auc": cell.auc, "false_positive_rate": cell.fpr, "true_positive_rate": cell.tpr}[
        metric
    ]


def robustness_table(cells: Sequence[Robustness], bootstraps: int, metric: str = "auc") -> Table:
    """A metric of one data set: a row for each kind, a column for each severity; 0 is unaltered."""
    notes: list[str] = []
    at = {(cell.kind, cell.severity): cell for cell in cells}
    whole = next((cell for cell in cells if cell.severity == 0), None)
    kinds = list(dict.fromkeys(cell.kind for cell in cells if cell.severity))
    rows = [
        (
            Cell(kind),
            *(
                _altered(
                    at.get((kind, severity), whole if severity == 0 else None),
                    metric,
                    notes,
                    bootstraps,
                )
                for severity in (0, *severities(cells))
            ),
        )
        for kind in kinds
    ]
    header = ("Alteration", "as it is", *(f"severity {each}" for each in severities(cells)))
    return Table(metric_name(metric), header, tuple(rows), footnotes=tuple(notes))


def _altered(cell: Robustness | None, metric: str, notes: list[str], bootstraps: int) -> Cell:
    if cell is None:
        return Cell("–")
    found = measure_cell(matrix_measure(cell, metric), bootstraps, notes)
    coverage = cell.coverage
    if coverage.scored == coverage.given:
        return found
    scored = f"{coverage.scored:,} of {coverage.given:,}"
    return Cell(found.text, (*found.details, scored), found.note)


def stability_tables(cells: Sequence[Stability]) -> tuple[Table, ...]:
    """Share of verdicts that change, with the movement of P(fake): of all items, then by class."""
    parts: dict[str, dict[tuple[str, int], Moved | Stability | None]] = {
        "All items": {(cell.kind, cell.severity): cell for cell in cells},
        "Reals": {(cell.kind, cell.severity): cell.reals for cell in cells},
        "Fakes": {(cell.kind, cell.severity): cell.fakes for cell in cells},
    }
    kinds = list(dict.fromkeys(cell.kind for cell in cells))
    header = ("Alteration", *(f"severity {each}" for each in severities(cells)))
    return tuple(
        Table(
            title,
            header,
            tuple(
                (Cell(kind), *(_moved(at.get((kind, severity))) for severity in severities(cells)))
                for kind in kinds
            ),
        )
        for title, at in parts.items()
        if any(at.values())
    )


def _moved(cell: Moved | Stability | None) -> Cell:
    if cell is None:
        return Cell("–")
    shifts = (cell.median_shift, cell.p95_shift)
    median, p95 = ("n/a" if math.isnan(shift) else f"{shift:.2f}" for shift in shifts)
    crossed = () if cell.flipped == cell.changed else (f"{share_text(cell.flipped)} across",)
    moved = (f"of {cell.n:,}", *crossed, f"median {median}", f"95 % below {p95}")
    return Cell(share_text(cell.changed), moved)


def verdicts_changed(evaluation: Evaluation) -> str:
    """What is counted where an alteration changes answers."""
    banded = evaluation.threshold.real_below is not None
    return (
        f"share of verdicts that change ({'real, inconclusive, fake' if banded else 'real, fake'})"
    )


def about_stability(evaluation: Evaluation) -> str:
    """What the tables of stability hold."""
    counted = verdicts_changed(evaluation)
    across = "" if evaluation.threshold.real_below is None else (
        " Where that is another share, “across” gives those that cross the threshold itself, and "
        "are called fake only before or only after."
    )  # fmt: skip
    return (
        f"{counted.capitalize()} under an alteration, of the items with a score both times; below "
        f"it, how far P(fake) moves: the median, and what 95 % of items stay within.{across}"
    )


def matrix_metrics(cells: Sequence[Robustness]) -> list[str]:
    """The metrics that a cell of this data set has a value of; reals alone have an FPR only."""
    return [
        metric
        for metric in MATRICES
        if any(
            measure is not None and measure.interval is not None
            for measure in (matrix_measure(cell, metric) for cell in cells)
        )
    ]


def matrix_title(name: str, cells: Sequence[Robustness]) -> str:
    """The data set with what is counted of it.

    >>> matrix_title("lfw", [])
    'lfw'
    """
    known = [cell for cell in cells if cell.unit is not None]
    return f"{name} ({units_name(known[0], 2)})" if known else name


def absent(cells: Sequence[Robustness]) -> str:
    """Why cells of a matrix lack a metric, each reason once; empty where all have all."""
    metrics: dict[tuple[str, str], list[str]] = {}
    for metric in MATRICES:
        places: dict[str, list[str]] = {}
        for cell in cells:
            measure = matrix_measure(cell, metric)
            if measure is not None and measure.interval is None:
                reason = short_reason(measure.reason)
                places.setdefault(reason, []).append(f"{cell.kind} {cell.severity}")
        for reason, found in places.items():
            where = "everywhere" if len(found) == len(cells) else f"at {', '.join(found)}"
            metrics.setdefault((where, reason), []).append(metric_name(metric))
    return "; ".join(
        f"{', '.join(names)} n/a {where}: {reason}" for (where, reason), names in metrics.items()
    )
