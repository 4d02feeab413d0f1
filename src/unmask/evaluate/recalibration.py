"""A detector's new calibration from labelled scores: its map to P(fake), and its thresholds.

What a detector can hold is ``P(fake) = sigmoid((logit + bias) / temperature)``: a temperature in
its configuration, and a bias in the bias of its head. Temperature scaling, Platt's map and a
correction for another share of fakes all have this form; an isotonic map does not, and is only
shown beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from unmask.errors import MetricUndefined, ScoresError
from unmask.evaluate.calibration import (
    TEMPERATURES,
    Calibrated,
    Shift,
    compare_maps,
    estimate_shift,
    fit_platt,
    fit_temperature,
    sigmoid,
)
from unmask.evaluate.counts import Array, Labels
from unmask.evaluate.recalibration_notes import about_data
from unmask.evaluate.table import Scores, data_hash, scored, select
from unmask.evaluate.thresholds import check_enough, operating_points
from unmask.evaluate.units import pictures
from unmask.types import OperatingPoint

__all__ = ["EVEN", "Affine", "Method", "Outcome", "Recalibration", "recalibrate"]

Method = Literal["temperature", "platt", "none"]
"""``none`` keeps the map and chooses thresholds only."""

EVEN = 0.5
"""The share of fakes that P(fake) is taken to stand for unless Platt's map was fitted to data of
a known share: ``unmask train`` lets both classes count alike."""


@dataclass(frozen=True, slots=True)
class Affine:
    """``P(fake) = sigmoid((logit + bias) / temperature)``."""

    temperature: float
    bias: float = 0.0

    def __call__(self, logits: npt.ArrayLike) -> Array:
        """P(fake) of logits."""
        return sigmoid((np.asarray(logits, dtype=np.float64) + self.bias) / self.temperature)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one operating point does on the data that it was chosen on."""

    point: OperatingPoint
    false_alarms: float
    """Share of reals called fake."""
    found: float | None
    """Share of fakes called fake; None without fakes."""
    inconclusive: float
    """Share of all items between the two thresholds."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The map that was fitted, stored or not."""

    method: Method
    temperature: float
    bias: float
    is_better: bool | None
    """Whether log loss falls and Brier score does not rise on groups that it was not fitted to;
    ``None`` where nothing was fitted or that cannot be told."""


@dataclass(frozen=True, slots=True)
class Recalibration:
    """A new calibration, and what it rests on."""

    method: Method
    """Of the map that is to be stored; ``none`` where the present one is kept."""
    before: Affine
    after: Affine
    fitted: Fitted
    outcomes: tuple[Outcome, ...]
    """Of the new operating points, the default one first."""
    compared: tuple[Calibrated, ...]
    """The present map (``none``) and others, cross-validated over groups; may be empty."""
    source: str
    datasets: tuple[str, ...]
    """Those of the items that were fitted to, by name."""
    sha256: str
    """Of the data, by :func:`unmask.evaluate.table.data_hash`."""
    n_real: int
    """Distinct files; so ``n_fake``."""
    n_fake: int
    n_groups: int
    n_repeated: int
    """Scored items with the bytes of another one; they count nowhere."""
    not_scored: Mapping[str, int]
    """How many items have no score, by status; they count nowhere."""
    shift: Shift | None
    notes: tuple[str, ...]

    @property
    def points(self) -> tuple[OperatingPoint, ...]:
        """The new operating points."""
        return tuple(outcome.point for outcome in self.outcomes)

    def record(self) -> dict[str, Any]:
        """For the detector's configuration: how its numbers came about, as plain JSON."""
        return {
            "method": self.method,
            "data": self.source,
            "datasets": list(self.datasets),
            "sha256": self.sha256,
            "n_real": self.n_real,
            "n_fake": self.n_fake,
            "n_groups": self.n_groups,
            "n_repeated": self.n_repeated,
            "not_scored": dict(self.not_scored),
            "temperature_before": self.before.temperature,
            "bias_added": self.after.bias,
            "fitted": asdict(self.fitted),
            "cross_validated": [asdict(each) for each in self.compared],
            "shift": None if self.shift is None else asdict(self.shift),
        }


def recalibrate(
    scores: Scores,
    temperature: float,
    *,
    source: str,
    method: Method | None = None,
    target_fprs: Sequence[float] = (0.05, 0.01),
    unlabelled: npt.ArrayLike | None = None,
    seed: int = 0,
    force: bool = False,
) -> Recalibration:
    """A calibration that fits these scores; nothing is written.

    Every scored file counts once, however often its bytes are there. Reals alone give operating
    points and no new map. A new map is taken only if it is better than the present one on groups
    that it was not fitted to: lower log loss, and no higher Brier score.

    Args:
        scores: Of the detector, with labels; logits are before any temperature.
        temperature: What the detector has now.
        source: The name of the data, which the operating points will carry.
        method: What is fitted; None is ``temperature``, or ``none`` where there are no fakes.
        target_fprs: Of the operating points, the default one first.
        unlabelled: ``(U,)`` logits from where the detector will be used: P(fake) is corrected for
            their share of fakes, see :func:`unmask.evaluate.calibration.estimate_shift`.
        seed: Of the cross-validation.
        force: Take the fitted map although it is no better, or that cannot be told.

    Raises:
        MetricUndefined: no reals, or too few files or groups of them for a target; a map that
            these scores do not determine; a shift that cannot be told or is beyond what the
            assumption allows.
        ScoresError: one file is labelled real and fake.
        ConfigError: a target that is no rate, or is given twice.
    """
    usable = select(scores, scored(scores) & (scores.label >= 0))
    kept, groups, n_repeated = _once(usable)
    logits, labels = kept.logit, kept.label
    n_fake = int(labels.sum())
    _check_reals(labels, groups, target_fprs)
    before = Affine(temperature)
    compared, said = _compared(logits / temperature, labels, groups, seed)
    asked: Method = method or ("temperature" if n_fake else "none")
    fitted = _fitted(asked, logits, labels, before, compared)
    stored = force or fitted.is_better is True or fitted.method == "none"
    after = Affine(fitted.temperature, fitted.bias) if stored else before
    shift = None
    if unlabelled is not None:
        of_data = stored and fitted.method == "platt"
        after, shift = _shifted(after, unlabelled, n_fake / len(labels) if of_data else EVEN)
    p_fake = after(logits)
    sha256 = data_hash(scores)
    points = _points(p_fake, labels, target_fprs, source, sha256, usable.dataset.tolist())
    return Recalibration(
        method=fitted.method if stored else "none",
        before=before,
        after=after,
        fitted=fitted,
        outcomes=tuple(_outcome(point, p_fake, labels) for point in points),
        compared=compared,
        source=source,
        datasets=points[0].datasets,
        sha256=sha256,
        n_real=len(labels) - n_fake,
        n_fake=n_fake,
        n_groups=len(np.unique(groups)),
        n_repeated=n_repeated,
        not_scored=dict(Counter(scores.status[~scored(scores)].tolist()).most_common()),
        shift=shift,
        notes=(*said, *_about_map(fitted, compared, stored), *about_data(kept, groups, n_repeated)),
    )


def _once(scores: Scores) -> tuple[Scores, npt.NDArray[np.intp], int]:
    """The first of the items with the same bytes, their groups, and how many others there are.

    Groups that share a file are one.
    """
    groups = pictures(scores).groups
    names = np.where(scores.sha256 == "", scores.source, scores.sha256).astype(np.str_)
    _, first, file_of = np.unique(names, return_index=True, return_inverse=True)
    wrong = np.flatnonzero(scores.label != scores.label[first][file_of])
    if len(wrong):
        raise ScoresError(
            f"{scores.source[first[file_of[wrong[0]]]]} and {scores.source[wrong[0]]} are one "
            "file, byte for byte, labelled real and fake. Correct one label, or leave both out."
        )
    kept = np.sort(first)
    return select(scores, kept), groups[kept], len(scores) - len(kept)


def _check_reals(
    labels: Labels, groups: npt.NDArray[np.intp], target_fprs: Sequence[float]
) -> None:
    n_real = int(np.sum(labels == 0))
    if not n_real:
        raise MetricUndefined(
            f"none of the {len(labels)} scored items is real; operating points are chosen on "
            "reals. Give some: they suffice, without any fake.",
            code="no_reals",
        )
    check_enough(n_real, target_fprs, n_groups=len(np.unique(groups[labels == 0])))


def _fitted(
    method: Method,
    logits: Array,
    labels: Labels,
    before: Affine,
    compared: Sequence[Calibrated],
) -> Fitted:
    found = _fit(method, logits, labels, before)
    return Fitted(method, found.temperature, found.bias, _is_better(method, compared))


def _fit(method: Method, logits: Array, labels: Labels, before: Affine) -> Affine:
    if method == "temperature":
        temperature = fit_temperature(logits, labels)
        low, high = TEMPERATURES
        if not low * 1.01 < temperature < high / 1.01:
            why = "apart entirely" if temperature < 1 else "not apart at all, or the wrong way"
            raise MetricUndefined(
                f"these scores set the classes {why}, so that no temperature is the best one "
                f"(the search ended at {temperature:.3g}). Give more data, or keep the present "
                "one by --method none.",
                code="undetermined",
            )
        return Affine(temperature)
    if method == "platt":
        fitted = fit_platt(logits, labels)
        if not fitted.a > 0:
            raise MetricUndefined(
                f"Platt's slope is {fitted.a:.3g}: on these data reals score above fakes, and a "
                "calibration must not turn answers round. Look at the labels, or at "
                "`unmask evaluate`.",
                code="reversed",
            )
        return Affine(1 / fitted.a, fitted.b / fitted.a)
    return before


def _shifted(before: Affine, unlabelled: npt.ArrayLike, prior: float) -> tuple[Affine, Shift]:
    found = estimate_shift(before(unlabelled), prior=prior)
    if found.limited:
        raise MetricUndefined(
            f"the unlabelled scores ask for a share of fakes of {found.estimated:.3g} or beyond, "
            f"from {prior:.3g}: more than another share alone explains. Other cameras or other "
            "kinds of fakes look just like that; calibrate on labelled data from there instead.",
            code="shift_limited",
        )
    return Affine(before.temperature, before.bias + found.bias * before.temperature), found


def _compared(
    logits: Array, labels: Labels, groups: npt.NDArray[np.intp], seed: int
) -> tuple[tuple[Calibrated, ...], tuple[str, ...]]:
    if not labels.any():
        return (), ("reals only: the map from logits to P(fake) stays as it was",)
    try:
        return compare_maps(logits, labels, groups, seed=seed), ()
    except MetricUndefined as error:
        return (), (f"the maps are not compared: {error}",)


def _is_better(method: Method, compared: Sequence[Calibrated]) -> bool | None:
    """As :attr:`Fitted.is_better`."""
    by_name = {each.name: each for each in compared}
    if method == "none" or not by_name:
        return None
    new, present = by_name[method], by_name["none"]
    return new.log_loss < present.log_loss and new.brier <= present.brier


def _points(
    p_fake: Array,
    labels: Labels,
    target_fprs: Sequence[float],
    source: str,
    sha256: str,
    datasets: Sequence[str],
) -> tuple[OperatingPoint, ...]:
    fakes = p_fake[labels == 1]
    return operating_points(
        p_fake[labels == 0],
        fakes if len(fakes) else None,
        source=source,
        target_fprs=target_fprs,
        sha256=sha256,
        datasets=datasets,
    )


def _about_map(new: Fitted, compared: Sequence[Calibrated], stored: bool) -> tuple[str, ...]:
    """Whether the fitted map is stored, where there is a reason not to."""
    if new.method == "none" or new.is_better:
        return ()
    why = "whether P(fake) is any better by it cannot be told"
    if new.is_better is False:
        of = {each.name: each for each in compared}
        old, tried = of["none"], of[new.method]
        why = (
            "on groups that it was not fitted to P(fake) is no better by it than as it was "
            f"(log loss {tried.log_loss:.4f} against {old.log_loss:.4f}, Brier score "
            f"{tried.brier:.4f} against {old.brier:.4f})"
        )
    end = "stored all the same (--force)" if stored else "so it is not stored (--force stores it)"
    bias = f" and bias {new.bias:+.4g}" if new.bias else ""
    return (f"temperature {new.temperature:.4g}{bias} was fitted; {why}, {end}",)


def _outcome(point: OperatingPoint, p_fake: Array, labels: Labels) -> Outcome:
    fake = p_fake >= point.fake_at
    between = ~fake & (p_fake >= point.real_below)
    return Outcome(
        point,
        false_alarms=float(fake[labels == 0].mean()),
        found=float(fake[labels == 1].mean()) if labels.any() else None,
        inconclusive=float(between.mean()),
    )
