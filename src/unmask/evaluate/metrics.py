"""The metrics as functions of labels (0 real, 1 fake) and scores (P(fake)).

Equal scores stand and fall together. Rank metrics (AUC, average precision, EER, TPR at FPR,
partial AUC) take any finite scores; Brier, ECE and log loss want probabilities in 0..1. Formulas
and sources are in :mod:`unmask.evaluate.weighted`.

All raise :class:`~unmask.errors.ScoresError` for labels and scores that do not fit together, and
:class:`~unmask.errors.MetricUndefined` where a class is missing that the metric needs.
"""

from __future__ import annotations

import numpy.typing as npt

from unmask.evaluate import weighted
from unmask.evaluate.counts import rank

__all__ = [
    "accuracy",
    "auc",
    "average_precision",
    "balanced_accuracy",
    "brier",
    "ece",
    "eer",
    "eer_nearest",
    "false_positive_rate",
    "log_loss",
    "partial_auc",
    "tpr_at_fpr",
    "true_positive_rate",
]


def auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """The probability that a fake scores above a real, ties counting half; 0..1.

    >>> auc([0, 0, 1, 1], [0.1, 0.6, 0.6, 0.9])
    0.875
    """
    return weighted.auc(rank(labels, scores).counts())


def average_precision(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Precision averaged over the gains in recall, without interpolation; 0..1."""
    return weighted.average_precision(rank(labels, scores).counts())


def eer(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """The error rate where FPR = FNR, interpolated on the ROC curve; 0..1."""
    return weighted.eer(rank(labels, scores).counts())


def eer_nearest(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """The EER by DeepfakeBench's rule: FPR at the curve's first point of least |FNR - FPR|."""
    return weighted.eer_nearest(rank(labels, scores).counts())


def accuracy(labels: npt.ArrayLike, scores: npt.ArrayLike, threshold: float) -> float:
    """The share of right answers where ``score >= threshold`` is fake; 0..1, also for one class."""
    return weighted.accuracy(rank(labels, scores).counts(), threshold)


def balanced_accuracy(labels: npt.ArrayLike, scores: npt.ArrayLike, threshold: float) -> float:
    """Accuracy among reals and among fakes, averaged; ``score >= threshold`` is fake; 0..1."""
    return weighted.balanced_accuracy(rank(labels, scores).counts(), threshold)


def false_positive_rate(labels: npt.ArrayLike, scores: npt.ArrayLike, threshold: float) -> float:
    """The share of reals with ``score >= threshold``; needs no fakes."""
    return weighted.false_positive_rate(rank(labels, scores).counts(), threshold)


def true_positive_rate(labels: npt.ArrayLike, scores: npt.ArrayLike, threshold: float) -> float:
    """The share of fakes with ``score >= threshold``; needs no reals."""
    return weighted.true_positive_rate(rank(labels, scores).counts(), threshold)


def tpr_at_fpr(labels: npt.ArrayLike, scores: npt.ArrayLike, fpr: float) -> float:
    """The largest TPR of a threshold whose FPR does not exceed ``fpr``; no interpolation.

    The threshold is chosen on these very scores: it says how well the classes separate, not
    what a threshold chosen elsewhere will do.
    """
    return weighted.tpr_at_fpr(rank(labels, scores).counts(), fpr)


def partial_auc(labels: npt.ArrayLike, scores: npt.ArrayLike, max_fpr: float) -> float:
    """The area under the ROC curve up to ``max_fpr``, by McClish's scale: chance 1/2, best 1."""
    return weighted.partial_auc(rank(labels, scores).counts(), max_fpr)


def brier(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """The mean squared difference between P(fake) and the label; 0 is best."""
    return weighted.brier(rank(labels, scores).counts())


def ece(labels: npt.ArrayLike, scores: npt.ArrayLike, bins: int = 15) -> float:
    """Expected calibration error of P(fake) over bins of equal width; 0 is best."""
    return weighted.ece(rank(labels, scores).counts(), bins)


def log_loss(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """The mean negative log probability of the label, in nats; 0 is best."""
    return weighted.log_loss(rank(labels, scores).counts())
