"""What a report says beside its tables: the row to quote, warnings, and where it comes from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from unmask.evaluate.evaluation import Evaluation, Row, Threshold
from unmask.evaluate.figures import MOST_DRAWN
from unmask.evaluate.report_tables import (
    interval_text,
    row_name,
    share_text,
    unit_name,
    units_name,
)
from unmask.evaluate.rows import few

__all__ = [
    "headline",
    "missing_counts",
    "not_drawn",
    "notes",
    "provenance",
    "row_notes",
    "settings",
    "summary",
    "timing",
    "timing_note",
    "worst",
]


def headline(evaluation: Evaluation) -> Row | None:
    """The row to quote: the mean over data sets, else all together, else a data set.

    The last of its kind, which is that of the videos where there are any; one without AUC only if
    none has it. None where there are no rows.
    """
    rows = [
        row
        for kind in ("mean", "all", "dataset")
        for row in reversed(evaluation.rows)
        if row.kind == kind
    ]
    ranked = [row for row in rows if _has_auc(row)]
    return next(iter([*ranked, *rows]), None)


def _has_auc(row: Row) -> bool:
    return any(each.name == "auc" and each.interval is not None for each in row.measures)


def summary(evaluation: Evaluation) -> str:
    """Data, threshold and protocol in two sentences."""
    names = list(dict.fromkeys(row.name for row in evaluation.rows if row.kind == "dataset"))
    threshold = evaluation.threshold
    resampled = (
        f"95 % intervals from {evaluation.bootstraps:,} resamples of whole groups"
        if evaluation.bootstraps
        else "no resamples were drawn, so that metrics have no intervals"
    )
    return (
        f"Data: {few(names) or 'none'}. Threshold on P(fake): {threshold.value:.4g} "
        f"({threshold.source}{_band(threshold)}). Protocol: {evaluation.protocol}; {resampled}."
    )


def _band(threshold: Threshold) -> str:
    if threshold.real_below is None:
        return ""
    return f"; below {threshold.real_below:.4g} is called real, between the two inconclusive"


def notes(evaluation: Evaluation) -> list[str]:
    """What a reader must know before any number."""
    untrained = "The head of this detector was never trained: its scores mean nothing."
    return [*([] if evaluation.detector.trained else [untrained]), *evaluation.notes]


def row_notes(rows: Sequence[Row]) -> list[str]:
    """What was not scored in each row, and its notes; a sentence for each row."""
    found = []
    for row in rows:
        name = f"{row_name(row)} ({units_name(row, 2)})"
        counts = row.coverage.missing.items()
        lost = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in counts)
        said = [*([f"not scored: {lost}"] if lost else []), *row.notes]
        found += [f"{name}: {'; '.join(said)}"] if said else []
    return found


def worst(evaluation: Evaluation) -> str:
    """The worst slice in a sentence; empty where none is named."""
    found = evaluation.worst_slice
    if found is None or found.fpr is None:
        return ""
    return (
        f"Worst slice: {found.column} = {found.value}, where {share_text(found.fpr.value)} "
        f"{interval_text(found.fpr, percent=True)} of {found.n_real:,} reals are called fake; "
        "by the lower bound of that share, so that few reals do not decide."
    )


def not_drawn(evaluation: Evaluation) -> str:
    """Which data sets have plots, where not all of them have; else empty."""
    names = {row.name for row in evaluation.rows if row.kind == "dataset"}
    if len(names) <= MOST_DRAWN:
        return ""
    return (
        f"Drawn are the {MOST_DRAWN} data sets with the lowest AUC, and what is pooled or averaged "
        f"over all {len(names):,}; the tables have all of them."
    )


def missing_counts(evaluation: Evaluation) -> str:
    """How many items have no score, by status."""
    missing = evaluation.missing
    if not missing:
        return "Every item that was given has a score."
    counts = Counter(status.replace("_", " ") for _, status, _ in missing)
    said = ", ".join(f"{count:,} {status}" for status, count in counts.most_common())
    return f"{len(missing):,} {unit_name('item', len(missing))}: {said}."


def timing(evaluation: Evaluation) -> dict[str, str]:
    """How long each part took; see :func:`timing_note`."""
    values = {
        name.replace("_", " "): f"{seconds:,.1f} s"
        for name, seconds in evaluation.timing.items()
        if name not in {"items_per_s", "resumed_from"}
    }
    if "items_per_s" in evaluation.timing:
        values["items per second"] = f"{evaluation.timing['items_per_s']:,.1f}"
    return values


def timing_note(evaluation: Evaluation) -> str:
    """That the times are not those of everything, after an interruption; else empty."""
    count = round(evaluation.timing.get("resumed_from", 0))
    if not count:
        return ""
    return (
        f"Times of the last run only; it went on from {count:,} scored {unit_name('item', count)}."
    )


def provenance(evaluation: Evaluation) -> dict[str, str]:
    """What is needed to get these numbers again."""
    threshold = evaluation.threshold
    return {
        "detector": evaluation.detector.id,
        "SHA-256 of its weights": evaluation.detector.sha256,
        "command": evaluation.command,
        "protocol": evaluation.protocol,
        "frames to videos": evaluation.aggregation,
        "threshold": f"{threshold.value!r} ({threshold.source})",
        **({} if threshold.real_below is None else {"real below": repr(threshold.real_below)}),
        "seed, resamples": f"{evaluation.seed}, {evaluation.bootstraps:,}",
        "versions": ", ".join(f"{name} {each}" for name, each in evaluation.versions.items()),
        "schema of report.json": str(evaluation.schema),
        **{f"SHA-256 of {name}": sha256 for name, sha256 in evaluation.data.items()},
    }


def settings(evaluation: Evaluation) -> dict[str, str]:
    """Preprocessing and options, values as JSON."""
    return {
        name: json.dumps(value, ensure_ascii=False, default=str)
        for name, value in evaluation.settings.items()
    }
