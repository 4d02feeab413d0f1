"""Can real and fake be told apart without looking at what the pictures show?

For each group of features a classifier learns the labels and predicts those of pictures that it
has not seen, of other identities. An AUC of 0.5 is chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedGroupKFold

from unmask.audit.auc import auc_interval, fold_auc
from unmask.audit.columns import ALL, GROUPS, THUMBNAIL, TOGETHER, Column
from unmask.audit.contrast import contrast
from unmask.audit.thumbnails import colour_columns, thumbnail_scores

__all__ = ["FEWEST_UNITS", "FeatureScore", "Separability", "Table", "separability"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_FOLDS = 5
FEWEST_UNITS = 10
"""Identities (videos, pictures) of a class below which nothing is said about its separability."""

_BINS = 32
"""Of a single feature: so many quantiles, or its values where there are fewer."""

_PRIOR = 1.0
"""Pictures of the mean rate that each bin gets beside its own, so that rare values say little."""

_SHOWN = 3
"""Features of a group that are named, best first."""

_DRAWS = 200
"""Of the interval of a single feature, which decides whether it is named."""

_SHUFFLES = 5
_LEAST_FALL = 0.02
"""By how much the group's AUC must fall, each time, for a feature that tells nothing alone."""


@dataclass(frozen=True, slots=True)
class FeatureScore:
    """How well one feature alone does, and what of it differs."""

    name: str
    auc: float
    """Of the feature alone, cross-validated like that of the group."""
    low: float
    high: float
    """95 % interval."""
    fall: float | None
    """By how much the group's AUC falls, in the mean, when the feature is shuffled among pictures
    that were not learnt from; next to nothing where another feature says the same. ``None`` for
    thumbnails, which are judged as a whole."""
    contrast: str
    """A clause: ``format: png in 100 % of fakes, 0 % of reals``."""


@dataclass(frozen=True, slots=True)
class Separability:
    """How well one group of features separates the classes of one data set."""

    dataset: str
    """Empty for all together."""
    group: str
    auc: float | None
    """``None`` where it cannot be told; ``reason`` says why."""
    low: float | None = None
    high: float | None = None
    reason: str = ""
    against: str = ""
    """``reals`` or ``fakes`` where the data set lacks that class, and those of others stand in."""
    features: tuple[FeatureScore, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Labelled pictures of one data set, or of all, as a classifier sees them."""

    dataset: str
    labels: Ints
    """``(N,)``"""
    units: Ints
    """``(N,)`` what must not be split: identity, video, or copies of one picture."""
    columns: tuple[Column, ...]
    thumbnails: Floats
    """``(N, 768)``"""
    against: str = ""
    """As in :class:`Separability`."""


def separability(
    table: Table,
    *,
    seed: int,
    n_bootstrap: int,
    advance: Callable[[], None] = lambda: None,
) -> Iterator[Separability]:
    """One answer per group of features, in the order of :data:`~unmask.audit.columns.GROUPS`.

    Args:
        table: The pictures.
        seed: Of the folds, the trees and the bootstrap.
        n_bootstrap: Draws of each interval.
        advance: Called once per group.
    """
    refused = _too_few(table.labels, table.units)
    folds = np.full(len(table.labels), -1) if refused else _folds(table, seed)
    for group in GROUPS:
        if refused:
            yield Separability(table.dataset, group, None, reason=refused, against=table.against)
        elif group == THUMBNAIL:
            yield _of_thumbnails(table, folds, seed, n_bootstrap)
        else:
            names = TOGETHER if group == ALL else {group}
            chosen = [column for column in table.columns if column.group in names]
            yield _of_columns(table, group, chosen, folds, seed, n_bootstrap)
        advance()


def _too_few(labels: Ints, units: Ints) -> str:
    n_units = [len(np.unique(units[labels == label])) for label in (0, 1)]
    for name, count in zip(("real", "fake"), n_units, strict=True):
        if count == 0:
            return f"one class only: nothing is {name}"
    if min(n_units) < FEWEST_UNITS:
        return f"{n_units[0]} real and {n_units[1]} fake units; at least {FEWEST_UNITS} are needed"
    return ""


def _folds(table: Table, seed: int) -> Ints:
    """``(N,)`` number of the fold in which a picture is predicted."""
    folds = np.full(len(table.labels), -1)
    splitter = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    for number, (_, test) in enumerate(splitter.split(folds, table.labels, table.units)):
        folds[test] = number
    return folds


def _of_columns(
    table: Table,
    group: str,
    columns: Sequence[Column],
    folds: Ints,
    seed: int,
    n_bootstrap: int,
) -> Separability:
    varied = [column for column in columns if not _is_constant(column.values)]
    if not varied:  # the same for all: chance, and surely so
        return Separability(table.dataset, group, 0.5, 0.5, 0.5, against=table.against)
    values = np.stack([column.values for column in varied], axis=1)
    categorical = tuple(bool(column.categories) for column in varied)
    models = _fitted(partial(_trees, categorical=categorical, seed=seed), values, table, folds)
    scores = _predicted(models, values, folds)
    falls = _falls(models, values, table.labels, folds, seed)
    return _answer(
        table, group, scores, folds, _named(varied, falls, table, folds), n_bootstrap, seed
    )


def _trees(
    values: Floats, labels: Ints, *, categorical: tuple[bool, ...], seed: int
) -> Callable[[Floats], Floats]:
    """Gradient-boosted trees; few leaves, and several pictures in each even of a small set."""
    trees = HistGradientBoostingClassifier(
        max_iter=50,
        max_leaf_nodes=15,
        min_samples_leaf=max(2, min(20, len(values) // 20)),
        categorical_features=list(categorical),
        early_stopping=False,
        random_state=seed,
    )
    trees.fit(values, labels)
    return lambda unseen: np.asarray(trees.predict_proba(unseen)[:, 1], np.float64)


def _is_constant(values: Floats) -> bool:
    return bool(np.isnan(values).all() or (values == values[0]).all())


def _of_thumbnails(table: Table, folds: Ints, seed: int, n_bootstrap: int) -> Separability:
    models = _fitted(
        lambda values, labels: partial(thumbnail_scores, values, labels),
        table.thumbnails,
        table,
        folds,
    )
    scores = _predicted(models, table.thumbnails, folds)
    colours = colour_columns(table.thumbnails)
    features = _named(colours, [None] * len(colours), table, folds)
    return _answer(table, THUMBNAIL, scores, folds, features, n_bootstrap, seed)


def _answer(
    table: Table,
    group: str,
    scores: Floats,
    folds: Ints,
    features: tuple[FeatureScore, ...],
    n_bootstrap: int,
    seed: int,
) -> Separability:
    found = auc_interval(
        table.labels, scores, folds, table.units, n_bootstrap=n_bootstrap, seed=seed
    )
    return Separability(
        table.dataset,
        group,
        found.auc,
        found.low,
        found.high,
        against=table.against,
        features=features,
    )


def _fitted(
    fit: Callable[[Floats, Ints], Callable[[Floats], Floats]],
    values: Floats,
    table: Table,
    folds: Ints,
) -> list[Callable[[Floats], Floats]]:
    """A model for each fold, which learnt from the others."""
    return [fit(values[folds != fold], table.labels[folds != fold]) for fold in np.unique(folds)]


def _predicted(models: Sequence[Callable[[Floats], Floats]], values: Floats, folds: Ints) -> Floats:
    """``(N,)`` scores of each fold by the model that did not see it."""
    scores = np.zeros(len(values))
    for fold, model in zip(np.unique(folds), models, strict=True):
        scores[folds == fold] = model(values[folds == fold])
    return scores


def _falls(
    models: Sequence[Callable[[Floats], Floats]],
    values: Floats,
    labels: Ints,
    folds: Ints,
    seed: int,
) -> list[float]:
    """By how much the AUC falls with each feature shuffled; 0 where it does not each time.

    Breiman, Random Forests (Machine Learning 2001), section 10; on pictures not learnt from.
    """
    rng = np.random.default_rng(seed)
    columns = values.shape[1]
    mixed = np.zeros((columns, _SHUFFLES, len(values)))  # scores
    for fold, model in zip(np.unique(folds), models, strict=True):
        inside = np.flatnonzero(folds == fold)
        copies = np.tile(values[inside], (columns, _SHUFFLES, 1, 1))
        for column in range(columns):
            for copy in copies[column]:
                copy[:, column] = rng.permutation(copy[:, column])
        scores = model(copies.reshape(-1, columns))  # at once: a call costs more than its rows
        mixed[:, :, inside] = scores.reshape(columns, _SHUFFLES, -1)
    whole = fold_auc(labels, _predicted(models, values, folds), folds)
    found = np.array([[whole - fold_auc(labels, each, folds) for each in row] for row in mixed])
    return [float(each.mean()) if each.min() > 0 else 0.0 for each in found]


def _named(
    columns: Sequence[Column], falls: Sequence[float | None], table: Table, folds: Ints
) -> tuple[FeatureScore, ...]:
    """The features that separate, best first: alone, or without which the group does not.

    One whose interval reaches down to chance tells nothing alone, whatever its AUC.
    """
    scored = [(each, _rates(each, table.labels, folds)) for each in columns]
    found = []
    for (column, scores), fall in zip(scored, falls, strict=True):
        auc = fold_auc(table.labels, scores, folds)
        adds = fall is not None and fall >= _LEAST_FALL
        if auc <= 0.5 and not adds:
            continue
        alone = auc_interval(table.labels, scores, folds, table.units, n_bootstrap=_DRAWS, seed=0)
        if alone.low > 0.5:
            text = contrast(column, table.labels)
        elif adds:
            text = f"{column.name}: only together with other features"
        else:
            continue
        found.append(FeatureScore(column.name, alone.auc, alone.low, alone.high, fall, text))
    return tuple(sorted(found, key=_weight, reverse=True)[:_SHOWN])


def _weight(feature: FeatureScore) -> float:
    return max(feature.auc - 0.5 if feature.low > 0.5 else 0.0, feature.fall or 0.0)


def _rates(column: Column, labels: Ints, folds: Ints) -> Floats:
    """``(N,)`` share of fakes among the pictures of other folds with (about) the same value."""
    bins = _binned(column.values)
    n_bins = int(bins.max()) + 1
    scores = np.zeros(len(labels))
    for fold in np.unique(folds):
        test = folds == fold
        all_of = np.bincount(bins[~test], minlength=n_bins)
        fakes = np.bincount(bins[~test], weights=labels[~test], minlength=n_bins)
        mean = labels[~test].mean()
        scores[test] = ((fakes + _PRIOR * mean) / (all_of + _PRIOR))[bins[test]]
    return scores


def _binned(values: Floats) -> Ints:
    """``(N,)`` the bin of each value; NaN has one of its own."""
    missing = np.isnan(values)
    known = values[~missing]
    bins = np.zeros(len(values), np.int64)
    if len(known):
        distinct, number = np.unique(known, return_inverse=True)
        if len(distinct) > _BINS:
            edges = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1]))
            number = np.searchsorted(edges, known, side="right")
        bins[~missing] = number + 1
    return bins
