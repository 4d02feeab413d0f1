"""The most confident wrong answers, for a reader to look at, and what was not scored at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from unmask.evaluate.evaluation import Item, Threshold
from unmask.evaluate.table import Scores, scored
from unmask.evaluate.units import NO_LABEL

__all__ = ["mistakes", "not_scored"]

_SENTENCES = " | "
"""Between the sentences of one row of the table of scores."""

_KNOWN = {
    "face_px": "face {:.0f} px",
    "sharpness": "sharpness {:.3g}",
    "face_confidence": "face confidence {:.2f}",
    "jpeg_quality": "JPEG quality {:.0f}",
}
"""Columns of the table that a reader of a wrong answer looks at first, in words."""


def mistakes(
    scores: Scores,
    threshold: Threshold,
    *,
    each: int = 12,
    thumbnail: Callable[[Path], str] | None = None,
) -> tuple[Item, ...]:
    """Reals called fake and fakes called real, P(fake) farthest from the label first.

    What is inconclusive at an operating point is no wrong answer. The first reason of each says
    what it was called and what is known of it.

    Args:
        scores: Pictures or frames.
        threshold: With its band, if it is an operating point.
        each: At most so many of either kind.
        thumbnail: Gives the ``data:`` URL of a picture, empty where it cannot be read.
    """
    measured = scored(scores) & (scores.label >= 0)
    called = scores.p_fake >= threshold.value
    called_real = scores.p_fake < _real_below(threshold)
    distance = np.abs(scores.p_fake - scores.label)
    chosen: list[int] = []
    for wrong in (called & (scores.label == 0), called_real & (scores.label == 1)):
        rows = np.flatnonzero(measured & wrong)
        chosen += rows[np.argsort(-distance[rows], kind="stable")][:each].tolist()
    chosen.sort(key=lambda row: -distance[row])
    return tuple(_item(scores, row, threshold, thumbnail) for row in chosen)


def _real_below(threshold: Threshold) -> float:
    return threshold.value if threshold.real_below is None else threshold.real_below


def _item(
    scores: Scores, row: int, threshold: Threshold, thumbnail: Callable[[Path], str] | None
) -> Item:
    source = str(scores.source[row])
    said = filter(None, str(scores.messages[row]).split(_SENTENCES))
    return Item(
        source=source,
        dataset=str(scores.dataset[row]),
        label=int(scores.label[row]),
        p_fake=float(scores.p_fake[row]),
        reasons=(_sentence(scores, row, threshold), *said),
        thumbnail=thumbnail(Path(source)) if thumbnail else "",
    )


def _sentence(scores: Scores, row: int, threshold: Threshold) -> str:
    """What it was called, at which threshold, and what is known of the picture."""
    if scores.label[row] == 0:
        called = f"called fake at P(fake) {scores.p_fake[row]:.3f}, threshold {threshold.value:.3g}"
    else:
        limit = _real_below(threshold)
        called = f"called real at P(fake) {scores.p_fake[row]:.3f}, real below {limit:.3g}"
    known = [
        words.format(scores.extra[name][row])
        for name, words in _KNOWN.items()
        if name in scores.extra and _is_known(scores.extra[name][row])
    ]
    return f"{called}; {', '.join(known)}" if known else called


def _is_known(value: object) -> bool:
    return isinstance(value, float) and bool(np.isfinite(value))


def not_scored(scores: Scores) -> tuple[tuple[str, str, str], ...]:
    """Source, status and reason of every item that is not measured, in the order given."""
    rows = np.flatnonzero(~scored(scores) | (scores.label < 0))
    return tuple(
        (str(scores.source[row]), str(scores.status[row]), str(scores.messages[row]))
        if scores.label[row] >= 0
        else (str(scores.source[row]), NO_LABEL, "nobody says whether it is real or fake")
        for row in rows
    )
