"""What altered pictures do to a detector: AUC, FPR and TPR per alteration, how far P(fake) moves.

Pure arithmetic on tables of scores; :mod:`unmask.evaluate.altered` makes the tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unmask.errors import ConfigError, ScoresError, near_names
from unmask.evaluate.counts import Array
from unmask.evaluate.evaluation import Moved, Robustness, Row, Stability, Threshold
from unmask.evaluate.perturb import KINDS, PARAMETERS, SEVERITIES, PerturbationKind
from unmask.evaluate.rows import draw, mean_row, row, seed_of
from unmask.evaluate.summary import Choices, joined_datasets
from unmask.evaluate.table import Scores, by_dataset, scored
from unmask.evaluate.units import units_of
from unmask.evaluate.weighted import default_metrics

__all__ = ["EVERY", "UNALTERED", "Cell", "matrix", "parse_cells", "robustness", "stability"]

UNALTERED = "none"
"""The kind under which the matrix holds the pictures as they are, at severity 0."""

EVERY = "all"
"""Stands for every kind of alteration."""

Rows = npt.NDArray[np.bool_]

_MEASURED = ("auc", "false_positive_rate", "true_positive_rate")


@dataclass(frozen=True, slots=True)
class Cell:
    """One alteration by its kind and severity."""

    kind: PerturbationKind
    severity: int
    """1 (mild) to 5 (strong); :data:`unmask.evaluate.perturb.PARAMETERS` says what it means."""

    @property
    def name(self) -> str:
        """As :func:`unmask.evaluate.perturb.parse_change` reads it."""
        return f"{self.kind}@{self.severity}"


def parse_cells(text: str) -> tuple[Cell, ...]:
    """The alterations that a list of kinds asks for, each kind with its severities or all five.

    >>> [cell.name for cell in parse_cells("jpeg@2-3,resize@2")]
    ['jpeg@2', 'jpeg@3', 'resize@2']
    >>> len(parse_cells("all"))
    35

    Raises:
        ConfigError: a kind or severity that is not known, or an alteration that is named twice.
    """
    cells: list[Cell] = []
    for part in text.split(","):
        name, at, asked = part.strip().partition("@")
        severities = _severities(asked, part) if at else SEVERITIES
        cells += [Cell(kind, severity) for kind in _kinds(name) for severity in severities]
    twice = [cell.name for cell in cells if cells.count(cell) > 1]
    if twice:
        raise ConfigError(f"--perturb {text}: {twice[0]} is named twice; name each once")
    return tuple(cells)


def _kinds(name: str) -> tuple[PerturbationKind, ...]:
    if name == EVERY:
        return KINDS
    found = tuple(kind for kind in KINDS if kind == name)
    if found:
        return found
    for kind in KINDS:
        if name.startswith(f"{kind}:"):
            steps = ", ".join(f"{value:g}" for value in PARAMETERS[kind])
            raise ConfigError(
                f"--perturb {name}: a severity was expected, as {kind}@3; severities 1 to 5 of "
                f"{kind} are {steps}"
            )
    raise ConfigError(f"--perturb {name}: not known. {near_names(name, (*KINDS, EVERY))}")


def _severities(text: str, part: str) -> tuple[int, ...]:
    first, dash, last = text.partition("-")
    ends = (first, last) if dash else (first, first)
    if not all(each.isdecimal() and int(each) in SEVERITIES for each in ends):
        raise ConfigError(
            f"--perturb {part.strip()}: a severity from 1 to 5, or a range as 1-3, was expected"
        )
    low, high = map(int, ends)
    if low > high:
        raise ConfigError(f"--perturb {part.strip()}: the range is empty; give {high}-{low}")
    return tuple(range(low, high + 1))


def robustness(
    baseline: Scores,
    altered: Iterable[tuple[Cell, Scores]],
    threshold: Threshold,
    choices: Choices,
) -> tuple[tuple[Robustness, ...], tuple[Stability, ...]]:
    """The matrix, beginning with the pictures as they are, and the stability of each alteration.

    Args:
        baseline: Scores of the pictures as they are.
        altered: Scores of the same samples under each alteration. Taken one by one, so that only
            one of these tables needs to be in memory.
        threshold: On P(fake), with its band, for FPR, TPR and verdicts that change.
        choices: Aggregation, joins, bootstraps and seed, as of the evaluation.

    Raises:
        ConfigError: a data set to join that is not there.
        ScoresError: a table that is not of the same samples; a video with frames of both labels.
    """
    cells = list(matrix(baseline, UNALTERED, 0, threshold, choices))
    moved: list[Stability] = []
    for cell, table in altered:
        found = stability(baseline, table, cell, threshold)
        cells += matrix(table, cell.kind, cell.severity, threshold, choices)
        moved += [found] if found else []
    return tuple(cells), tuple(moved)


def matrix(
    scores: Scores, kind: str, severity: int, threshold: Threshold, choices: Choices
) -> tuple[Robustness, ...]:
    """AUC, FPR, TPR and coverage of each data set, then of the mean over those with both classes.

    The mean is over all of them where none has both. Videos count where a data set has them, as in
    the table of the evaluation, and so do intervals. The numbers are those of what was scored: read
    them with the coverage, which falls where faces are no longer found.

    Raises:
        ConfigError: a data set to join that is not there.
        ScoresError: a video with frames of both labels.
    """
    metrics = default_metrics(threshold.value)
    asked = {name: metrics[name] for name in _MEASURED}
    pairs = []
    both = set()
    for name, part in by_dataset(joined_datasets(scores, choices.joins)).items():
        units = units_of(part, choices.how, k=choices.k, missing=choices.missing)[-1]
        drawn = draw(units, asked, n=choices.bootstraps, seed=seed_of(choices.seed, units))
        pairs.append((row(name, "dataset", units, drawn), drawn))
        if {0, 1} <= set(part.label.tolist()):  # given, not scored: the same sets in every cell
            both.add(name)
    averaged = [pair for pair in pairs if pair[0].name in both or not both]
    rows = [each for each, _ in pairs]
    if len(averaged) > 1:
        rows.append(mean_row([each for each, _ in averaged], [drawn for _, drawn in averaged]))
    return tuple(_cell(each, kind, severity) for each in rows)


def _cell(given: Row, kind: str, severity: int) -> Robustness:
    found = {measure.name: measure for measure in given.measures}
    auc, fpr, tpr = (found[name] for name in _MEASURED)
    return Robustness(
        given.name, kind, severity, auc, given.coverage, fpr, tpr, given.unit, given.mixed
    )


def stability(
    baseline: Scores, altered: Scores, cell: Cell, threshold: Threshold
) -> Stability | None:
    """How far P(fake) of each item moves; None where no item has a score both times.

    Raises:
        ScoresError: the tables are not of the same items in the same order.
    """
    same = len(baseline) == len(altered) and bool(np.all(baseline.source == altered.source))
    if not same:
        raise ScoresError(
            f"the {len(altered)} scores under {cell.name} are not of the {len(baseline)} items "
            "that were scored as they are; score both from the same data"
        )
    kept = scored(baseline) & scored(altered)

    def of(rows: Rows) -> Moved | None:
        before, after = baseline.p_fake[rows], altered.p_fake[rows]
        return _moved(before, after, threshold) if rows.any() else None

    found = of(kept)
    if found is None:
        return None
    return Stability(
        kind=cell.kind,
        severity=cell.severity,
        median_shift=found.median_shift,
        p95_shift=found.p95_shift,
        flipped=found.flipped,
        n=found.n,
        changed=found.changed,
        reals=of(kept & (baseline.label == 0)),
        fakes=of(kept & (baseline.label == 1)),
    )


def _moved(before: Array, after: Array, threshold: Threshold) -> Moved:
    """Of one item or more."""
    shift = np.abs(after - before)
    return Moved(
        median_shift=float(np.median(shift)),
        p95_shift=float(np.quantile(shift, 0.95)),
        flipped=float(np.mean((before >= threshold.value) != (after >= threshold.value))),
        changed=float(np.mean(_verdicts(before, threshold) != _verdicts(after, threshold))),
        n=len(shift),
    )


def _verdicts(p_fake: Array, threshold: Threshold) -> npt.NDArray[np.int8]:
    """``(N,)``: 0 real, 1 inconclusive, 2 fake; without a band no item is inconclusive."""
    below = threshold.value if threshold.real_below is None else threshold.real_below
    not_real, fake = p_fake >= below, p_fake >= threshold.value
    return not_real.astype(np.int8) + fake
