"""From frames to videos: one score for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from unmask.errors import ConfigError, ScoresError
from unmask.evaluate.counts import Array, Labels, checked

__all__ = ["How", "Videos", "by_video"]

How = Literal["mean", "median", "max", "top-k"]


@dataclass(frozen=True, slots=True, eq=False)
class Videos:
    """Videos in the order of their names, each array ``(V,)``."""

    ids: npt.NDArray[np.str_]
    labels: Labels
    scores: Array
    frames: npt.NDArray[np.intp]
    """How many frames each has."""
    first: npt.NDArray[np.intp]
    """The number of its first frame among those given: leads to its data set or group."""


def by_video(
    labels: npt.ArrayLike, scores: npt.ArrayLike, videos: npt.ArrayLike, how: How, *, k: int = 3
) -> Videos:
    """One label and one score for each video, in the order of the names.

    Args:
        labels: ``(N,)`` of the frames.
        scores: ``(N,)`` of the frames.
        videos: ``(N,)`` the full identity of each frame's video (data set and path, never the
            bare folder name); a picture alone is its own video.
        how: The mean, the median or the maximum of its frames, or the mean of the ``k`` highest
            (of all where there are fewer).
        k: For ``top-k`` only.

    Raises:
        ScoresError: labels, scores and videos do not fit together, a frame has no video, or a
            video has frames of both labels.
        ConfigError: ``how`` is unknown, or ``k`` below 1.
    """
    if how not in get_args(How):
        raise ConfigError(f"aggregation is {how!r}, not one of {', '.join(get_args(How))}")
    if k < 1:
        raise ConfigError(f"k is {k}; at least one frame must be taken (3 is usual)")
    sound_labels, sound_scores = checked(labels, scores)
    names = np.asarray(videos).astype(np.str_)
    if names.shape != sound_scores.shape:
        raise ScoresError(
            f"videos have shape {names.shape}; one name for each of {len(sound_scores)} frames "
            "was expected"
        )
    if (names == "").any():
        raise ScoresError(
            f"frame number {np.flatnonzero(names == '')[0]} has no video; give a picture that "
            "stands alone a name of its own, such as its source"
        )
    ids, first, video_of = np.unique(names, return_index=True, return_inverse=True)
    frames = np.bincount(video_of)
    mixed = np.flatnonzero(np.bincount(video_of, sound_labels) % frames)
    if len(mixed):
        raise ScoresError(
            f"{len(mixed)} of {len(ids)} videos have frames of both labels, the first is "
            f"{str(ids[mixed[0]])!r}; give each video its full identity, or correct the labels"
        )
    aggregated = _aggregate(sound_scores, video_of, frames, how, k)
    return Videos(ids, sound_labels[first], aggregated, frames, first)


def _aggregate(
    scores: Array,
    video_of: npt.NDArray[np.intp],
    frames: npt.NDArray[np.intp],
    how: How,
    k: int,
) -> Array:
    # Frames by video and then by score: the result does not depend on the order of the frames.
    order = np.lexsort((scores, video_of))
    ordered, video = scores[order], video_of[order]
    ends = np.cumsum(frames)
    starts = ends - frames
    if how == "max":
        return ordered[ends - 1]
    if how == "median":
        middle: Array = (ordered[(starts + ends - 1) // 2] + ordered[(starts + ends) // 2]) / 2
        return middle
    from_top = ends[video] - np.arange(len(ordered))  # 1 for the highest
    taken = from_top <= (k if how == "top-k" else len(ordered))
    mean: Array = np.bincount(video[taken], ordered[taken]) / np.bincount(video[taken])
    return mean
