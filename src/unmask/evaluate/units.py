"""What counts once in a measurement: pictures or videos, with what was not scored counted apart."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from unmask.evaluate.counts import Array, Labels
from unmask.evaluate.evaluation import Coverage
from unmask.evaluate.table import Scores, Texts, scored, texts
from unmask.evaluate.videos import How, by_video

__all__ = ["FILLED", "NO_LABEL", "Missing", "Units", "has_videos", "pictures", "units_of", "videos"]

Missing = Literal["exclude", "as-real", "as-0.5"]

FILLED: dict[Missing, float] = {"as-real": 0.0, "as-0.5": 0.5}
"""The P(fake) that stands for an item without a score; ``exclude`` has none."""

NO_LABEL = "no_label"
"""Why an item with a score is not measured: nobody says what it is."""


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """The measured items of one line of the table, each array ``(U,)``; U may be 0."""

    unit: Literal["picture", "video"]
    labels: Labels
    p_fake: Array
    groups: npt.NDArray[np.intp]
    """What the intervals resample, as numbers."""
    coverage: Coverage
    key: int = 0
    """A number that follows from the names of the groups alone: what the resamples begin with."""

    @property
    def n_real(self) -> int:
        """How many are real."""
        return int(np.sum(self.labels == 0))

    @property
    def n_fake(self) -> int:
        """How many are fake."""
        return int(np.sum(self.labels == 1))

    @property
    def n_groups(self) -> int:
        """How many groups they form."""
        return len(np.unique(self.groups))


def has_videos(scores: Scores) -> bool:
    """Whether any row is a frame of a video."""
    return bool((scores.video != "").any())


def units_of(scores: Scores, how: How, *, k: int = 3, missing: Missing = "exclude") -> list[Units]:
    """The pictures, and the videos where there are any; the last one is the finding to quote."""
    found = [pictures(scores, missing=missing)]
    if has_videos(scores):
        found.append(videos(scores, how, k=k, missing=missing))
    return found


def pictures(scores: Scores, *, missing: Missing = "exclude") -> Units:
    """Each row by itself."""
    given = scored(scores)
    labelled = scores.label >= 0
    p_fake = scores.p_fake
    kept = labelled & given
    if missing != "exclude":
        p_fake = np.where(given, p_fake, FILLED[missing])
        kept = labelled
    measured = labelled & given
    coverage = Coverage(len(scores), int(measured.sum()), _missing(scores, ~measured))
    groups = _groups(scores)[kept]
    return Units("picture", scores.label[kept], p_fake[kept], groups, coverage, _key(scores, kept))


def videos(scores: Scores, how: How, *, k: int = 3, missing: Missing = "exclude") -> Units:
    """Each video once, by its scored frames; a picture alone is its own video.

    A video none of whose frames was scored is missing; one with some is not.

    Raises:
        ScoresError: a video has frames of both labels.
        ConfigError: ``how`` is unknown, or ``k`` below 1.
    """
    names = _video_names(scores)
    _, first, video_of = np.unique(names, return_index=True, return_inverse=True)
    measured = (scores.label >= 0) & scored(scores)
    has_score = np.bincount(video_of, measured, len(first)) > 0
    lost = first[~has_score]
    p_fake, kept = scores.p_fake, np.flatnonzero(measured)
    if missing != "exclude":
        filled = lost[scores.label[lost] >= 0]
        p_fake = p_fake.copy()
        p_fake[filled] = FILLED[missing]
        kept = np.sort(np.concatenate([kept, filled]))
    absent = np.zeros(len(scores), np.bool_)
    absent[lost] = True
    coverage = Coverage(len(first), int(has_score.sum()), _missing(scores, absent))
    if not len(kept):
        nothing = np.empty(0, np.intp)
        return Units("video", np.empty(0, np.int8), np.empty(0), nothing, coverage)
    found = by_video(scores.label[kept], p_fake[kept], names[kept], how, k=k)
    groups = _groups(scores)[kept][found.first]
    return Units("video", found.labels, found.scores, groups, coverage, _key(scores, kept))


def _video_names(scores: Scores) -> npt.NDArray[np.str_]:
    """The full identity of each row's video; a picture's is its data set and name."""
    alone = zip(scores.dataset, scores.source, strict=True)
    own = texts(f"{dataset}\t{source}" for dataset, source in alone)
    return np.where(scores.video == "", own, scores.video).astype(np.str_)


def _groups(scores: Scores) -> npt.NDArray[np.intp]:
    """The groups as numbers; a row without one is its own.

    Groups that share a file, byte for byte, are one: its copies say nothing new.
    """
    names = _group_names(scores)
    codes: npt.NDArray[np.intp] = np.unique(names.astype(np.str_), return_inverse=True)[1]
    known = np.flatnonzero(scores.sha256 != "")
    _, first, file_of = np.unique(
        scores.sha256[known].astype(np.str_), return_index=True, return_inverse=True
    )
    one, other = codes[known], codes[known[first]][file_of]
    if (one == other).all():
        return codes
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    many = int(codes.max()) + 1
    shared = coo_array((np.ones(len(one)), (one, other)), shape=(many, many))
    together: npt.NDArray[np.intp] = connected_components(shared, directed=False)[1]
    return together[codes]


def _group_names(scores: Scores) -> Texts:
    return np.where(scores.group == "", scores.source, scores.group)


def _key(scores: Scores, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> int:
    names = sorted(set(_group_names(scores)[rows].tolist()))
    return zlib.crc32("\n".join(names).encode(errors="surrogateescape"))


def _missing(scores: Scores, rows: npt.NDArray[np.bool_]) -> dict[str, int]:
    """How many of the rows there are of each reason, the most frequent first."""
    listed = zip(scores.label[rows], scores.status[rows], strict=True)
    counts = Counter(NO_LABEL if label < 0 else str(status) for label, status in listed)
    return dict(counts.most_common())
