"""Labels and scores, sorted once: from the counts at each score follow all the metrics.

A resample of the data gives every item a multiplicity. Sorting does not depend on it, so a
:class:`Ranking` is made once and gives the :class:`Counts` of each resample in linear time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unmask.errors import ScoresError

__all__ = ["Array", "Counts", "Labels", "Ranking", "checked", "rank", "require_probabilities"]

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]
"""0 real, 1 fake."""


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """How many reals and fakes stand at each distinct score, the highest first.

    Counts are float64, since they may be weights; whole numbers stay exact up to 2^53.
    """

    scores: Array
    """``(M,)`` distinct, descending."""
    reals: Array
    """``(M,)`` reals with exactly this score."""
    fakes: Array
    """``(M,)`` fakes with exactly this score."""
    false_alarms: Array
    """``(M,)`` reals with this score or a higher one."""
    caught: Array
    """``(M,)`` fakes with this score or a higher one."""

    @property
    def n_real(self) -> float:
        """All reals."""
        return float(self.false_alarms[-1])

    @property
    def n_fake(self) -> float:
        """All fakes."""
        return float(self.caught[-1])

    def at(self, threshold: float) -> tuple[float, float]:
        """False alarms and caught fakes where ``score >= threshold`` is called fake."""
        called = int(np.searchsorted(-self.scores, -threshold, side="right"))
        if called == 0:
            return 0.0, 0.0
        return float(self.false_alarms[called - 1]), float(self.caught[called - 1])


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Labelled scores in descending order; see :func:`rank`."""

    order: npt.NDArray[np.intp]
    """``(N,)``: the item that stands at each place."""
    is_fake: Array
    """``(N,)`` 0.0 or 1.0, in this order."""
    starts: npt.NDArray[np.intp]
    """``(M,)``: the place where each distinct score begins."""
    scores: Array
    """``(M,)`` distinct, descending."""

    def counts(self, weights: Array | None = None) -> Counts:
        """The counts when the item at place ``i`` counts ``weights[i]`` times (once by default).

        Args:
            weights: ``(N,)`` at least 0, in the order of the ranking.
        """
        fakes = self.is_fake if weights is None else weights * self.is_fake
        reals = 1 - fakes if weights is None else weights - fakes
        if len(self.starts) < len(self.order):  # ties stand and fall together
            fakes = np.add.reduceat(fakes, self.starts)
            reals = np.add.reduceat(reals, self.starts)
        return Counts(self.scores, reals, fakes, np.cumsum(reals), np.cumsum(fakes))


def rank(labels: npt.ArrayLike, scores: npt.ArrayLike) -> Ranking:
    """The scores in descending order, equal ones together.

    Raises:
        ScoresError: as :func:`checked`.
    """
    sound_labels, sound_scores = checked(labels, scores)
    order = np.argsort(-sound_scores, kind="stable")
    ordered = sound_scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return Ranking(order, sound_labels[order].astype(np.float64), starts, ordered[starts])


def checked(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Labels, Array]:
    """Labels as int8 and scores as float64, both ``(N,)``.

    Raises:
        ScoresError: they are empty, of unequal length or more than one dimension, a score is not
            finite, or a label is neither 0 nor 1.
    """
    given = np.asarray(labels)
    values = np.asarray(scores, dtype=np.float64)
    if given.ndim != 1 or given.shape != values.shape:
        raise ScoresError(
            f"labels have shape {given.shape} and scores {values.shape}; two lists of the same "
            "length were expected"
        )
    if not len(given):
        raise ScoresError("there are no scores; at least one labelled score is needed")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ScoresError(
            f"{len(bad)} of {len(values)} scores are not finite, the first is number {bad[0]} "
            f"({values[bad[0]]}); leave out what was not scored, and count it apart"
        )
    wrong = np.flatnonzero(~np.isin(given, (0, 1)))
    if len(wrong):
        raise ScoresError(
            f"label number {wrong[0]} is {given[wrong[0]]!r}; 0 (real) and 1 (fake) were expected. "
            "Leave out what has no label."
        )
    return given.astype(np.int8), values


def require_probabilities(scores: Array) -> None:
    """Check that scores are in 0..1.

    Raises:
        ScoresError: one is not.
    """
    low, high = float(scores.min()), float(scores.max())
    if low < 0 or high > 1:
        raise ScoresError(
            f"scores run from {low:g} to {high:g}; probabilities in 0..1 were expected. Logits "
            "have a ranking (AUC, EER), but no Brier score, calibration error or log loss."
        )
