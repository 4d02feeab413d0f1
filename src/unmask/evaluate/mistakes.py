"""The most confident wrong answers, for a reader to look at, and what was not scored at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from unmask.evaluate.evaluation import Item
from unmask.evaluate.table import Scores, scored
from unmask.evaluate.units import NO_LABEL

__all__ = ["mistakes", "not_scored"]

_SENTENCES = " | "
"""Between the sentences of one row of the table of scores."""


def mistakes(
    scores: Scores,
    threshold: float,
    *,
    each: int = 12,
    thumbnail: Callable[[Path], str] | None = None,
) -> tuple[Item, ...]:
    """False alarms and misses whose P(fake) is farthest from the label, the worst first.

    Args:
        scores: Pictures or frames.
        threshold: ``p_fake >= threshold`` is called fake.
        each: At most so many of either kind.
        thumbnail: Gives the ``data:`` URL of a picture, empty where it cannot be read.
    """
    measured = scored(scores) & (scores.label >= 0)
    called = scores.p_fake >= threshold
    distance = np.abs(scores.p_fake - scores.label)
    chosen: list[int] = []
    for wrong in (called & (scores.label == 0), ~called & (scores.label == 1)):
        rows = np.flatnonzero(measured & wrong)
        chosen += rows[np.argsort(-distance[rows], kind="stable")][:each].tolist()
    chosen.sort(key=lambda row: -distance[row])
    return tuple(_item(scores, row, thumbnail) for row in chosen)


def _item(scores: Scores, row: int, thumbnail: Callable[[Path], str] | None) -> Item:
    source = str(scores.source[row])
    return Item(
        source=source,
        dataset=str(scores.dataset[row]),
        label=int(scores.label[row]),
        p_fake=float(scores.p_fake[row]),
        reasons=tuple(filter(None, str(scores.messages[row]).split(_SENTENCES))),
        thumbnail=thumbnail(Path(source)) if thumbnail else "",
    )


def not_scored(scores: Scores) -> tuple[tuple[str, str, str], ...]:
    """Source, status and reason of every item that is not measured, in the order given."""
    rows = np.flatnonzero(~scored(scores) | (scores.label < 0))
    return tuple(
        (str(scores.source[row]), str(scores.status[row]), str(scores.messages[row]))
        if scores.label[row] >= 0
        else (str(scores.source[row]), NO_LABEL, "nobody says whether it is real or fake")
        for row in rows
    )
