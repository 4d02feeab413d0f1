"""The metrics, as functions of :class:`~unmask.evaluate.counts.Counts`; formulas and sources.

:mod:`unmask.evaluate.metrics` has them as functions of labels and scores. Everywhere fake is the
positive class, and a score at or above a threshold is called fake.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from unmask.errors import ConfigError, MetricUndefined
from unmask.evaluate.counts import Array, Counts, require_probabilities

__all__ = [
    "Metric",
    "accuracy",
    "auc",
    "average_precision",
    "balanced_accuracy",
    "brier",
    "calibration_bins",
    "default_metrics",
    "ece",
    "eer",
    "eer_nearest",
    "false_positive_rate",
    "kept_steps",
    "log_loss",
    "partial_auc",
    "rates",
    "tpr_at_fpr",
    "true_positive_rate",
]

Metric = Callable[[Counts], float]
"""Raises :class:`MetricUndefined` where the counts give it no value."""


def default_metrics(threshold: float) -> dict[str, Metric]:
    """The metrics of a table by name, those of a decision at this threshold on P(fake)."""
    return {
        "auc": auc,
        "average_precision": average_precision,
        "eer": eer,
        "tpr_at_fpr_1": partial(tpr_at_fpr, fpr=0.01),
        "tpr_at_fpr_5": partial(tpr_at_fpr, fpr=0.05),
        "partial_auc_10": partial(partial_auc, max_fpr=0.1),
        "accuracy": partial(accuracy, threshold=threshold),
        "balanced_accuracy": partial(balanced_accuracy, threshold=threshold),
        "false_positive_rate": partial(false_positive_rate, threshold=threshold),
        "true_positive_rate": partial(true_positive_rate, threshold=threshold),
        "brier": brier,
        "ece": ece,
        "log_loss": log_loss,
    }


def auc(counts: Counts) -> float:
    """The probability that a fake scores above a real, ties counting half."""
    _both_classes(counts, "AUC")
    pairs = _dot(counts.reals, counts.caught - counts.fakes / 2)
    return pairs / (counts.n_real * counts.n_fake)


def average_precision(counts: Counts) -> float:
    """The sum over thresholds of precision times the gain in recall; no interpolation."""
    _both_classes(counts, "average precision")
    called = counts.caught + counts.false_alarms
    # In a resample the highest scores may count zero times: no call, no gain.
    precision = np.divide(counts.caught, called, out=np.zeros_like(called), where=called > 0)
    return _dot(counts.fakes, precision) / counts.n_fake


def rates(counts: Counts) -> tuple[Array, Array]:
    """False and true positive rate at each score, ``(M + 1,)``, from the corner (0, 0) on."""
    _both_classes(counts, "the ROC curve")
    fpr = np.concatenate([[0.0], counts.false_alarms / counts.n_real])
    tpr = np.concatenate([[0.0], counts.caught / counts.n_fake])
    return fpr, tpr


def kept_steps(counts: Counts) -> npt.NDArray[np.intp]:
    """The scores at which scikit-learn's ``roc_curve`` keeps a point.

    It leaves out a score where both counts grow by the same amounts before and after it, which
    moves no line of the plot, but does move a rule that looks at points only.
    """
    present = np.flatnonzero(counts.reals + counts.fakes)
    if len(present) <= 2:
        return present
    bends = np.diff(counts.false_alarms[present], 2) != 0
    bends |= np.diff(counts.caught[present], 2) != 0
    kept: npt.NDArray[np.intp] = present[np.concatenate([[True], bends, [True]])]
    return kept


def eer(counts: Counts) -> float:
    """The error rate where FPR = FNR, on straight lines between the points of the ROC curve."""
    _both_classes(counts, "EER")
    fpr, tpr = rates(counts)
    excess = 1 - tpr - fpr  # falls from 1 to -1
    after = int(np.argmax(excess <= 0))
    before = after - 1
    share = excess[before] / (excess[before] - excess[after])
    return float(fpr[before] + share * (fpr[after] - fpr[before]))


def eer_nearest(counts: Counts) -> float:
    """FPR at the point of the ROC curve with the least ``|FNR - FPR|``, the first on ties.

    The rule of the DeepfakeBench code; points are those that :func:`kept_steps` keeps.
    """
    _both_classes(counts, "EER")
    kept = kept_steps(counts)
    fpr = np.concatenate([[0.0], counts.false_alarms[kept] / counts.n_real])
    tpr = np.concatenate([[0.0], counts.caught[kept] / counts.n_fake])
    return float(fpr[np.argmin(np.abs(1 - tpr - fpr))])


def tpr_at_fpr(counts: Counts, fpr: float) -> float:
    """The largest TPR of a threshold whose FPR does not exceed ``fpr``; no interpolation."""
    _check_rate("fpr", fpr)
    _both_classes(counts, f"TPR at FPR {fpr:g}")
    # Quotients are compared, not counts with fpr * n_real: 0.07 * 100 is above 7 in floats.
    allowed = int(np.searchsorted(counts.false_alarms / counts.n_real, fpr, side="right"))
    return 0.0 if allowed == 0 else float(counts.caught[allowed - 1] / counts.n_fake)


def partial_auc(counts: Counts, max_fpr: float) -> float:
    """The area under the ROC curve up to ``max_fpr``, scaled so that chance is 1/2 and best 1.

    McClish, Analyzing a Portion of the ROC Curve (Medical Decision Making 1989).
    """
    _check_rate("max_fpr", max_fpr)
    if max_fpr == 0:
        raise ConfigError("max_fpr is 0; it must be above 0, since no area lies there")
    fpr, tpr = rates(counts)
    stop = int(np.searchsorted(fpr, max_fpr, side="right"))
    if stop < len(fpr):
        share = (max_fpr - fpr[stop - 1]) / (fpr[stop] - fpr[stop - 1])
        end = tpr[stop - 1] + share * (tpr[stop] - tpr[stop - 1])
        fpr, tpr = np.append(fpr[:stop], max_fpr), np.append(tpr[:stop], end)
    chance, best = max_fpr**2 / 2, max_fpr
    return float(0.5 * (1 + (np.trapezoid(tpr, fpr) - chance) / (best - chance)))


def accuracy(counts: Counts, threshold: float) -> float:
    """The share of right answers; also for one class."""
    false_alarms, caught = counts.at(threshold)
    right = counts.n_real - false_alarms + caught
    return right / (counts.n_real + counts.n_fake)


def balanced_accuracy(counts: Counts, threshold: float) -> float:
    """The mean of the shares of right answers among the reals and among the fakes."""
    _both_classes(counts, "balanced accuracy")
    false_alarms, caught = counts.at(threshold)
    return (1 - false_alarms / counts.n_real + caught / counts.n_fake) / 2


def false_positive_rate(counts: Counts, threshold: float) -> float:
    """The share of reals called fake; needs no fakes."""
    _has(counts.n_real, "reals", "the false positive rate")
    return counts.at(threshold)[0] / counts.n_real


def true_positive_rate(counts: Counts, threshold: float) -> float:
    """The share of fakes called fake; needs no reals."""
    _has(counts.n_fake, "fakes", "the true positive rate")
    return counts.at(threshold)[1] / counts.n_fake


def brier(counts: Counts) -> float:
    """The mean squared difference between P(fake) and the label."""
    require_probabilities(counts.scores)
    loss = _dot(counts.reals, counts.scores**2) + _dot(counts.fakes, (1 - counts.scores) ** 2)
    return loss / (counts.n_real + counts.n_fake)


def ece(counts: Counts, bins: int = 15) -> float:
    """Expected calibration error: how far the share of fakes lies from P(fake), on average.

    Bins of equal width over 0..1; bin k holds ``k/bins <= p < (k+1)/bins``, the last also 1.
    Naeini et al., Obtaining Well Calibrated Probabilities (AAAI 2015), for P(fake) rather than
    for the probability of the answer; 15 bins as in Guo et al. (ICML 2017).
    """
    _, mean, share, count = calibration_bins(counts, bins)
    filled = count > 0
    gaps = np.abs(mean[filled] - share[filled])
    return float(gaps @ count[filled] / count.sum())


def calibration_bins(counts: Counts, bins: int) -> tuple[Array, Array, Array, Array]:
    """Edges ``(bins + 1,)``; mean P(fake), share of fakes and count of each bin, ``(bins,)``.

    Mean and share are NaN in a bin without scores.
    """
    if bins < 1:
        raise ConfigError(f"bins is {bins}; at least 1 is needed (15 is usual)")
    require_probabilities(counts.scores)
    edges = np.arange(bins + 1) / bins
    # Scores descend, so that bin k is what stands between two places: ends[k + 1] to ends[k].
    ends = len(counts.scores) - np.searchsorted(counts.scores[::-1], edges)
    ends[bins] = 0
    places = [slice(ends[k + 1], ends[k]) for k in range(bins)]
    both = counts.reals + counts.fakes
    count: Array = np.array([both[place].sum() for place in places])
    mean, share = np.full((2, bins), np.nan)
    sums = [_dot(both[place], counts.scores[place]) for place in places]
    fakes = [counts.fakes[place].sum() for place in places]
    np.divide(sums, count, out=mean, where=count > 0)
    np.divide(fakes, count, out=share, where=count > 0)
    return edges, mean, share, count


def log_loss(counts: Counts) -> float:
    """Mean negative log probability of the label, in nats.

    P(fake) is kept a float64 epsilon (2.2e-16) away from 0 and 1, as scikit-learn does.
    """
    require_probabilities(counts.scores)
    epsilon = np.finfo(np.float64).eps
    p_fake = np.clip(counts.scores, epsilon, 1 - epsilon)
    loss = _dot(counts.fakes, np.log(p_fake)) + _dot(counts.reals, np.log1p(-p_fake))
    return -loss / (counts.n_real + counts.n_fake)


def _dot(one: Array, other: Array) -> float:
    """The sum of products, by one thread.

    BLAS (``@``) shares such a sum among all cores: its last digits then depend on how many there
    are, and on busy ones the threads wait for each other most of the time.
    """
    return float(np.einsum("i,i->", one, other))


def _both_classes(counts: Counts, metric: str) -> None:
    _has(counts.n_real, "reals", metric)
    _has(counts.n_fake, "fakes", metric)


def _has(count: float, which: str, metric: str) -> None:
    if count == 0:
        raise MetricUndefined(
            f"{metric} needs {which}, and the data have none",
            code="no_reals" if which == "reals" else "no_fakes",
        )


def _check_rate(name: str, rate: float) -> None:
    if not 0 <= rate <= 1:
        raise ConfigError(f"{name} is {rate}; a rate between 0 and 1 was expected (0.01 is 1 %)")
