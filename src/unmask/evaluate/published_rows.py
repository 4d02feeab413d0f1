"""The table by DeepfakeBench's rules, for comparison with published ones; without intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np

from unmask.evaluate import deepfakebench
from unmask.evaluate.evaluation import Coverage, Measure, Row
from unmask.evaluate.intervals import Interval
from unmask.evaluate.table import Scores, by_dataset, scored, select
from unmask.evaluate.units import pictures
from unmask.types import Reason

__all__ = ["NOTES", "published_rows"]

Numbers = Mapping[str, float | Reason]

NOTES = (
    "protocol deepfakebench: videos are told apart by the bare name of their folder, EER is taken "
    "at the nearest point of the ROC curve, accuracy calls fake what is above 0.5, and there are "
    "no intervals. These rules are kept for comparison with published tables only: where a folder "
    "holds a whole class, its name is taken for one video.",
)

_NOTHING = Reason("no_items", "none of the items has a score and a label")
"""Also for a mean where of one class nothing was scored: without it the mean would flatter."""

_UNITS: tuple[Literal["picture", "video"], ...] = ("picture", "video")
_PICTURE = {"auc": "auc", "ap": "average_precision", "eer": "eer", "acc": "accuracy"}
_VIDEO = {"video_auc": "auc", "video_eer": "eer", "video_acc": "accuracy"}
"""What the protocol calls its numbers, and what they are called here."""


def published_rows(scores: Scores) -> tuple[Row, ...]:
    """A row of pictures and one of videos for each data set, and their averages.

    Raises:
        ScoresError: a name without a folder, which the protocol takes for the video.
    """
    rows: list[Row] = []
    numbers: dict[str, Numbers] = {}
    for name, part in by_dataset(scores).items():
        units = pictures(part)
        found = _numbers(part)
        two = {0, 1} <= set(part.label.tolist())
        lost = not found or (two and not (units.n_real and units.n_fake))
        numbers[name] = dict.fromkeys(deepfakebench.AVERAGED, _NOTHING) if lost else found
        row = Row(
            name=name,
            kind="dataset",
            unit="picture",
            n_real=units.n_real,
            n_fake=units.n_fake,
            n_groups=units.n_groups,
            coverage=units.coverage,
            measures=_measures(found, _PICTURE),
        )
        rows += [row, _video_row(row, part, found)]
    if len(numbers) > 1:
        rows += _averages(rows, numbers)
    return tuple(rows)


def _video_row(row: Row, part: Scores, numbers: Numbers) -> Row:
    """The row of what the protocol takes for videos: names of folders, however few those are."""
    measured = select(part, scored(part) & (part.label >= 0))
    labels = np.empty(0, np.int8)
    if len(measured):
        labels, _, _ = deepfakebench.by_folder_name(
            measured.label, measured.p_fake, measured.source.tolist()
        )
    given, _, _ = deepfakebench.by_folder_name(
        np.zeros(len(part), np.int8), np.zeros(len(part)), part.source.tolist()
    )
    reals, fakes = int(np.sum(labels == 0)), int(np.sum(labels == 1))
    return replace(
        row,
        unit="video",
        n_real=reals,
        n_fake=fakes,
        n_groups=len(labels),
        coverage=Coverage(len(given), len(labels), _lost(len(given) - len(labels))),
        measures=_measures(numbers, _VIDEO),
        notes=(f"each folder name is a video: {reals} of reals, {fakes} of fakes",),
    )


def _lost(count: int) -> dict[str, int]:
    return {"no_scored_frame": count} if count else {}


def _numbers(part: Scores) -> Numbers:
    measured = select(part, scored(part) & (part.label >= 0))
    if not len(measured):
        return {}
    return deepfakebench.deepfakebench(measured.label, measured.p_fake, measured.source.tolist())


def _averages(rows: list[Row], numbers: Mapping[str, Numbers]) -> list[Row]:
    found = deepfakebench.averages(numbers)
    said = f"over {len(numbers)} data sets, each counting alike"
    names = {"picture": _PICTURE, "video": {"video_auc": "auc"}}
    return [
        replace(
            rows[0],
            name="mean",
            kind="mean",
            unit=unit,
            n_real=sum(each.n_real for each in rows if each.unit == unit),
            n_fake=sum(each.n_fake for each in rows if each.unit == unit),
            n_groups=sum(each.n_groups for each in rows if each.unit == unit),
            coverage=Coverage(
                sum(each.coverage.given for each in rows if each.unit == unit),
                sum(each.coverage.scored for each in rows if each.unit == unit),
            ),
            measures=_measures(found, names[unit]),
            notes=(said,),
        )
        for unit in _UNITS
    ]


def _measures(numbers: Numbers, names: Mapping[str, str]) -> tuple[Measure, ...]:
    found = []
    for key, name in names.items():
        number = numbers.get(key, _NOTHING)
        if isinstance(number, Reason):
            found.append(Measure(name, None, number.message))
        else:
            found.append(Measure(name, Interval(number, math.nan, math.nan)))
    return tuple(found)
