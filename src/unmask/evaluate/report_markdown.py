"""``report.md``: the tables of an evaluation, to be pasted into a paper."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from unmask.evaluate.evaluation import Evaluation, Slice
from unmask.evaluate.intervals import Interval
from unmask.evaluate.report_facts import (
    missing_counts,
    notes,
    provenance,
    row_notes,
    settings,
    summary,
    timing,
    timing_note,
    worst,
)
from unmask.evaluate.report_robustness import (
    about_stability,
    absent,
    matrices,
    matrix_metrics,
    matrix_title,
    robustness_table,
    stability_tables,
)
from unmask.evaluate.report_tables import (
    GUIDE,
    Cell,
    Table,
    comparison_table,
    interval_text,
    result_tables,
    share_text,
)
from unmask.files import one_line, valid_text

__all__ = ["write_markdown"]

_MISSING_SHOWN = 50
"""Items without a score that the document lists; ``report.json`` has them all."""

_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

_SPECIAL = re.compile(r"([\\`*|<&]|(?<=\])\()")
"""What would be markup: code, emphasis, the end of a field, HTML, the target of a link."""


def write_markdown(evaluation: Evaluation) -> str:
    """The document, GitHub's Markdown; the same evaluation gives the same text."""
    parts = [f"# Evaluation of {_text(evaluation.detector.id)}", _text(summary(evaluation))]
    for title, body in _sections(evaluation):
        if body:
            parts += [f"## {title}", *body]
    return "\n\n".join(parts) + "\n"


def _sections(evaluation: Evaluation) -> Iterator[tuple[str, list[str]]]:
    results = _results(evaluation, generators=False)
    yield "Read first", _list(notes(evaluation))
    yield "Results", [*results, GUIDE] if results else ["Nothing was measured."]
    yield "Generators", _results(evaluation, generators=True)
    yield "Slices", _slices(evaluation)
    yield "Comparison", _comparison(evaluation)
    yield "Robustness", _robustness(evaluation)
    yield "Stability", _stability(evaluation)
    yield "Most confident errors", _errors(evaluation)
    yield "Not scored", _missing(evaluation)
    yield "Timing", _timing(evaluation)
    yield "Provenance", _facts({**provenance(evaluation), **_named(settings(evaluation))})


def _named(values: Mapping[str, str]) -> dict[str, str]:
    return {f"setting {name}": value for name, value in values.items()}


def _results(evaluation: Evaluation, *, generators: bool) -> list[str]:
    rows = [row for row in evaluation.rows if (row.kind == "generator") == generators]
    if not rows:
        return []
    tables = result_tables(rows, evaluation.bootstraps)
    parts = [part for each in tables for part in (f"### {_text(each.title)}", *_table(each))]
    return [*parts, *_list(row_notes(rows))]


def _slices(evaluation: Evaluation) -> list[str]:
    if not evaluation.slices:
        return []
    header = ("Column", "Value", "Real / fake", "FPR", "FNR")
    rows = tuple(_slice(each) for each in evaluation.slices)
    said = worst(evaluation)
    intervals = "Per cent, with Clopper-Pearson intervals, as if items were independent."
    return [*([_text(said)] if said else []), *_table(Table("Slices", header, rows, 2)), intervals]


def _slice(given: Slice) -> tuple[Cell, ...]:
    return (
        Cell(given.column),
        Cell(given.value),
        Cell(f"{given.n_real:,} / {given.n_fake:,}"),
        _rate(given.fpr, "no reals"),
        _rate(given.fnr, "no fakes"),
    )


def _rate(interval: Interval | None, without: str) -> Cell:
    if interval is None:
        return Cell("n/a", (without,))
    return Cell(share_text(interval.value), (interval_text(interval, percent=True),))


def _comparison(evaluation: Evaluation) -> list[str]:
    if not evaluation.comparisons:
        return []
    return _table(comparison_table(evaluation.comparisons, evaluation.bootstraps))


def _robustness(evaluation: Evaluation) -> list[str]:
    parts = [
        "FPR and TPR at the threshold; after the interval how many items were scored, where not "
        "all were."
    ]
    for name, cells in matrices(evaluation).items():
        parts.append(f"### {_text(matrix_title(name, cells))}")
        parts += [_text(absent(cells))] if absent(cells) else []
        for metric in matrix_metrics(cells):
            matrix = robustness_table(cells, evaluation.bootstraps, metric)
            parts += [f"**{_text(matrix.title)}**", *_table(matrix)]
    return parts if evaluation.robustness else []


def _stability(evaluation: Evaluation) -> list[str]:
    if not evaluation.stability:
        return []
    tables = stability_tables(evaluation.stability)
    parts = [part for each in tables for part in (f"**{_text(each.title)}**", *_table(each))]
    return [_text(about_stability(evaluation)), *parts]


def _timing(evaluation: Evaluation) -> list[str]:
    if not evaluation.timing:
        return []
    said = timing_note(evaluation)
    return [*([said] if said else []), *_facts(timing(evaluation))]


def _errors(evaluation: Evaluation) -> list[str]:
    rows = tuple(
        (
            Cell(item.source),
            Cell(item.dataset),
            Cell("real" if item.label == 0 else "fake"),
            Cell("; ".join(item.reasons)),
            Cell(f"{item.p_fake:.3f}"),
        )
        for item in evaluation.errors
    )
    header = ("Source", "Data", "Is", "Reasons", "P(fake)")
    return _table(Table("Errors", header, rows, 4)) if rows else []


def _missing(evaluation: Evaluation) -> list[str]:
    missing = evaluation.missing
    parts = [missing_counts(evaluation)]
    if missing:
        shown = missing[:_MISSING_SHOWN]
        rows = tuple(tuple(Cell(each) for each in line) for line in shown)
        parts += _table(Table("Not scored", ("Source", "Status", "Reason"), rows, 3))
    if len(missing) > _MISSING_SHOWN:
        parts.append(f"And {len(missing) - _MISSING_SHOWN:,} more, all of them in report.json.")
    return parts


def _table(given: Table) -> list[str]:
    """The table, and its footnotes as a list of their own."""
    sides = [":--" if number < given.names else "--:" for number in range(len(given.header))]
    lines = [_line([_text(title) for title in given.header]), _line(sides)]
    lines += [_line([_cell(cell) for cell in row]) for row in given.rows]
    notes = [f"{number}. {_text(note)}" for number, note in enumerate(given.footnotes, 1)]
    return ["\n".join(lines), *(["\n".join(notes)] if notes else [])]


def _line(fields: Sequence[str]) -> str:
    return f"| {' | '.join(fields)} |"


def _cell(cell: Cell) -> str:
    words = _text(cell.text)
    for detail in cell.details:
        words += (" " if detail.startswith("[") else ", ") + _text(detail)
    return words + str(cell.note).translate(_RAISED) if cell.note else words


def _facts(values: Mapping[str, str]) -> list[str]:
    return ["\n".join(f"- {_text(name)}: {_text(value)}" for name, value in values.items())]


def _list(given: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {_text(each)}" for each in given)] if given else []


def _text(text: str) -> str:
    """Text of one line that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", valid_text(one_line(text)))
