"""What altered pictures do to a detector: AUC per alteration, and how far P(fake) moves.

Pure arithmetic on tables of scores; :mod:`unmask.evaluate.altered` makes the tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from unmask.errors import ConfigError, ScoresError, near_names
from unmask.evaluate.evaluation import Robustness, Stability
from unmask.evaluate.perturb import KINDS, PARAMETERS, SEVERITIES, PerturbationKind
from unmask.evaluate.rows import draw, mean_row, row, seed_of
from unmask.evaluate.summary import Choices, joined_datasets
from unmask.evaluate.table import Scores, by_dataset, scored
from unmask.evaluate.units import units_of
from unmask.evaluate.weighted import auc

__all__ = ["EVERY", "UNALTERED", "Cell", "matrix", "parse_cells", "robustness", "stability"]

UNALTERED = "none"
"""The kind under which the matrix holds the pictures as they are, at severity 0."""

EVERY = "all"
"""Stands for every kind of alteration."""


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
    threshold: float,
    choices: Choices,
) -> tuple[tuple[Robustness, ...], tuple[Stability, ...]]:
    """The matrix, beginning with the pictures as they are, and the stability of each alteration.

    Args:
        baseline: Scores of the pictures as they are.
        altered: Scores of the same samples under each alteration. Taken one by one, so that only
            one of these tables needs to be in memory.
        threshold: On P(fake), for answers that change side.
        choices: Aggregation, joins, bootstraps and seed, as of the evaluation.

    Raises:
        ConfigError: a data set to join that is not there.
        ScoresError: a table that is not of the same samples; a video with frames of both labels.
    """
    cells = list(matrix(baseline, UNALTERED, 0, choices))
    moved: list[Stability] = []
    for cell, table in altered:
        found = stability(baseline, table, cell, threshold)
        cells += matrix(table, cell.kind, cell.severity, choices)
        moved += [found] if found else []
    return tuple(cells), tuple(moved)


def matrix(scores: Scores, kind: str, severity: int, choices: Choices) -> tuple[Robustness, ...]:
    """AUC and coverage of each data set, then of the mean over those with both classes.

    Videos count where a data set has them, as in the table of the evaluation. The AUC is that of
    what was scored: read it with the coverage, which falls where faces are no longer found.

    Raises:
        ConfigError: a data set to join that is not there.
        ScoresError: a video with frames of both labels.
    """
    pairs = []
    both = set()
    for name, part in by_dataset(joined_datasets(scores, choices.joins)).items():
        units = units_of(part, choices.how, k=choices.k, missing=choices.missing)[-1]
        seed = seed_of(choices.seed, units)
        drawn = draw(units, {"auc": auc}, n=choices.bootstraps, seed=seed)
        pairs.append((row(name, "dataset", units, drawn), drawn))
        if {0, 1} <= set(part.label.tolist()):  # given, not scored: the same sets in every cell
            both.add(name)
    averaged = [pair for pair in pairs if pair[0].name in both]
    rows = [each for each, _ in pairs]
    if len(averaged) > 1:
        rows.append(mean_row([each for each, _ in averaged], [drawn for _, drawn in averaged]))
    return tuple(
        Robustness(each.name, kind, severity, measure, each.coverage)
        for each in rows
        for measure in each.measures
        if measure.name == "auc"
    )


def stability(baseline: Scores, altered: Scores, cell: Cell, threshold: float) -> Stability | None:
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
    if not kept.any():
        return None
    before, after = baseline.p_fake[kept], altered.p_fake[kept]
    shift = np.abs(after - before)
    return Stability(
        kind=cell.kind,
        severity=cell.severity,
        median_shift=float(np.median(shift)),
        p95_shift=float(np.quantile(shift, 0.95)),
        flipped=float(np.mean((before >= threshold) != (after >= threshold))),
        n=int(kept.sum()),
    )
