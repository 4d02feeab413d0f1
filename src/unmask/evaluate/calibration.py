"""Making P(fake) mean what it says: temperature, Platt and isotonic maps, and prior shift.

All of them map logits (positive = fake) to P(fake). The temperature is what a detector stores;
the others are there to compare it with. Chosen and judged on the same data any of them looks too
good: :func:`compare_maps` judges each on groups that it was not fitted to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unmask.errors import ConfigError, MetricUndefined, ScoresError
from unmask.evaluate import metrics
from unmask.evaluate.counts import Array, Labels, checked, require_probabilities

__all__ = [
    "TEMPERATURES",
    "Calibrated",
    "Isotonic",
    "Platt",
    "Shift",
    "compare_maps",
    "estimate_shift",
    "fit_isotonic",
    "fit_platt",
    "fit_temperature",
    "sigmoid",
]

TEMPERATURES = (0.05, 50.0)
"""Where :func:`fit_temperature` searches. Classes that are wholly apart have no best temperature
and end at the lower bound."""


def sigmoid(logits: npt.ArrayLike) -> Array:
    """``1 / (1 + exp(-logits))``, by tanh, which never overflows.

    >>> sigmoid([0.0])
    array([0.5])
    """
    return 0.5 * (1 + np.tanh(np.asarray(logits, dtype=np.float64) / 2))


def fit_temperature(
    logits: npt.ArrayLike, labels: npt.ArrayLike, weights: Array | None = None
) -> float:
    """The temperature with the least log loss of ``sigmoid(logits / temperature)``.

    Guo et al., On Calibration of Modern Neural Networks (ICML 2017), section 4.2. Within
    :data:`TEMPERATURES`; a value at a bound says that the data do not determine it.

    Args:
        logits: ``(N,)``, positive = fake.
        labels: ``(N,)``.
        weights: ``(N,)``, once each by default.

    Raises:
        MetricUndefined: one class only: the best temperature would be 0 or infinite.
        ScoresError: labels and logits do not fit together.
    """
    from scipy.optimize import minimize_scalar

    sound_labels, sound_logits = _both_classes(labels, logits)
    signs = np.where(sound_labels == 1, 1.0, -1.0)

    def loss(log_temperature: float) -> float:
        margins = signs * sound_logits / np.exp(log_temperature)
        return float(np.average(np.logaddexp(0.0, -margins), weights=weights))

    low, high = np.log(TEMPERATURES)
    best = minimize_scalar(loss, bounds=(low, high), method="bounded")
    return float(np.exp(best.x))


@dataclass(frozen=True, slots=True)
class Platt:
    """``P(fake) = sigmoid(a * logit + b)``."""

    a: float
    b: float

    def __call__(self, logits: npt.ArrayLike) -> Array:
        """P(fake) of logits."""
        return sigmoid(self.a * np.asarray(logits, dtype=np.float64) + self.b)


def fit_platt(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Platt:
    """Slope and offset with the least log loss against smoothed labels.

    Platt, Probabilistic Outputs for Support Vector Machines (1999): a fake counts as
    (F + 1) / (F + 2) and a real as 1 / (R + 2), which keeps the slope finite where the classes are
    apart. By Newton's method with step halving.

    Raises:
        MetricUndefined: one class only.
        ScoresError: labels and logits do not fit together.
    """
    sound_labels, sound_logits = _both_classes(labels, logits)
    n_fake = int(sound_labels.sum())
    n_real = len(sound_labels) - n_fake
    targets = np.where(sound_labels == 1, (n_fake + 1) / (n_fake + 2), 1 / (n_real + 2))
    # Logits of unit deviation and mean 0, so that the Newton matrix is well conditioned.
    scale, middle = float(np.std(sound_logits)) or 1.0, float(np.mean(sound_logits))
    inputs = np.stack([(sound_logits - middle) / scale, np.ones(len(sound_logits))])
    found = _logistic(inputs, targets)
    slope = found[0] / scale
    return Platt(float(slope), float(found[1] - slope * middle))


def _logistic(inputs: Array, targets: Array) -> Array:
    """The weights ``(D,)`` of least log loss for inputs ``(D, N)`` and targets ``(N,)`` in 0..1."""

    def loss(weights: Array) -> float:
        z = weights @ inputs
        return float(np.mean(np.logaddexp(0.0, z) - targets * z))

    weights = np.zeros(len(inputs))
    ridge = 1e-12 * np.eye(len(inputs))
    for _ in range(100):
        p = sigmoid(weights @ inputs)
        gradient = inputs @ (p - targets) / len(p)
        if np.abs(gradient).max() < 1e-12:
            break
        step = np.linalg.solve((inputs * (p * (1 - p))) @ inputs.T / len(p) + ridge, gradient)
        share = 1.0
        while loss(weights - share * step) > loss(weights) and share > 1e-6:
            share /= 2
        weights = weights - share * step
    return weights


@dataclass(frozen=True, slots=True, eq=False)
class Isotonic:
    """A rising line through fitted points; level outside of them."""

    logits: Array
    p_fake: Array

    def __call__(self, logits: npt.ArrayLike) -> Array:
        """P(fake) of logits."""
        at = np.asarray(logits, dtype=np.float64)
        result: Array = np.interp(at, self.logits, self.p_fake)
        return result


def fit_isotonic(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Isotonic:
    """The rising function with the least squared error (pool adjacent violators).

    Zadrozny and Elkan, Transforming Classifier Scores into Accurate Multiclass Probability
    Estimates (KDD 2002). It reaches 0 and 1, where one new error costs an unbounded log loss.

    Raises:
        MetricUndefined: one class only.
        ScoresError: labels and logits do not fit together.
    """
    from sklearn.isotonic import IsotonicRegression

    sound_labels, sound_logits = _both_classes(labels, logits)
    model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    model.fit(sound_logits, sound_labels)
    return Isotonic(
        np.asarray(model.X_thresholds_, dtype=np.float64),
        np.asarray(model.y_thresholds_, dtype=np.float64),
    )


@dataclass(frozen=True, slots=True)
class Calibrated:
    """How good P(fake) is by one map, on groups that the map was not fitted to."""

    name: str
    """``none``, ``temperature``, ``platt`` or ``isotonic``."""
    log_loss: float
    ece: float
    brier: float


def compare_maps(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    folds: int = 5,
    seed: int = 0,
) -> tuple[Calibrated, ...]:
    """No map, temperature, Platt and isotonic, cross-validated over groups.

    Groups are dealt to the folds in a seeded order, those with fakes and those without apart, so
    that each fold has its part of both. Each item gets its P(fake) from maps fitted to the other
    folds; the measures are those of all items together.

    Args:
        logits: ``(N,)`` before any temperature.
        labels: ``(N,)``.
        groups: ``(N,)`` what must not be split.
        folds: How many, at least 2.
        seed: Of the dealing.

    Raises:
        MetricUndefined: one class only, or fewer groups of a class than two folds would need.
        ScoresError: labels, logits and groups do not fit together.
        ConfigError: ``folds`` is below 2.
    """
    if folds < 2:
        raise ConfigError(f"folds is {folds}; at least 2 are needed (5 is usual)")
    sound_labels, sound_logits = _both_classes(labels, logits)
    fold_of = _folds(sound_labels, np.asarray(groups), folds, seed)
    maps: dict[str, Callable[[Array, Labels], Callable[[Array], Array]]] = {
        "none": lambda _z, _y: sigmoid,
        "temperature": _temperature_map,
        "platt": fit_platt,
        "isotonic": fit_isotonic,
    }
    found = []
    for name, fit in maps.items():
        p_fake = np.empty(len(sound_logits))
        for fold in range(folds):
            held = fold_of == fold
            p_fake[held] = fit(sound_logits[~held], sound_labels[~held])(sound_logits[held])
        found.append(
            Calibrated(
                name,
                metrics.log_loss(sound_labels, p_fake),
                metrics.ece(sound_labels, p_fake),
                metrics.brier(sound_labels, p_fake),
            )
        )
    return tuple(found)


def _temperature_map(logits: Array, labels: Labels) -> Callable[[Array], Array]:
    temperature = fit_temperature(logits, labels)
    return lambda held: sigmoid(held / temperature)


def _folds(
    labels: Labels, groups: npt.NDArray[np.generic], folds: int, seed: int
) -> npt.NDArray[np.intp]:
    """The fold of each item, ``(N,)``."""
    if groups.shape != labels.shape:
        raise ScoresError(
            f"groups have shape {groups.shape}; one group for each of {len(labels)} items was "
            "expected"
        )
    names, group_of = np.unique(groups, return_inverse=True)
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(names))
    has_fake = np.bincount(group_of, labels) > 0
    has_real = np.bincount(group_of, 1 - labels) > 0
    fold_of_group = np.empty(len(names), dtype=np.intp)
    for kind in (has_fake, ~has_fake):
        dealt = order[kind[order]]
        fold_of_group[dealt] = np.arange(len(dealt)) % folds
    for name, has in (("reals", has_real), ("fakes", has_fake)):
        if len(np.unique(fold_of_group[has])) < 2:
            raise MetricUndefined(
                f"all {name} are in {int(has.sum())} group(s) of one fold, so that a map would be "
                "fitted without them; cross-validation needs two groups or more of each class",
                code="too_few_groups",
            )
    return fold_of_group[group_of]


@dataclass(frozen=True, slots=True)
class Shift:
    """A correction of logits for another share of fakes than was learnt from."""

    bias: float
    """To be added to ``logit / temperature``."""
    prior: float
    """The share of fakes that P(fake) was calibrated for."""
    estimated: float
    """The share found in the scores."""
    limited: bool
    """Whether the guard rail held it back: the assumptions are then most likely wrong."""


def estimate_shift(
    p_fake: npt.ArrayLike, *, prior: float = 0.5, max_bias: float = 2.0, least: int = 200
) -> Shift:
    """The share of fakes that best explains unlabelled scores, and the bias that follows from it.

    Saerens, Latinne and Decaestecker, Adjusting the Outputs of a Classifier to New a Priori
    Probabilities (Neural Computation 2002): their EM steps climb a concave likelihood of the share
    of fakes, whose maximum is found here directly. It holds only if P(fake) is calibrated for
    ``prior`` and nothing but the share of fakes has changed; a new kind of fake or of camera looks
    just like another share. Hence the guard rails, and nothing uses it unless asked to.

    Args:
        p_fake: ``(N,)`` calibrated probabilities of unlabelled items.
        prior: The share of fakes they are calibrated for.
        max_bias: The largest bias either way, in nats; 2 turns odds by a factor of 7.4.
        least: The fewest scores to estimate from.

    Raises:
        MetricUndefined: fewer than ``least`` scores.
        ScoresError: scores that are not finite or not in 0..1.
        ConfigError: ``prior`` is not between 0 and 1, or ``max_bias`` or ``least`` not above 0.
    """
    from scipy.optimize import brentq

    if not 0 < prior < 1 or not max_bias > 0 or least < 1:
        raise ConfigError(
            f"prior is {prior}, max_bias {max_bias}, least {least}; a prior between 0 and 1 and "
            "limits above 0 were expected"
        )
    values = np.asarray(p_fake, dtype=np.float64)
    _, p = checked(np.zeros(values.shape, dtype=np.int8), values)
    require_probabilities(p)
    if len(p) < least:
        raise MetricUndefined(
            f"the share of fakes cannot be told from {len(p)} scores; at least {least} are needed",
            code="too_few_items",
        )
    as_fake, as_real = p / prior, (1 - p) / (1 - prior)  # likelihoods, up to a common factor

    def slope(share: float) -> float:
        return float(np.mean((as_fake - as_real) / (share * as_fake + (1 - share) * as_real)))

    offset = float(np.log(prior / (1 - prior)))
    low, high = (float(sigmoid(offset + bias)) for bias in (-max_bias, max_bias))
    if slope(low) <= 0:
        return Shift(-max_bias, prior, low, limited=True)
    if slope(high) >= 0:
        return Shift(max_bias, prior, high, limited=True)
    share = float(brentq(slope, low, high, xtol=1e-12))
    return Shift(float(np.log(share / (1 - share))) - offset, prior, share, limited=False)


def _both_classes(labels: npt.ArrayLike, logits: npt.ArrayLike) -> tuple[Labels, Array]:
    sound_labels, sound_logits = checked(labels, logits)
    classes = np.unique(sound_labels)
    if len(classes) < 2:
        raise MetricUndefined(
            f"all {len(sound_labels)} items are {'fake' if classes[0] else 'real'}; a calibration "
            "needs both classes. Operating points can be had from reals alone.",
            code="no_reals" if classes[0] else "no_fakes",
        )
    return sound_labels, sound_logits
