"""From a table of scores to an evaluation; no model, no picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from unmask.errors import ConfigError, near_names
from unmask.evaluate import published_rows
from unmask.evaluate.agreement import noted
from unmask.evaluate.evaluation import Curves, Evaluation, Protocol, Row, Threshold
from unmask.evaluate.figures import MOST_DRAWN, curves_of
from unmask.evaluate.mistakes import mistakes, not_scored
from unmask.evaluate.repeats import repeated
from unmask.evaluate.rows import Drawn, draw, few, mean_row, row, seed_of
from unmask.evaluate.slices import default_columns, slices, worst_slice
from unmask.evaluate.table import Meta, Scores, Texts, by_dataset, data_hash, select, texts
from unmask.evaluate.thresholds import chosen_on
from unmask.evaluate.units import Missing, Units, units_of
from unmask.evaluate.videos import How
from unmask.evaluate.weighted import default_metrics
from unmask.types import DetectorRef

__all__ = ["Choices", "joined_datasets", "summarise", "threshold_of"]


_POOLED = "pooled: the score also tells the data sets apart, so read the others first"


@dataclass(frozen=True, slots=True)
class Choices:
    """How scores become numbers."""

    protocol: Protocol = "unmask"
    how: How = "mean"
    """From frames to videos."""
    k: int = 3
    """For ``top-k``."""
    missing: Missing = "exclude"
    bootstraps: int = 1000
    """0 for no intervals."""
    seed: int = 0
    joins: tuple[tuple[str, ...], ...] = ()
    """Data sets that are measured as one."""
    columns: tuple[str, ...] = ()
    """To slice by, beside the usual ones."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """For the record."""

    @property
    def aggregation(self) -> str:
        """From frames to videos, in words."""
        return f"top-{self.k}" if self.how == "top-k" else self.how


def threshold_of(meta: Meta, fixed: float | None = None) -> Threshold:
    """The threshold that decisions are measured at: the number given, else the detector's own.

    Nothing is ever chosen on the scores that are measured.

    Raises:
        ConfigError: the table does not hold one, since it was joined from different ones.
    """
    if fixed is not None:
        return Threshold(fixed, "fixed")
    point = meta.operating_point
    if point is None:
        raise ConfigError(
            "these scores were judged at different operating points; give one threshold on P(fake) "
            "by --threshold"
        )
    if point.source == "fixed":
        return Threshold(point.fake_at, "fixed")
    counted = "" if point.n_real is None else f" ({point.n_real} reals)"
    words = f"operating point {point.name}, from {point.source}{counted}"
    return Threshold(point.fake_at, words, point.real_below)


def summarise(
    scores: Scores,
    threshold: Threshold,
    choices: Choices,
    *,
    command: str = "",
    thumbnail: Callable[[Path], str] | None = None,
) -> Evaluation:
    """Everything that is measured from one table of scores.

    Args:
        scores: Of one detector.
        threshold: As :func:`threshold_of` gives it; the protocol ``deepfakebench`` has its own.
        choices: How.
        command: What was called, for the record.
        thumbnail: Makes ``data:`` URLs of the most confident errors; None for none.

    Raises:
        ConfigError: a data set to join or a column to slice by that is not there.
        ScoresError: a video with frames of both labels.
    """
    whole = joined_datasets(scores, choices.joins)
    curves: tuple[Curves, ...] = ()
    notes = _notes(scores, whole, choices)
    if choices.protocol == "deepfakebench":
        # That protocol calls fake what is above one half, not at it.
        threshold = Threshold(float(np.nextafter(0.5, 1)), "above 0.5, as the protocol has it")
        rows = published_rows.published_rows(whole)
        notes += published_rows.NOTES
    else:
        rows, curves = _measured(whole, threshold, choices)
        notes += _about_threshold(threshold, scores)
    columns = dict.fromkeys([*default_columns(scores), *choices.columns])
    found = slices(scores, columns, threshold.value)
    return Evaluation(
        detector=DetectorRef(
            scores.meta.detector, scores.meta.detector_sha256, scores.meta.trained
        ),
        threshold=threshold,
        protocol=choices.protocol,
        aggregation=choices.aggregation,
        command=command,
        seed=choices.seed,
        bootstraps=choices.bootstraps if choices.protocol == "unmask" else 0,
        data={name: data_hash(part) for name, part in by_dataset(scores).items()},
        versions=scores.meta.versions,
        rows=rows,
        curves=curves,
        slices=found,
        worst_slice=worst_slice(found),
        errors=mistakes(scores, threshold, thumbnail=thumbnail),
        missing=not_scored(scores),
        notes=notes,
        settings={"preprocessing": scores.meta.preprocessing, **choices.settings},
    )


def joined_datasets(scores: Scores, joins: Sequence[Sequence[str]]) -> Scores:
    """The table with some data sets named as one, ``a+b``.

    Raises:
        ConfigError: a data set that is not there, or one that is joined twice.
    """
    names = list(dict.fromkeys(scores.dataset.tolist()))
    to: dict[str, str] = {}
    for join in joins:
        for name in join:
            if name not in names:
                raise ConfigError(f"no data set {name!r} to join. {near_names(name, names)}")
            if name in to:
                raise ConfigError(f"the data set {name!r} is joined twice; give it once")
            to[name] = "+".join(join)
    if not to:
        return scores
    return replace(scores, dataset=texts(to.get(name, name) for name in scores.dataset))


def _measured(
    scores: Scores, threshold: Threshold, choices: Choices
) -> tuple[tuple[Row, ...], tuple[Curves, ...]]:
    """The rows of data sets, their mean, all items and generators, and the curves of the first."""
    metrics = default_metrics(threshold.value)
    n = choices.bootstraps

    def units(part: Scores) -> list[Units]:
        return units_of(part, choices.how, k=choices.k, missing=choices.missing)

    def drawn(found: Sequence[Units]) -> list[tuple[Units, Drawn]]:
        return [
            (each, draw(each, metrics, n=n, seed=seed_of(choices.seed, each))) for each in found
        ]

    parts = by_dataset(scores)
    sets = {name: drawn(units(part)) for name, part in parts.items()}
    two = {name for name, part in parts.items() if {0, 1} <= set(part.label.tolist())}
    rows = [
        row(name, "dataset", *pair, notes=_class_note(pair[0], name in two), threshold=threshold)
        for name, pairs in sets.items()
        for pair in pairs
    ]
    shown = {name: sets[name][-1][0] for name in _drawn_sets(sets)}
    if len(sets) > 1:
        pooled = drawn(units(scores))
        rows += _means(sets, two, threshold)
        rows += [
            replace(
                row("all", "all", *pair, notes=[_POOLED], threshold=threshold),
                mixed=pair[0].unit == "video" and any(len(pairs) == 1 for pairs in sets.values()),
            )
            for pair in pooled
        ]
        shown["all"] = pooled[-1][0]
    for name, (part, note) in _generators(scores).items():
        (pair,) = drawn(units(part)[-1:])
        rows.append(row(name, "generator", *pair, notes=note, threshold=threshold))
    curves = [
        curves_of(name, each, n=n, seed=seed_of(choices.seed, each)) for name, each in shown.items()
    ]
    return tuple(rows), tuple(each for each in curves if each)


Sets = Mapping[str, Sequence[tuple[Units, Drawn]]]


def _drawn_sets(sets: Sets) -> list[str]:
    """The data sets that have curves: of many those with the lowest AUC."""
    found = {name: pairs[-1][1].values.get("auc") for name, pairs in sets.items()}
    aucs = {name: each if isinstance(each, float) else math.inf for name, each in found.items()}
    lowest = set(sorted(aucs, key=aucs.__getitem__)[:MOST_DRAWN])
    return [name for name in sets if name in lowest]


def _means(sets: Sets, two: Container[str], threshold: Threshold) -> list[Row]:
    """The mean of pictures, and of videos where any data set has them.

    Data sets of one class are no part of it unless all are, since they lack most metrics. One of
    ``two`` classes that could not be scored at all, or of a whole class not, stays a part of it:
    then there is no mean, which would rise by what could not be scored.
    """
    both = {name: pairs for name, pairs in sets.items() if name in two}
    left = [name for name in sets if name not in both] if both else []
    said = [f"left out, since they do not have both classes: {few(left)}"] if left else []
    found = []
    depth = max(len(pairs) for pairs in (both or sets).values())
    for level in range(depth):
        pairs = {name: each[min(level, len(each) - 1)] for name, each in (both or sets).items()}
        rows = [row(name, "dataset", *pair, threshold=threshold) for name, pair in pairs.items()]
        lost = _lost({name: units for name, (units, _) in pairs.items()}) if both else ""
        found.append(
            mean_row(rows, [drawn for _, drawn in pairs.values()], left_out=said, lost=lost)
        )
    return found


def _lost(units: Mapping[str, Units]) -> str:
    """Which data sets of two classes have fewer that are scored, in a sentence; empty for none."""
    names = [
        f"the {'fakes' if each.n_real else 'reals'} of {name}" if len(each.labels) else
        f"all of {name}"
        for name, each in units.items()
        if not _has_both(each)
    ]  # fmt: skip
    if not names:
        return ""
    return f"nothing could be scored of {few(names)}: a mean over the others would flatter"


def _has_both(units: Units) -> bool:
    return bool(units.n_real and units.n_fake)


def _class_note(units: Units, has_two: bool) -> list[str]:
    if _has_both(units) or not len(units.labels):
        return []
    there = "reals" if units.n_real else "fakes"
    return [f"only its {there} could be scored" if has_two else f"{there} only"]


def _generators(scores: Scores) -> dict[str, tuple[Scores, list[str]]]:
    """Each generator's fakes with the reals of all data sets where it occurs."""
    found = {}
    fake = (scores.label == 1) & (scores.generator != "")
    for name in dict.fromkeys(scores.generator[fake].tolist()):
        own = fake & (scores.generator == name)
        datasets = list(dict.fromkeys(scores.dataset[own].tolist()))
        reals = (scores.label == 0) & np.isin(scores.dataset.astype(str), datasets)
        found[name] = (select(scores, own | reals), [_against(scores.dataset[reals], datasets)])
    return found


def _against(of_reals: Texts, datasets: Sequence[str]) -> str:
    """Which reals a generator's fakes stand against, of the data sets in which it occurs."""
    with_reals = set(of_reals.tolist())
    there = [name for name in datasets if name in with_reals]
    without = [name for name in datasets if name not in with_reals]
    if not there:
        return f"no reals to stand against in {few(without)}: what needs both classes is n/a"
    said = f"its fakes against the reals of {few(there)}"
    return said + (f"; there are none in {few(without)}" if without else "")


def _notes(scores: Scores, whole: Scores, choices: Choices) -> tuple[str, ...]:
    notes = [*_about_tables(scores), *_about_repeats(scores), *_about_copies(scores)]
    if not scores.meta.trained:
        notes.append("the head of this detector was never trained: its scores are noise")
    alone = {0: [], 1: []}  # type: dict[int, list[str]]
    for name, part in by_dataset(whole).items():
        labels = set(part.label.tolist()) - {-1}
        if len(labels) == 1:
            alone[labels.pop()].append(name)
    for label, words in ((0, "reals"), (1, "fakes")):
        if alone[label]:
            notes.append(
                f"{words} only in {few(alone[label])}: AUC and what else needs both classes is n/a"
            )
    if alone[0] and alone[1]:
        notes.append(
            f"--join {alone[1][0]}+{alone[0][0]} measures the two together; their sources then "
            "differ in more than the label"
        )
    notes += [
        f"{'+'.join(join)} is joined from {len(join)} sources, which differ in more than the label"
        for join in choices.joins
    ]
    if choices.missing != "exclude":
        notes.append(f"items without a score count {choices.missing} (--missing)")
    return tuple(notes)


def _about_tables(scores: Scores) -> list[str]:
    found = noted(scores.meta.settings)
    if not found:
        return []
    return [
        "put together from tables not scored alike: P(fake), and what has one, may differ "
        f"slightly between them ({'; '.join(found)})"
    ]


def _about_repeats(scores: Scores) -> list[str]:
    count = repeated(scores)
    if not count:
        return []
    rows = "1 row says" if count == 1 else f"{count} rows say"
    return [f"{rows} word for word what another one says: each item counts once"]


def _about_copies(scores: Scores) -> list[str]:
    """How many items have the bytes of another one, and in which data sets."""
    known = scores.sha256 != ""
    _, first, file_of, counts = np.unique(
        scores.sha256[known].astype(np.str_),
        return_index=True, return_inverse=True, return_counts=True,
    )  # fmt: skip
    several = counts[file_of] > 1
    if not several.any():
        return []
    names = few(list(dict.fromkeys(scores.dataset[known][several].tolist())))
    label = scores.label[known]
    said = (
        f"{int((counts - 1).sum())} of {len(scores)} items have the same bytes as another one "
        f"({names}): each counts, and copies are resampled as one group"
    )
    contrary = len(set(file_of[label != label[first][file_of]].tolist()))
    return [said + (f"; {contrary} files have different labels" if contrary else "")]


def _about_threshold(threshold: Threshold, scores: Scores) -> tuple[str, ...]:
    """Whether the threshold was chosen on data that are now measured by it."""
    point = scores.meta.operating_point
    if point is None or threshold.source == "fixed":
        return ()
    if point.sha256 and point.sha256 == scores.meta.data_sha256:
        return ("the threshold was chosen on these very data: rates at it are flattering",)
    named = chosen_on(point, dict.fromkeys(scores.dataset.tolist()))
    if not named:
        return ()
    return (
        f"the threshold was chosen on data sets that are measured here ({few(named)}): where "
        "the items are the same, rates at it are flattering",
    )
