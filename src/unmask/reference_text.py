"""Results -> the text of the original scripts, line by line.

``docs/compatibility.md`` lists where the file differs from theirs, and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from unmask.files import one_line, replacing
from unmask.types import Result

__all__ = ["UNTRAINED_WARNING", "demo_line", "metric_lines", "write_reference_text"]

UNTRAINED_WARNING = (
    "WARNING: the head was never trained; every Pred and Prob below is noise, not a finding"
)
"""Stands in the header of a file whose scores mean nothing, and on stderr."""

_RULE = 80 * "="
_LABELS = {0: "REAL", 1: "FAKE", None: "N/A"}
_HOW_TO_LABEL = "- Images with 'real' or 'fake' in directory names"
_SAMPLES = 5
"""How many file names the original lists where it cannot compute an AUC."""


@dataclass(frozen=True, slots=True)
class _Line:
    """One input that was scored, as the file shows it."""

    position: int
    name: str
    path: str
    label: int | None
    logit: float
    p_fake: float


def write_reference_text(
    path: Path,
    results: Sequence[Result],
    *,
    title: str,
    warning: str | None = None,
    total: int | None = None,
) -> None:
    """Write the original scripts' file: whole or not at all, utf-8, one line feed per line.

    Args:
        path: The file; what stood there is replaced.
        results: One per input, in the order of the inputs.
        title: First line.
        warning: Line after the title. None is :data:`UNTRAINED_WARNING` where a result comes from
            an untrained head, else no line.
        total: How many inputs there were; more than ``len(results)`` if the run was interrupted.
    """
    count = len(results) if total is None else total
    with replacing(path) as file:
        file.writelines(line + "\n" for line in _lines(results, title, warning, count))


def metric_lines(results: Sequence[Result]) -> list[str]:
    """The AUC and PR-AUC lines of the file; none where they cannot be computed."""
    return [line for line in _metrics(_scored(results)) if line.startswith(("AUC", "PR-AUC"))]


def demo_line(position: int, total: int, result: Result) -> str:
    """What the original demo prints of one picture; where it crashed, the reason instead.

    Args:
        position: Of the input, from 1.
        total: How many inputs there are.
        result: Of the input.
    """
    head = f"[{position}/{total}] {_name(result):>30} | "
    if result.logit is None or result.p_fake is None:
        return head + _why_not(result)
    line = (
        f"{head}Pred Label: {int(result.logit > 0)} (0=Real, 1=Fake) | "
        f"Fake Prob: {result.p_fake:.4f}"
    )
    whole = [reason.message for reason in result.reasons if reason.code == "whole_picture"]
    return " | ".join([line, *whole])


def _lines(results: Sequence[Result], title: str, warning: str | None, total: int) -> Iterator[str]:
    if warning is None and not all(result.detector.trained for result in results):
        warning = UNTRAINED_WARNING
    scored = _scored(results)
    yield title
    if warning is not None:
        yield warning
    yield from (_RULE, "")
    for line in scored:
        yield (
            f"[{line.position}/{total}] {line.name:>30} | True: {_LABELS[line.label]:>4} | "
            f"Pred: {int(line.logit > 0)} (0=Real, 1=Fake) | Prob: {line.p_fake:.4f} | "
            f"Path: {line.path}"
        )
    yield from ("", _RULE, "PERFORMANCE METRICS", _RULE)
    yield from _metrics(scored)
    yield from _whole_pictures(results, total)
    yield from _not_scored(results, total)
    if len(results) < total:
        yield from ("", f"INTERRUPTED: {len(results)} of {total} inputs were processed.")


def _scored(results: Sequence[Result]) -> list[_Line]:
    return [
        _Line(position, _name(result), one_line(result.source), result.label, logit, p_fake)
        for position, result in enumerate(results, start=1)
        if (logit := result.logit) is not None and (p_fake := result.p_fake) is not None
    ]


def _metrics(scored: Sequence[_Line]) -> Iterator[str]:
    if len(scored) == 1:
        yield from ("", "Single image processed - AUC calculation not applicable.")
    if len(scored) < 2:
        return
    labelled = [line for line in scored if line.label is not None]
    classes = {line.label for line in labelled}
    yield from ("", "TRUE LABELS (for verification):")
    for number, line in enumerate(labelled, start=1):
        yield f"[{number}] {line.name:>30} -> {_LABELS[line.label]}"
    yield from ("", f"Unique true labels found: {classes}")
    if classes == {0, 1}:
        yield from _area_lines(scored, labelled)
        return
    if classes:
        (only,) = classes
        problem = "only one class present in true labels"
        meaning = f"the dataset appears to contain only {_LABELS[only]} images"
    else:
        problem = "no true labels found"
        meaning = "no image lies in a directory whose name says real or fake"
    yield from (
        "",
        f"[WARNING] Cannot calculate AUC - {problem}",
        f"Classes found: {sorted(label for label in classes if label is not None)}",
        f"This means {meaning}",
        "",
        "For AUC calculation, the dataset should contain both:",
        _HOW_TO_LABEL,
        "",
        "Sample filenames from your dataset:",
    )
    yield from (f"  {line.name}" for line in scored[:_SAMPLES])


def _area_lines(scored: Sequence[_Line], labelled: Sequence[_Line]) -> Iterator[str]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    labels = [line.label for line in labelled]
    logits = [line.logit for line in labelled]
    try:
        auc = roc_auc_score(labels, logits)
        precision = average_precision_score(labels, logits)
    except ValueError as error:  # a score that is not a number
        yield from (
            "",
            f"[Warning] Could not calculate AUC: {' '.join(str(error).split())}",
            "AUC calculation may require:",
            _HOW_TO_LABEL,
        )
        return
    yield from (
        "",
        f"Total images processed: {len(scored)}",
        f"Real images: {labels.count(0)}",
        f"Fake images: {labels.count(1)}",
    )
    if len(labelled) < len(scored):
        yield f"Images without a label: {len(scored) - len(labelled)} (not part of the AUC)"
    yield f"AUC (Area Under ROC Curve): {auc:.4f}"
    yield f"PR-AUC (Area Under Precision-Recall Curve): {precision:.4f}"


def _whole_pictures(results: Sequence[Result], total: int) -> Iterator[str]:
    """Added to the original's file: where it scored the whole picture and did not say so."""
    lines = [
        f"[{position}/{total}] {_name(result):>30} | Path: {one_line(result.source)}"
        for position, result in enumerate(results, start=1)
        if any(reason.code == "whole_picture" for reason in result.reasons)
    ]
    if lines:
        yield from ("", "WHOLE PICTURE SCORED (no face found):", *lines)


def _not_scored(results: Sequence[Result], total: int) -> Iterator[str]:
    """Added to the original's file: inputs without a line of their own, with the reason."""
    lines = [
        f"[{position}/{total}] {_name(result):>30} | {_why_not(result)} | "
        f"Path: {one_line(result.source)}"
        for position, result in enumerate(results, start=1)
        if result.logit is None
    ]
    if lines:
        yield from ("", "NOT SCORED:", *lines)


def _why_not(result: Result) -> str:
    reasons = "; ".join(reason.message for reason in result.reasons)
    return f"{result.status}: {one_line(reasons)}"


def _name(result: Result) -> str:
    return one_line(PurePath(result.source).name)
