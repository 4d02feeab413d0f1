"""What a search tries, and what it found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from unmask.errors import ConfigError
from unmask.evaluate.intervals import Interval
from unmask.train.inputs import describe_input
from unmask.train.probe import Fit
from unmask.train.recipe import Probe
from unmask.train.sweep.features import FeatureList
from unmask.train.sweep.judge import Line

__all__ = ["Select", "Sweep", "SweepOptions", "Tried"]

Select = Literal["validation", "leave-out"]


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """What is tried.

    Raises:
        ConfigError: a number is out of its range, or two options contradict each other.
    """

    faces: bool = True
    """Aligned faces; otherwise whole pictures, squashed."""
    scales: tuple[float, ...] = (1.0, 1.3)
    """Crop scales of the faces."""
    resolutions: tuple[int | None, ...] = (None,)
    """Sides of the input in pixels; None is the tower's own."""
    poolings: tuple[str, ...] = ()
    """Of each block; empty takes all that the tower has."""
    strengths: tuple[float, ...] = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
    """Of logistic regressions: values of scikit-learn's ``C``."""
    shrinkages: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    """Of linear discriminants, on single features only; empty tries none."""
    views: int = 0
    """Augmented copies of each training picture, and one of each validation picture to judge by."""
    leave_out: bool = False
    """Also measure on data sets that were left out of the training."""
    top: int = 10
    """How many feature lists, the best on validation, are measured so."""
    select: Select = "validation"
    """What decides."""
    seed: int = 0
    finder: str = "yunet"
    least_face_px: float = 32.0
    license: str = "other"
    cache: Path = field(default_factory=Path)

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if not 0 <= self.views <= 100:
            raise ConfigError(f"views is {self.views}; it must be 0 to 100 (2 is usual)")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; it must be at least 0")
        if self.top < 1:
            raise ConfigError(f"top is {self.top}; it must be at least 1 (10 is usual)")
        for name, values in (("crop scales", self.scales), ("strengths", self.strengths)):
            if not values or not all(0 < each < math.inf for each in values):
                raise ConfigError(f"{name} are {values}; one or more above 0 were expected")
        if not all(0 < each <= 1 for each in self.shrinkages):
            raise ConfigError(
                f"shrinkages are {self.shrinkages}; each must be above 0 and at most 1"
            )
        if self.select == "leave-out" and not self.leave_out:
            raise ConfigError("leave-out is to decide, and it is not measured: add --leave-out")


@dataclass(frozen=True, slots=True)
class Tried:
    """One head, and how it did."""

    scale: float
    """Of the crop; 0 for the whole picture."""
    resolution: int
    list: FeatureList
    fit: Fit
    strength: float
    """C of a logistic regression, shrinkage of a discriminant."""
    aucs: Mapping[str, float]
    """By line of the validation table."""
    altered: Mapping[str, float] | None = None
    """The same on altered copies."""
    left_out: Mapping[str, float] | None = None
    """By line: trained without those data sets, tested on all of them."""

    @property
    def score(self) -> float:
        """Mean AUC on validation, altered copies counting as much as originals."""
        parts = [self.aucs, *([self.altered] if self.altered else [])]
        return float(np.mean([np.mean(list(each.values())) for each in parts]))

    @property
    def transfer(self) -> float | None:
        """Mean AUC on data sets left out; None where it was not measured."""
        return float(np.mean(list(self.left_out.values()))) if self.left_out else None

    @property
    def input(self) -> str:
        """The input in words."""
        return f"{describe_input(self.scale)}, {self.resolution} px"


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """All that was tried, and the winner as a detector."""

    tried: tuple[Tried, ...]
    """The best first; those that were not measured by what decides stand behind."""
    lines: tuple[Line, ...]
    """Of the winner's validation table."""
    interval: Interval
    """Of the winner's mean AUC on validation pictures as they are."""
    line_intervals: tuple[Interval, ...]
    cross_fit: float | None
    """Mean AUC of choosing by validation, on groups that were not chosen on."""
    unmeasured: Mapping[str, str]
    """Data sets without a line, or that cannot be left out, with the reason."""
    probe: Probe
    data_sha256: str
    seconds: Mapping[str, float]
    """Of the clock: features, search, leave_out, winner."""

    @property
    def winner(self) -> Tried:
        """What was chosen."""
        return self.tried[0]

    @property
    def optimism(self) -> float | None:
        """How much the best validation score is above what choosing by it gives elsewhere."""
        if self.cross_fit is None:
            return None
        return max(each.score for each in self.tried) - self.cross_fit
