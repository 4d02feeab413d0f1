"""The table by DeepfakeBench's rules, for comparison with published ones; without intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

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
    "no intervals. These rules are kept for comparison with published tables only.",
)

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
        if found:
            numbers[name] = found
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
        rows += [row, replace(row, unit="video", measures=_measures(found, _VIDEO))]
    if len(numbers) > 1:
        rows += _averages(rows, numbers)
    return tuple(rows)


def _numbers(part: Scores) -> Numbers:
    measured = select(part, scored(part) & (part.label >= 0))
    if not len(measured):
        return {}
    return deepfakebench.deepfakebench(measured.label, measured.p_fake, measured.source.tolist())


def _averages(rows: list[Row], numbers: Mapping[str, Numbers]) -> list[Row]:
    parts = [each for each in rows if each.unit == "picture"]
    given, kept = (
        sum(getattr(each.coverage, name) for each in parts) for name in ("given", "scored")
    )
    mean = Row(
        name="mean",
        kind="mean",
        unit="picture",
        n_real=sum(each.n_real for each in parts),
        n_fake=sum(each.n_fake for each in parts),
        n_groups=sum(each.n_groups for each in parts),
        coverage=Coverage(given, kept),
        measures=(),
        notes=(f"over {len(numbers)} data sets",),
    )
    found = deepfakebench.averages(numbers)
    return [
        replace(mean, measures=_measures(found, _PICTURE)),
        replace(mean, unit="video", measures=_measures(found, {"video_auc": "auc"})),
    ]


def _measures(numbers: Numbers, names: Mapping[str, str]) -> tuple[Measure, ...]:
    found = []
    for key, name in names.items():
        number = numbers.get(key, Reason("no_items", "none of the items has a score and a label"))
        if isinstance(number, Reason):
            found.append(Measure(name, None, number.message))
        else:
            found.append(Measure(name, Interval(number, math.nan, math.nan)))
    return tuple(found)
