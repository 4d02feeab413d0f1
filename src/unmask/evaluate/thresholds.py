"""Operating points: thresholds on P(fake) at target false-positive rates, and how sure they are.

The interval of a point, ``fpr_low`` to ``fpr_high``, holds the true false-positive rate at 95 %
though the threshold was chosen on the same scores. A threshold just above an order statistic of n
reals, k of them higher, has a rate with distribution Beta(k + 1, n - k): the upper Clopper-Pearson
limit is its exact quantile, and the lower one is on the safe side. Reals count as independent and
alike: for frames of few videos, or under weights, the interval is too narrow.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from unmask.errors import ConfigError, MetricUndefined
from unmask.evaluate.counts import Array, checked, require_probabilities
from unmask.evaluate.intervals import clopper_pearson
from unmask.files import one_line, valid_text
from unmask.types import OperatingPoint

__all__ = [
    "BAND_OF_REALS",
    "check_enough",
    "chosen_on",
    "least_reals",
    "operating_points",
    "weighted_quantile",
]

BAND_OF_REALS = 5.0
"""From reals alone, the band below ``fake_at`` begins where this many times the target share of
reals stands: what is unusual for a real, but not unusual enough. Our choice; it is the ratio of
the two default targets."""


def least_reals(target_fpr: float) -> int:
    """The number of reals from which one false alarm is no more than the target.

    >>> least_reals(0.01), least_reals(0.05)
    (100, 20)
    """
    _check_target(target_fpr)
    return math.ceil(1 / target_fpr - 1e-9)


def operating_points(
    reals: npt.ArrayLike,
    fakes: npt.ArrayLike | None = None,
    *,
    source: str,
    target_fprs: Sequence[float] = (0.05, 0.01),
    real_weights: Array | None = None,
    fake_weights: Array | None = None,
    sha256: str | None = None,
    datasets: Iterable[str] = (),
) -> tuple[OperatingPoint, ...]:
    """Thresholds at target false-positive rates; the first is a detector's default.

    ``fake_at`` lies just above the smallest score of a real that leaves no more than the target
    share of reals at or above the threshold. ``real_below`` is the score that the same share of
    fakes stays below (never above ``fake_at``); without fakes it is the score that
    :data:`BAND_OF_REALS` times the target share of reals reaches, at most half of them, and nothing
    is said about how many fakes are missed (``target_fnr`` None). Between the two: inconclusive.

    Args:
        reals: ``(R,)`` P(fake) of real pictures.
        fakes: ``(F,)`` P(fake) of fakes, or None.
        source: The name of the data.
        target_fprs: In the order wanted.
        real_weights: ``(R,)``, for shares; the interval counts reals.
        fake_weights: ``(F,)``.
        sha256: Of the data.
        datasets: Those that the scores are of, by name; one may stand there often.

    Raises:
        MetricUndefined: a target is not resolved by so few reals, or not reachable since too many
            reals score exactly 1.
        ScoresError: no scores, or some outside 0..1.
        ConfigError: a target is not between 0 and 1, or given twice.
    """
    if not target_fprs or len(set(target_fprs)) < len(target_fprs):
        raise ConfigError(f"target FPRs are {list(target_fprs)}; one or more, each once, expected")
    for target in target_fprs:
        _check_target(target)
    of_reals = _probabilities(reals, 0)
    of_fakes = None if fakes is None else _probabilities(fakes, 1)
    check_enough(len(of_reals), target_fprs)
    count = {"n_real": len(of_reals), "n_fake": 0 if of_fakes is None else len(of_fakes)}
    points = []
    for target in target_fprs:
        fake_at = _fake_at(of_reals, target, real_weights)
        if of_fakes is None:
            share = min(0.5, BAND_OF_REALS * target)
            real_below = weighted_quantile(of_reals, 1 - share, real_weights)
        else:
            real_below = weighted_quantile(of_fakes, target, fake_weights)
        realised = clopper_pearson(int(np.sum(of_reals >= fake_at)), len(of_reals))
        points.append(
            OperatingPoint(
                name=f"fpr{100 * target:.6g}",
                fake_at=fake_at,
                real_below=min(real_below, fake_at),
                source=source,
                target_fpr=target,
                target_fnr=None if of_fakes is None else target,
                fpr_low=realised.low,
                fpr_high=realised.high,
                sha256=sha256,
                datasets=_each_once(datasets),
                **count,
            )
        )
    return tuple(points)


def _each_once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(valid_text(name) for name in dict.fromkeys(names) if name)


_SOURCE = re.compile(r"(?:validation part|\S+ split) of (?P<names>.+)", re.DOTALL)
"""What trainings and calibrations call their data, beside the bare list of the names."""


def chosen_on(point: OperatingPoint, names: Iterable[str]) -> list[str]:
    """Which of these data sets the point was chosen on.

    By the names that it carries; in a point that carries none, by those that its source lists in
    one of the forms that trainings and calibrations write: ``validation part of A, B``, ``SPLIT
    split of A, B`` or ``A, B``. Names are compared whole, and may hold commas themselves.

    >>> point = OperatingPoint("p", 0.5, 0.5, source="validation part of my set, b")
    >>> chosen_on(point, ["my set", "set", "validation"])
    ['my set']
    """
    if point.datasets:
        return [name for name in names if valid_text(name) in point.datasets]
    found = _SOURCE.fullmatch(point.source)
    listed = f", {found['names'] if found else point.source}, "
    return [
        name
        for name in names
        if name and any(f", {each(name)}, " in listed for each in (valid_text, one_line))
    ]


_USUAL = (0.01, 0.05, 0.1, 0.2)
"""Targets to name where the one asked for needs more reals than there are."""


def check_enough(n_real: int, target_fprs: Sequence[float], *, n_groups: int | None = None) -> None:
    """Nothing, if so many reals resolve all targets; needs no score.

    Args:
        n_real: Distinct files.
        target_fprs: The targets.
        n_groups: Of how many groups (videos, identities) they are; None: each its own. What is
            alike in a group is wrong together, so groups count where there are fewer of them.

    Raises:
        MetricUndefined: one needs more reals; says how many, and which target these suffice for.
        ConfigError: a target is not between 0 and 1.
    """
    for target in target_fprs:
        least = least_reals(target)
        if n_real < least:
            raise MetricUndefined(
                f"a false-positive rate of {target:.3g} needs at least {least} reals; {n_real} are "
                f"there. Give more reals{_instead(n_real)}.",
                code="too_few_reals",
            )
        if n_groups is not None and n_groups < least:
            raise MetricUndefined(
                f"a false-positive rate of {target:.3g} needs reals of at least {least} groups "
                f"(videos, identities, or pictures by themselves); {n_real} of {n_groups} are "
                f"there, copies of one file counted once. Give others{_instead(n_groups)}.",
                code="too_few_reals",
            )


def _instead(n_real: int) -> str:
    enough = [target for target in _USUAL if least_reals(target) <= n_real]
    return f", or a larger target (--fpr {enough[0]})" if enough else ""


_MARGIN = 1e-6
"""Between a real's score and the threshold above it: the same picture in another batch has a score
that is rounded otherwise, by some 1e-7, and must stay on its side."""


def _fake_at(reals: Array, target: float, weights: Array | None) -> float:
    highest = weighted_quantile(reals, 1 - target, weights)
    if highest >= 1:
        raise MetricUndefined(
            f"more than {target:.3g} of the reals have P(fake) 1 exactly, so that no threshold "
            "reaches this false-positive rate. Calibrate the temperature first, or give a larger "
            "target.",
            code="saturated",
        )
    above = reals[reals > highest]
    gap = (float(above.min()) if len(above) else 1.0) - highest
    return max(highest + min(_MARGIN, gap / 2), float(np.nextafter(highest, 1.0)))


def weighted_quantile(values: Array, share: float, weights: Array | None = None) -> float:
    """The smallest value that at least ``share`` of the weight does not exceed.

    >>> weighted_quantile(np.array([3.0, 1.0, 2.0]), 0.5)
    2.0
    """
    order = np.argsort(values)
    weight = np.ones(len(values)) if weights is None else weights
    reached = np.cumsum(weight[order]) / weight.sum()
    index = int(np.searchsorted(reached, share - 1e-12))
    return float(values[order][min(index, len(values) - 1)])


def _probabilities(scores: npt.ArrayLike, label: int) -> Array:
    values = np.asarray(scores, dtype=np.float64)
    _, sound = checked(np.full(values.shape, label), values)
    require_probabilities(sound)
    return sound


def _check_target(target: float) -> None:
    if not 0 < target < 1:
        raise ConfigError(
            f"a target FPR is {target}; a rate between 0 and 1 was expected (0.01 is 1 %)"
        )
