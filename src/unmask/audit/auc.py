"""The AUC of scores that were predicted fold by fold, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "auc_interval", "fold_auc"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_CELLS = 2_000_000
"""Weights that are held at once: 16 MB."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An AUC (fake above real) with its 95 % interval."""

    auc: float
    low: float
    high: float


def fold_auc(labels: Ints, scores: Floats, folds: Ints) -> float:
    """The share of pairs (a real, a fake of the same fold) in which the fake scores higher.

    Only pairs of one fold are compared, because each fold has a model of its own. Compared across
    folds, features that say nothing would come out below one half: a fold with many fakes is
    scored by a model that saw few of them. Ties count half.

    Args:
        labels: ``(N,)`` 0 real, 1 fake.
        scores: ``(N,)``.
        folds: ``(N,)`` number of the fold, -1 where a sample was not scored.

    Returns:
        0..1; NaN where no fold has both classes.
    """
    better, pairs = _pairs(labels, scores, folds, np.ones((1, len(labels))))
    return float(better[0] / pairs[0]) if pairs[0] else float("nan")


def auc_interval(
    labels: Ints, scores: Floats, folds: Ints, units: Ints, *, n_bootstrap: int, seed: int
) -> Interval:
    """The AUC of :func:`fold_auc` with a 95 % interval by the percentile bootstrap over units.

    Whole units (identities, videos) are drawn with replacement, within their fold; the models are
    not fitted anew, so the interval tells the chance in the data, not that in the training.

    Args:
        labels: As in :func:`fold_auc`.
        scores: As in :func:`fold_auc`.
        folds: As in :func:`fold_auc`; a unit lies in one fold.
        units: ``(N,)`` what is drawn together.
        n_bootstrap: How many draws.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    found: list[Floats] = []
    chunk = max(1, _CELLS // max(1, len(labels)))
    for start in range(0, n_bootstrap, chunk):
        weights = _draws(units, folds, min(chunk, n_bootstrap - start), rng)
        better, pairs = _pairs(labels, scores, folds, weights)
        found.append(better[pairs > 0] / pairs[pairs > 0])
    low, high = np.percentile(np.concatenate(found), [2.5, 97.5])
    return Interval(fold_auc(labels, scores, folds), float(low), float(high))


def _draws(units: Ints, folds: Ints, times: int, rng: np.random.Generator) -> Floats:
    """How often each sample is drawn, ``(times, N)``."""
    weights = np.zeros((times, len(units)))
    for fold in np.unique(folds[folds >= 0]):
        inside = np.flatnonzero(folds == fold)
        _, number = np.unique(units[inside], return_inverse=True)
        n_units = int(number.max()) + 1
        counts = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=times)
        weights[:, inside] = counts[:, number]
    return weights


def _pairs(labels: Ints, scores: Floats, folds: Ints, weights: Floats) -> tuple[Floats, Floats]:
    """Pairs won by the fake, and all pairs, each ``(B,)``, for weights ``(B, N)``."""
    better, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for fold in np.unique(folds[folds >= 0]):
        inside = np.flatnonzero(folds == fold)
        inside = inside[np.argsort(scores[inside], kind="stable")]
        starts = np.flatnonzero(np.r_[True, np.diff(scores[inside]) > 0])  # of equal scores
        fake = np.add.reduceat(weights[:, inside] * labels[inside], starts, axis=1)
        real = np.add.reduceat(weights[:, inside] * (1 - labels[inside]), starts, axis=1)
        below = np.cumsum(real, axis=1) - real
        better += (fake * (below + real / 2)).sum(axis=1)
        pairs += fake.sum(axis=1) * real.sum(axis=1)
    return better, pairs
