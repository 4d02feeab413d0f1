"""Conditions that fail a release: ``auc@mean<0.8``, ``fpr@source>0.1``.

``METRIC@SCOPE OP NUMBER``: the gate fails when what it says holds, and also when the number is not
available, so that nothing passes silently. ``METRIC.low`` and ``METRIC.high`` are the bounds of the
interval.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from unmask.errors import ConfigError, near_names
from unmask.evaluate.evaluation import Evaluation, Row, Slice
from unmask.evaluate.intervals import Interval
from unmask.evaluate.weighted import default_metrics

__all__ = ["Gate", "Outcome", "check_scopes", "judge", "parse_gate", "sliced"]

Bound = Literal["value", "low", "high"]

_SHORT = {
    "fpr": "false_positive_rate",
    "tpr": "true_positive_rate",
    "fnr": "false_negative_rate",
    "acc": "accuracy",
    "ap": "average_precision",
}
METRICS = (*default_metrics(0.5), "false_negative_rate", "coverage")
_OF_SLICES = ("false_positive_rate", "false_negative_rate")
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_PATTERN = re.compile(
    r"\s*(?P<metric>\w+)(?:\.(?P<bound>low|high))?@(?P<scope>.+?)\s*(?P<operator>[<>]=?)"
    r"\s*(?P<number>[-+0-9.eE]+)\s*"
)
POOLED = ("mean", "all")


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition under which a release fails."""

    text: str
    metric: str
    bound: Bound
    scope: str
    """``mean``, ``all``, a data set, a generator, or a column whose slices are all looked at."""
    operator: str
    number: float

    def holds(self, value: float) -> bool:
        """Whether the number is as bad as the gate says; one that is not available is."""
        return math.isnan(value) or _OPERATORS[self.operator](value, self.number)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one gate found."""

    gate: Gate
    failed: bool
    message: str
    """Which numbers decided, for people."""


def parse_gate(text: str) -> Gate:
    """The gate that an expression means.

    Raises:
        ConfigError: it is not understood, or names an unknown metric.
    """
    found = _PATTERN.fullmatch(text)
    number = _number(found["number"]) if found else None
    if found is None or number is None:
        raise ConfigError(
            f"{text!r} is no condition. Expected METRIC@SCOPE OP NUMBER with OP one of < <= > >=, "
            "such as 'auc@mean<0.8' or 'fpr@source>0.1'."
        )
    metric = _SHORT.get(found["metric"], found["metric"])
    if metric not in METRICS:
        known = [*METRICS, *_SHORT]
        raise ConfigError(
            f"{text!r} names the metric {found['metric']!r}. {near_names(found['metric'], known)}"
        )
    if metric == "coverage" and found["bound"]:
        raise ConfigError(f"{text!r}: coverage is a count and has no interval; leave the bound out")
    bound: Bound = "low" if found["bound"] == "low" else "high" if found["bound"] else "value"
    return Gate(text.strip(), metric, bound, found["scope"].strip(), found["operator"], number)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def check_scopes(gates: Sequence[Gate], rows: Iterable[str], columns: Iterable[str]) -> None:
    """Nothing, if every gate has something to look at.

    Args:
        gates: The gates.
        rows: Data sets and generators.
        columns: To slice by.

    Raises:
        ConfigError: a scope that is none of them, or a column with a metric that slices lack.
    """
    named, cut = {*POOLED, *rows}, set(columns)
    for gate in gates:
        if gate.scope in named:
            continue
        if gate.scope not in cut:
            raise ConfigError(
                f"{gate.text!r}: no data set, generator or column {gate.scope!r}. "
                f"{near_names(gate.scope, named | cut)}"
            )
        if gate.metric not in _OF_SLICES:
            raise ConfigError(
                f"{gate.text!r}: slices have fpr and fnr only; give the name of a data set, a "
                "generator, mean or all for other metrics"
            )


def sliced(gates: Sequence[Gate], rows: Iterable[str]) -> list[str]:
    """The columns that the gates look at."""
    named = {*POOLED, *rows}
    return [gate.scope for gate in gates if gate.scope not in named]


def judge(gates: Sequence[Gate], evaluation: Evaluation) -> tuple[Outcome, ...]:
    """What each gate found in the evaluation."""
    return tuple(_judge(gate, evaluation) for gate in gates)


def _judge(gate: Gate, evaluation: Evaluation) -> Outcome:
    rows = _rows(gate.scope, evaluation)
    if rows:
        value, reason = _of_row(gate, rows[-1])  # of a data set with videos the videos
        said = f"{rows[-1].unit}s: {_shown(value)}{f' ({reason})' if reason else ''}"
        return Outcome(gate, gate.holds(value), said)
    if gate.scope in POOLED:
        message = f"n/a: this evaluation has no row {gate.scope!r}; name a data set"
        return Outcome(gate, failed=True, message=message)
    return _of_slices(gate, [each for each in evaluation.slices if each.column == gate.scope])


def _of_slices(gate: Gate, parts: Sequence[Slice]) -> Outcome:
    if not parts:
        message = f"n/a: no row or slice is called {gate.scope!r}"
        return Outcome(gate, failed=True, message=message)
    numbers = [(each, _of_slice(gate, each)) for each in parts]
    there = [(each, number) for each, number in numbers if number is not None]
    if not there:
        return Outcome(gate, failed=True, message="n/a: no slice has items of that class")
    broken = [f"{each.value} {_shown(number)}" for each, number in there if gate.holds(number)]
    lacking = [each.value for each, number in numbers if number is None]
    said = ", ".join(broken) or f"none of {len(there)} slices"
    if lacking:
        said += f"; no items of that class, so not looked at: {', '.join(lacking)}"
    return Outcome(gate, bool(broken), said)


def _rows(scope: str, evaluation: Evaluation) -> list[Row]:
    """The rows of this name; where there is one data set, it is the mean and all of them."""
    datasets = [each for each in evaluation.rows if each.kind == "dataset"]
    if scope in POOLED:
        alone = len({each.name for each in datasets}) == 1
        return [each for each in evaluation.rows if each.kind == scope] or (
            datasets if alone else []  # of several, none stands for the others
        )
    named = [each for each in datasets if each.name == scope]
    generators = [each for each in evaluation.rows if each.kind == "generator"]
    return named or [each for each in generators if each.name == scope]


def _of_row(gate: Gate, row: Row) -> tuple[float, str]:
    if gate.metric == "coverage":
        covered = row.coverage
        return (covered.scored / covered.given if covered.given else math.nan), ""
    opposite = gate.metric == "false_negative_rate"
    wanted = "true_positive_rate" if opposite else gate.metric
    measure = next((each for each in row.measures if each.name == wanted), None)
    if measure is None:
        return math.nan, "the protocol does not give it"
    if measure.interval is None:
        return math.nan, measure.reason
    if not opposite:
        return _bound(measure.interval, gate.bound), ""
    mirrored: dict[Bound, Bound] = {"low": "high", "high": "low", "value": "value"}
    return 1 - _bound(measure.interval, mirrored[gate.bound]), ""


def _of_slice(gate: Gate, part: Slice) -> float | None:
    found = part.fpr if gate.metric == "false_positive_rate" else part.fnr
    return None if found is None else _bound(found, gate.bound)


def _bound(interval: Interval, bound: Bound) -> float:
    return {"value": interval.value, "low": interval.low, "high": interval.high}[bound]


def _shown(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3f}"
