"""A linear head on features of a frozen tower: fitting, measuring and calibrating it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from unmask.errors import ConfigError
from unmask.evaluate import calibration, thresholds
from unmask.evaluate.table import rows_hash
from unmask.evaluate.thresholds import least_reals, weighted_quantile
from unmask.train.data import cell_weights, unit
from unmask.train.features import hashes_of
from unmask.types import OperatingPoint, Sample

__all__ = [
    "Fit",
    "Head",
    "Points",
    "Row",
    "Standard",
    "Validation",
    "fit_head",
    "fit_temperature",
    "lda_weights",
    "operating_points",
    "standard_of",
    "validate",
]

Array = npt.NDArray[np.float64]
Fit = Literal["logistic", "lda"]
"""How a head comes about: logistic regression, or a linear discriminant with shrinkage."""

TARGETS = (0.05, 0.01)
"""False-positive rates of the operating points, that of the default one first."""

_WITHOUT_POINTS = (
    "until `unmask calibrate` stores an operating point, P(fake) from 0.5 is called fake and the "
    "rest real: no false-positive rate is known"
)


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """``logit = features @ weight + bias``; standardisation is folded in."""

    weight: Array
    """``(D,)``."""
    bias: float

    def __call__(self, features: npt.NDArray[np.float32]) -> Array:
        """Logits ``(N,)``, positive = fake, of features ``(N, D)``."""
        result: Array = features @ self.weight + self.bias
        return result


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a validation table."""

    dataset: str
    n_real: int
    n_fake: int
    auc: float
    by_video: bool


@dataclass(frozen=True, slots=True)
class Validation:
    """How a head does on the validation part."""

    rows: tuple[Row, ...]
    """Data sets with both classes; those with one class stand together in a last row."""
    recall_at_fpr5: float
    """Share of fakes above the threshold that 5 % of the reals exceed; data sets count alike."""

    @property
    def macro_auc(self) -> float:
        """Mean of the rows' AUC: what candidates are chosen by."""
        return float(np.mean([row.auc for row in self.rows]))


@dataclass(frozen=True, slots=True)
class Points:
    """Operating points, and why others are none."""

    points: tuple[OperatingPoint, ...]
    """May be empty: then the detector calls fake what has a P(fake) of one half."""
    left_out: tuple[str, ...]
    """A sentence for each that is missing."""


@dataclass(frozen=True, slots=True, eq=False)
class Standard:
    """What gives the columns of the training part mean 0 and deviation 1."""

    mean: Array
    """``(D,)``."""
    scale: Array
    """``(D,)``."""

    def __call__(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The features ``(N, D)`` by this mean and deviation."""
        return ((features - self.mean) / self.scale).astype(np.float32)


def standard_of(
    features: npt.NDArray[np.float32], weights: Array, *, common: bool = False
) -> Standard:
    """The weighted mean and deviation of each column of ``(N, D)``.

    Args:
        features: ``(N, D)``.
        weights: ``(N,)``.
        common: Give all columns one deviation, the root of their mean variance.
    """
    mean: Array = np.average(features, axis=0, weights=weights)
    variance: Array = np.average((features - mean) ** 2, axis=0, weights=weights)
    if common:
        variance = np.full_like(variance, variance.mean())
    return Standard(mean, np.sqrt(variance) + 1e-6)


def fit_head(
    features: npt.NDArray[np.float32],
    samples: Sequence[Sample],
    *,
    strength: float,
    fit: Fit = "logistic",
    common: bool = False,
) -> Head:
    """A head on standardised features; classes and data sets count alike.

    Args:
        features: ``(N, D)``.
        samples: ``(N,)``, their labels and data sets.
        strength: Of ``logistic`` scikit-learn's ``C``, the inverse of the L2 penalty; of ``lda``
            the shrinkage.
        fit: Logistic regression, or see :func:`lda_weights`.
        common: As in :func:`standard_of`; the penalty then is on the weights as they are.

    Raises:
        ConfigError: the strength is out of its range.
    """
    weights = cell_weights(samples)
    standard = standard_of(features, weights, common=common)
    columns = standard(features)
    if fit == "lda":
        coefficients, biases = lda_weights(columns, _labels(samples), weights, [strength])
        return _unfolded(coefficients[:, 0], float(biases[0]), standard)
    from sklearn.linear_model import LogisticRegression

    _check_strength(strength)
    model = LogisticRegression(C=strength, max_iter=1000)
    model.fit(columns, [sample.label for sample in samples], sample_weight=weights)
    return _unfolded(model.coef_[0].astype(np.float64), model.intercept_[0], standard)


def _unfolded(coefficients: Array, bias: float, standard: Standard) -> Head:
    weight = coefficients / standard.scale
    return Head(weight, float(bias - standard.mean @ weight))


def _check_strength(strength: float) -> None:
    if not 0 < strength < np.inf:
        raise ConfigError(f"a strength (C) is {strength:g}; it must be above 0 (0.01 is usual)")


def lda_weights(
    columns: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    weights: Array,
    shrinkages: Sequence[float],
) -> tuple[Array, Array]:
    """Linear discriminants ``(D, K)`` and their biases ``(K,)``, one per shrinkage; equal priors.

    With the covariance S within the classes the direction is ``((1 - s) S + s I)^-1 (m1 - m0)``
    (Friedman, Regularized Discriminant Analysis, JASA 1989); one eigendecomposition serves all s.

    Args:
        columns: Standardised features ``(N, D)``.
        labels: ``(N,)`` 0 real, 1 fake.
        weights: ``(N,)``.
        shrinkages: Values of s, ``(K,)``.

    Raises:
        ConfigError: a shrinkage is not above 0 and at most 1.
    """
    for shrinkage in shrinkages:
        if not 0 < shrinkage <= 1:
            raise ConfigError(
                f"a shrinkage is {shrinkage:g}; it must be above 0 and at most 1 (0.1 is usual)"
            )
    means = np.stack(
        [np.average(columns[labels == each], 0, weights[labels == each]) for each in (0, 1)]
    )
    within = (columns - means[labels]).astype(np.float32)
    within *= np.sqrt(weights / weights.sum()).astype(np.float32)[:, None]
    values, vectors = np.linalg.eigh((within.T @ within).astype(np.float64))
    along = vectors.T @ (means[1] - means[0])
    shrunk = np.array(shrinkages)[None]
    directions = vectors @ (
        along[:, None] / ((1 - shrunk) * np.maximum(values, 0)[:, None] + shrunk)
    )
    return directions, -means.mean(0) @ directions


def validate(logits: Array, samples: Sequence[Sample]) -> Validation:
    """AUC per data set, a video counting once by the mean logit of its frames."""
    units: dict[str, list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        units[unit(sample)].append(index)
    first = [samples[indices[0]] for indices in units.values()]
    means = np.array([logits[indices].mean() for indices in units.values()])
    labels = np.array([sample.label for sample in first])
    names = np.array([_dataset(sample) for sample in first])
    both = [name for name in sorted(set(names)) if len(set(labels[names == name])) == 2]
    alone = sorted(set(names) - set(both))
    groups = [(name, names == name) for name in both]
    if len({int(label) for name in alone for label in labels[names == name]}) == 2:
        groups.append((" + ".join(alone), np.isin(names, alone)))
    rows = [_row(name, labels[mask], means[mask], first, mask) for name, mask in groups]
    return Validation(tuple(rows), _recall(means, first, 0.05))


def _row(
    name: str,
    labels: npt.NDArray[np.int64],
    scores: Array,
    units: Sequence[Sample],
    mask: npt.NDArray[np.bool_],
) -> Row:
    from sklearn.metrics import roc_auc_score

    by_video = any(sample.video for sample, taken in zip(units, mask, strict=True) if taken)
    n_fake = int(labels.sum())
    auc = float(roc_auc_score(labels, scores))
    return Row(name, len(labels) - n_fake, n_fake, auc, by_video)


def _dataset(sample: Sample) -> str:
    return sample.dataset or "data"


def _recall(scores: Array, samples: Sequence[Sample], fpr: float) -> float:
    labels = np.array([sample.label for sample in samples])
    weights = cell_weights(samples)
    threshold = weighted_quantile(scores[labels == 0], 1 - fpr, weights[labels == 0])
    caught = scores[labels == 1] > threshold
    return float(np.average(caught, weights=weights[labels == 1]))


def fit_temperature(logits: Array, samples: Sequence[Sample]) -> float:
    """The temperature of the least log loss, classes and data sets counting alike."""
    return calibration.fit_temperature(logits, _labels(samples), cell_weights(samples))


def operating_points(p_fake: Array, samples: Sequence[Sample], *, source: str) -> Points:
    """Thresholds at named error rates on the validation part; the first one is the default.

    ``fpr5`` calls fake what 5 % of the reals reach, and real what 5 % of the fakes stay below;
    ``fpr1`` the same at 1 %; classes and data sets count alike. A rate that the reals cannot
    resolve (:func:`unmask.evaluate.thresholds.least_reals`) is left out with a sentence, as a
    calibration refuses it; it is no reason to stop a training. Each point carries how many samples
    it was chosen on, their data sets, and the hash of their files, labels and data sets, made as
    that of a table of scores.
    """
    labels, weights, hashes = _labels(samples), cell_weights(samples), hashes_of(samples, None)
    real, fake = labels == 0, labels == 1
    n_real = _independent_reals(samples, hashes)
    kept = [target for target in TARGETS if least_reals(target) <= n_real]
    left_out = tuple(_too_few(target, n_real) for target in TARGETS if target not in kept)
    if not kept:
        return Points((), (*left_out, _WITHOUT_POINTS))
    points = thresholds.operating_points(
        p_fake[real],
        p_fake[fake],
        source=source,
        target_fprs=kept,
        real_weights=weights[real],
        fake_weights=weights[fake],
        sha256=_data_hash(samples, hashes),
        datasets=[sample.dataset for sample in samples],
    )
    return Points(points, left_out)


def _independent_reals(samples: Sequence[Sample], hashes: Sequence[str]) -> int:
    """How many reals can be wrong by themselves: groups, or distinct files where fewer."""
    pairs = [pair for pair in zip(samples, hashes, strict=True) if pair[0].label == 0]
    files = {sha256 or str(sample.path) for sample, sha256 in pairs}
    groups = {
        (sample.dataset, sample.group or sample.video or str(sample.path)) for sample, _ in pairs
    }
    return min(len(files), len(groups))


def _too_few(target: float, n_real: int) -> str:
    return (
        f"no operating point at {100 * target:.3g} % false alarms: it needs {least_reals(target)} "
        f"reals for validation (videos, identities, or pictures by themselves), {n_real} are there"
    )


def _data_hash(samples: Sequence[Sample], hashes: Sequence[str]) -> str:
    """Of the files that were judged by; one that is gone counts by its name."""
    return rows_hash(
        (sha256, sample.source, -1 if sample.label is None else sample.label, sample.dataset)
        for sha256, sample in zip(hashes, samples, strict=True)
    )


def _labels(samples: Sequence[Sample]) -> npt.NDArray[np.int64]:
    return np.array([sample.label for sample in samples])
