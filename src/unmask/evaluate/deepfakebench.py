"""The numbers as other code bases report them, so that published tables stay comparable.

Each rule is kept as it is, weaknesses included, and named: videos are told apart by the bare name
of their folder, so that videos of different data sets run together and a video with both labels
counts as real (its mean label is rounded down); thresholds are chosen on the very scores they are
judged by. For numbers of one's own use :mod:`unmask.evaluate.metrics` and
:mod:`unmask.evaluate.videos`. Where a rule gives no number, the reason stands in its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unmask.errors import MetricUndefined, ScoresError
from unmask.evaluate import metrics
from unmask.evaluate.counts import Array, Labels, checked
from unmask.evaluate.curves import roc
from unmask.types import Reason

__all__ = [
    "AVERAGED",
    "Accuracies",
    "UniversalFakeDetect",
    "averages",
    "by_folder_name",
    "deepfakebench",
    "gend_eer",
    "gend_tpr_at_fpr",
    "universal_fake_detect",
]

Number = float | Reason
AVERAGED = ("acc", "auc", "eer", "ap", "video_auc")
"""What DeepfakeBench averages over data sets."""


def deepfakebench(
    labels: npt.ArrayLike, scores: npt.ArrayLike, paths: Sequence[str]
) -> dict[str, Number]:
    """``acc, auc, eer, ap, video_auc, video_eer, video_acc`` by DeepfakeBench's rules.

    All seven keys are always there. Accuracy calls fake what is above 1/2 (not at it); EER is
    that of :func:`unmask.evaluate.metrics.eer_nearest`; a video is the name of the folder a frame
    lies in, its score the mean of its frames, its label their mean label rounded down.

    Args:
        labels: ``(N,)`` of the frames.
        scores: ``(N,)`` P(fake) of the frames.
        paths: ``(N,)`` of the frames; both kinds of slash separate.

    Raises:
        ScoresError: labels, scores and paths do not fit together, or a path has no folder.
    """
    sound_labels, sound_scores = checked(labels, scores)
    if len(paths) != len(sound_scores):
        raise ScoresError(f"there are {len(paths)} paths for {len(sound_scores)} scores")
    found: dict[str, Number] = {
        "acc": _above_half(sound_labels, sound_scores),
        "auc": _or_reason(metrics.auc, sound_labels, sound_scores),
        "eer": _or_reason(metrics.eer_nearest, sound_labels, sound_scores),
        "ap": _or_reason(metrics.average_precision, sound_labels, sound_scores),
    }
    video_labels, video_scores, mixed = by_folder_name(sound_labels, sound_scores, paths)
    found["video_auc"] = _or_reason(metrics.auc, video_labels, video_scores, mixed)
    found["video_eer"] = _or_reason(metrics.eer_nearest, video_labels, video_scores, mixed)
    # The code that this follows counts videos right only after their AUC, so both fail together.
    no_auc = found["video_auc"] if isinstance(found["video_auc"], Reason) else None
    found["video_acc"] = no_auc or _above_half(video_labels, video_scores)
    return found


def averages(rows: Mapping[str, Mapping[str, Number]]) -> dict[str, Number]:
    """The mean over data sets of each of :data:`AVERAGED`, or the reason of the first without one.

    Args:
        rows: Data set to what :func:`deepfakebench` gave for it.

    Raises:
        ScoresError: there are no data sets.
    """
    if not rows:
        raise ScoresError("there are no data sets to average over; at least one is needed")
    found: dict[str, Number] = {}
    for name in AVERAGED:
        numbers = [row[name] for row in rows.values()]
        defined = [number for number in numbers if not isinstance(number, Reason)]
        if len(defined) == len(numbers):
            found[name] = float(np.mean(defined))
        else:
            without = next(key for key, row in rows.items() if isinstance(row[name], Reason))
            found[name] = Reason(
                "not_all_defined",
                f"{len(numbers) - len(defined)} of {len(numbers)} data sets have no {name}, the "
                f"first is {without}",
            )
    return found


def gend_eer(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[float, float]:
    """EER and its threshold as GenD reports them: where the straight lines cross.

    GenD finds the crossing by a root search; this is what the search converges to. The threshold
    is interpolated likewise, and chosen on the scores that it is then judged by.

    Raises:
        MetricUndefined: one class only.
        ScoresError: labels and scores do not fit together.
    """
    rate = metrics.eer(labels, scores)
    curve = roc(labels, scores)
    # The curve begins with an infinite threshold, which cannot be interpolated.
    thresholds = np.concatenate([curve.thresholds[1:2], curve.thresholds[1:]])
    excess = 1 - curve.tpr - curve.fpr
    after = int(np.argmax(excess <= 0))
    before = after - 1
    width = curve.fpr[after] - curve.fpr[before]
    # Upright there: a root search ends within its tolerance on either side of the jump, mostly
    # (and in the recorded run) on its left, at the threshold where the jump begins.
    share = (rate - curve.fpr[before]) / width if width > 0 else 0.0
    threshold = thresholds[before] + share * (thresholds[after] - thresholds[before])
    return rate, float(threshold)


def gend_tpr_at_fpr(
    labels: npt.ArrayLike, scores: npt.ArrayLike, fprs: Sequence[float] = (0.001, 0.01, 0.05)
) -> tuple[float, ...]:
    """TPR at each FPR as GenD reports it: that of the last point whose FPR does not exceed it.

    Raises:
        MetricUndefined: one class only.
        ScoresError: labels and scores do not fit together.
    """
    return tuple(metrics.tpr_at_fpr(labels, scores, fpr) for fpr in fprs)


@dataclass(frozen=True, slots=True)
class Accuracies:
    """Shares of right answers, where a score above the threshold is fake."""

    real: float
    fake: float
    all: float


@dataclass(frozen=True, slots=True)
class UniversalFakeDetect:
    """What UniversalFakeDetect's benchmark reports for one data set."""

    ap: float
    at_half: Accuracies
    best_threshold: float
    """Searched on the scores that are judged by it: optimistic, not for a table of one's own."""
    at_best: Accuracies


def universal_fake_detect(labels: npt.ArrayLike, scores: npt.ArrayLike) -> UniversalFakeDetect:
    """AP and accuracies at 1/2 and at the best threshold, by UniversalFakeDetect's rules.

    The search tries every score as a threshold (at or above it is fake) and takes the last one, in
    the order given, of the highest accuracy; where no real scores above any fake, it takes the
    middle between them. That code assumes all reals to come first; here labels say what is real.

    Raises:
        MetricUndefined: one class only.
        ScoresError: labels and scores do not fit together.
    """
    sound_labels, sound_scores = checked(labels, scores)
    ap = metrics.average_precision(sound_labels, sound_scores)
    best = _best_threshold(sound_labels, sound_scores)
    return UniversalFakeDetect(
        ap,
        _accuracies(sound_labels, sound_scores, 0.5),
        best,
        _accuracies(sound_labels, sound_scores, best),
    )


def _best_threshold(labels: Labels, scores: Array) -> float:
    highest_real, lowest_fake = scores[labels == 0].max(), scores[labels == 1].min()
    if highest_real <= lowest_fake:
        return float((highest_real + lowest_fake) / 2)
    reals, fakes = np.sort(scores[labels == 0]), np.sort(scores[labels == 1])
    right = np.searchsorted(reals, scores) + len(fakes) - np.searchsorted(fakes, scores)
    return float(scores[np.flatnonzero(right == right.max())[-1]])


def _accuracies(labels: Labels, scores: Array, threshold: float) -> Accuracies:
    right = (scores > threshold) == (labels == 1)
    return Accuracies(
        float(right[labels == 0].mean()), float(right[labels == 1].mean()), float(right.mean())
    )


def _above_half(labels: Labels, scores: Array) -> float:
    return float(np.mean((scores > 0.5) == (labels == 1)))


def _or_reason(
    metric: Callable[[Labels, Array], float], labels: Labels, scores: Array, mixed: int = 0
) -> Number:
    try:
        return metric(labels, scores)
    except MetricUndefined as error:
        said = f"; {mixed} folder names hold frames of both labels and count as real"
        return Reason(error.code, f"{error}{said if mixed else ''}")


def by_folder_name(
    labels: Labels, scores: Array, paths: Sequence[str]
) -> tuple[Labels, Array, int]:
    """Label and score of each folder name, and how many names have frames of both labels.

    Raises:
        ScoresError: a path has no folder.
    """
    names = []
    for path in paths:
        parts = re.split(r"[\\/]", path)
        if len(parts) < 2:
            raise ScoresError(
                f"{path!r} has no folder, which this protocol takes for the name of the video"
            )
        names.append(parts[-2])
    video_of = np.unique(names, return_inverse=True)[1]
    frames = np.bincount(video_of)
    fakes = np.bincount(video_of, labels)
    mixed = int(np.sum((fakes > 0) & (fakes < frames)))
    return (fakes // frames).astype(np.int8), np.bincount(video_of, scores) / frames, mixed
