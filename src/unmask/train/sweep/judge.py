"""How many heads do at once on the same samples, how sure that is, and how optimistic."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unmask.errors import ConfigError
from unmask.evaluate.intervals import Interval, percentile_interval, resampled_metrics
from unmask.evaluate.weighted import auc
from unmask.train.data import unit
from unmask.types import Sample

__all__ = ["FOLDS", "REPEATS", "Judged", "Line", "Units", "cross_fit", "intervals", "units_of"]

FOLDS = 5
REPEATS = 10

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A data set with both classes, or those of one class together, as in a validation table."""

    name: str
    datasets: frozenset[str]
    where: Places
    """Its units."""
    n_real: int
    n_fake: int
    by_video: bool


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """What counts once among the samples: a video, or a picture that belongs to none."""

    unit_of: Places
    """``(N,)``: the unit of each sample."""
    labels: npt.NDArray[np.int64]
    """``(U,)``."""
    groups: tuple[str, ...]
    """``(U,)``: what must stay together."""
    datasets: tuple[str, ...]
    """``(U,)``."""
    lines: tuple[Line, ...]

    def means(self, logits: Array) -> Array:
        """The mean logit of each unit, ``(U, K)``, of logits ``(N, K)``."""
        sums = np.zeros((len(self.labels), logits.shape[1]))
        np.add.at(sums, self.unit_of, logits)
        result: Array = sums / np.bincount(self.unit_of, minlength=len(sums))[:, None]
        return result

    def aucs(self, scores: Array, kept: npt.NDArray[np.bool_] | None = None) -> Array:
        """AUC per line and head, ``(lines, K)``; NaN where a class is missing.

        Args:
            scores: Of the units, ``(U, K)``.
            kept: ``(U,)`` which units count; all by default.
        """
        found = np.full((len(self.lines), scores.shape[1]), np.nan)
        for number, line in enumerate(self.lines):
            where = line.where if kept is None else line.where[kept[line.where]]
            found[number] = _aucs(self.labels[where], scores[where])
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Heads on one part of the data: its units, and their scores ``(U, K)``."""

    units: Units
    scores: Array


def units_of(samples: Sequence[Sample]) -> Units:
    """The units, and the lines of :func:`unmask.train.probe.validate`.

    Raises:
        ConfigError: no data set has both classes, nor have those of one class together.
    """
    numbers: dict[str, int] = {}
    unit_of = np.array([numbers.setdefault(unit(each), len(numbers)) for each in samples])
    _, firsts = np.unique(unit_of, return_index=True)
    first = [samples[index] for index in firsts.tolist()]
    labels = np.array([each.label for each in first])
    lines = _lines(first, labels)
    if not lines:
        raise ConfigError(
            f"all {len(samples)} samples to judge by are of one class; an AUC needs real and fake"
        )
    groups = tuple(_group(each) for each in first)
    return Units(unit_of, labels, groups, tuple(each.dataset or "data" for each in first), lines)


def _lines(first: Sequence[Sample], labels: npt.NDArray[np.int64]) -> tuple[Line, ...]:
    names = np.array([each.dataset or "data" for each in first])
    both = [name for name in sorted(set(names)) if len(set(labels[names == name])) == 2]
    alone = sorted(set(names) - set(both))
    parts = [(name, [name]) for name in both]
    if len(set(labels[np.isin(names, alone)])) == 2:
        parts.append((" + ".join(alone), alone))
    lines = []
    for name, members in parts:
        where = np.flatnonzero(np.isin(names, members))
        n_fake = int(labels[where].sum())
        by_video = any(first[index].video for index in where.tolist())
        lines.append(
            Line(str(name), frozenset(members), where, len(where) - n_fake, n_fake, by_video)
        )
    return tuple(lines)


def _group(sample: Sample) -> str:
    return f"{sample.dataset}/{sample.group or sample.video or sample.path}"


def _aucs(labels: npt.NDArray[np.int64], scores: Array) -> Array:
    """By the rank sum of the fakes (Mann and Whitney 1947), ``(K,)``; ties count half."""
    from scipy.stats import rankdata

    n_fake = int(labels.sum())
    n_real = len(labels) - n_fake
    if not n_fake or not n_real:
        return np.full(scores.shape[1], np.nan)
    ranks = rankdata(scores, axis=0)[labels == 1].sum(0)
    result: Array = (ranks - n_fake * (n_fake + 1) / 2) / (n_real * n_fake)
    return result


def intervals(judged: Judged, head: int, *, seed: int) -> tuple[Interval, tuple[Interval, ...]]:
    """The mean AUC of one head with its 95 % interval, and that of each line.

    Groups are resampled, 1000 times, line by line. Nothing is known where a class of a line comes
    from one group only: its bounds, and those of the mean, are NaN.
    """
    units, scores = judged.units, judged.scores[:, head]
    codes = np.unique(units.groups, return_inverse=True)[1]
    drawn, alone, values = [], [], units.aucs(scores[:, None])[:, 0]
    for number, line in enumerate(units.lines):
        labels, groups = units.labels[line.where], codes[line.where]
        enough = min(len(set(groups[labels == label])) for label in (0, 1)) >= 2
        found = np.full(1000, np.nan)
        if enough:
            seeds = [seed, number]
            found = resampled_metrics(
                labels, scores[line.where], groups, {"auc": auc}, n=1000, seed=seeds
            )["auc"]
        drawn.append(found)
        alone.append(percentile_interval(float(values[number]), found))
    return percentile_interval(float(values.mean()), np.mean(drawn, axis=0)), tuple(alone)


def cross_fit(inputs: Sequence[Sequence[Judged]], *, seed: int) -> float | None:
    """What choosing gives on groups that were not chosen on.

    The groups of the validation part fall into five folds, alike in each data set and class; the
    best head by the other four folds is measured on the fifth. The mean over folds, per line, and
    over ten divisions. The heads themselves learnt from the training part only, so that nothing
    needs to be fitted again.

    Args:
        inputs: For each input the parts that its heads are judged by (pictures as they are, and
            altered copies); the heads of all inputs are candidates.
        seed: Of the divisions.

    Returns:
        The mean AUC, or None where no fold has both classes of any line.
    """
    strata = _strata(inputs)
    found: dict[tuple[int, str], list[float]] = defaultdict(list)
    for repeat in range(REPEATS):
        fold_of = _divided(strata, np.random.default_rng([seed, repeat]))
        for fold in range(FOLDS):
            _one_fold(inputs, fold_of, fold, found)
    parts: dict[int, list[float]] = defaultdict(list)
    for (part, _), values in found.items():
        parts[part].append(float(np.mean(values)))
    return float(np.mean([np.mean(each) for each in parts.values()])) if parts else None


def _one_fold(
    inputs: Sequence[Sequence[Judged]],
    fold_of: Mapping[str, int],
    fold: int,
    found: dict[tuple[int, str], list[float]],
) -> None:
    best, chosen = -math.inf, (0, 0)
    folds = [
        [np.array([fold_of[group] for group in each.units.groups]) for each in parts]
        for parts in inputs
    ]
    for number, parts in enumerate(inputs):
        tables = [
            each.units.aucs(each.scores, of != fold)
            for each, of in zip(parts, folds[number], strict=True)
        ]
        if any(np.isnan(table).all() for table in tables):
            return
        score = np.mean([np.nanmean(table, axis=0) for table in tables], axis=0)
        head = int(np.argmax(score))
        if score[head] > best:
            best, chosen = float(score[head]), (number, head)
    number, head = chosen
    for part, (each, of) in enumerate(zip(inputs[number], folds[number], strict=True)):
        values = each.units.aucs(each.scores[:, [head]], of == fold)[:, 0]
        for line, value in zip(each.units.lines, values, strict=True):
            if not math.isnan(value):
                found[part, line.name].append(float(value))


def _strata(inputs: Sequence[Sequence[Judged]]) -> list[list[str]]:
    """Groups that are of the same data set and classes, so that folds hold a share of each."""
    classes: dict[str, set[int]] = defaultdict(set)
    dataset: dict[str, str] = {}
    for parts in inputs:
        for each in parts:
            for line in each.units.lines:
                for index in line.where:
                    group = each.units.groups[index]
                    classes[group].add(int(each.units.labels[index]))
                    dataset[group] = line.name
            for group in each.units.groups:  # of a data set without a line
                dataset.setdefault(group, "")
    strata: dict[tuple[str, tuple[int, ...]], list[str]] = defaultdict(list)
    for group in sorted(dataset):
        strata[dataset[group], tuple(sorted(classes[group]))].append(group)
    return list(strata.values())


def _divided(strata: Sequence[Sequence[str]], rng: np.random.Generator) -> dict[str, int]:
    fold_of: dict[str, int] = {}
    for groups in strata:
        start = int(rng.integers(FOLDS))
        for place, index in enumerate(rng.permutation(len(groups))):
            fold_of[groups[index]] = (start + place) % FOLDS
    return fold_of
