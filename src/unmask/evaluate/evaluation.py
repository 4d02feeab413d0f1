"""The result of an evaluation: plain frozen data, from which every report is written.

``report.json`` is this, field by field; ``docs/evaluation.md`` describes it. Nothing here computes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from unmask.evaluate.intervals import Interval
from unmask.types import DetectorRef

__all__ = [
    "SCHEMA",
    "Comparison",
    "Coverage",
    "Curves",
    "Evaluation",
    "Item",
    "Measure",
    "Moved",
    "Protocol",
    "Robustness",
    "Row",
    "Shares",
    "Slice",
    "Stability",
    "Threshold",
    "Verdicts",
]

SCHEMA = 1
Protocol = Literal["unmask", "deepfakebench"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric of one row: a number with its interval, or the reason why there is none."""

    name: str
    """``auc``, ``average_precision``, ``eer``, ``accuracy``, ``tpr_at_fpr_1``, ..."""
    interval: Interval | None
    reason: str = ""
    """Why it is not available, in a sentence; empty where it is."""
    caution: str = ""
    """Why the number says less than its name, in a sentence: too few reals for the rate that a
    TPR is taken at. Empty where it says what it is called."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What became of the items of a row: those not scored are counted, never dropped."""

    given: int
    scored: int
    missing: Mapping[str, int] = field(default_factory=dict)
    """How many were not scored, by status or reason code (``no_face``, ``unreadable``, ...)."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of one class by what they are called, 0..1; they add up to 1."""

    called_real: float
    inconclusive: float
    called_fake: float


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What reals and fakes are called at an operating point's band."""

    reals: Shares | None
    """None without reals; of a mean, where a data set has none."""
    fakes: Shares | None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    kind: Literal["dataset", "mean", "generator", "all"]
    unit: Literal["picture", "video"]
    n_real: int
    n_fake: int
    n_groups: int
    """What the intervals resample: identities or videos; pictures where nothing groups them."""
    coverage: Coverage
    measures: tuple[Measure, ...]
    notes: tuple[str, ...] = ()
    verdicts: Verdicts | None = None
    """None where the threshold has no band."""
    mixed: bool = False
    """Of videos, in which data sets without videos count by their pictures."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """The threshold on P(fake) that accuracies use, and where it comes from."""

    value: float
    source: str
    """``fixed``, an operating point with its data, or a named validation set."""
    real_below: float | None = None
    """P(fake) below it is called real, from it up to ``value`` inconclusive; None where the
    threshold is a number by itself, and all that is below it is called real."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Errors within one part of the data."""

    column: str
    value: str
    """A value of the column, or a range such as ``[32, 64)``."""
    n_real: int
    n_fake: int
    fpr: Interval | None
    """Share of reals called fake at the threshold (Clopper-Pearson); None without reals."""
    fnr: Interval | None
    """Share of fakes not called fake; None without fakes."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two detectors on the same items: the first minus the second."""

    dataset: str
    metric: str
    first: str
    second: str
    difference: Interval
    p_value: float | None
    """DeLong's, two-sided, for AUC over ungrouped items; None for other metrics."""
    thresholds: tuple[float, float] | None = None
    """Those of the first and the second; None for metrics without one."""


@dataclass(frozen=True, slots=True)
class Robustness:
    """One cell of the matrix: AUC, FPR and TPR of one data set under one alteration."""

    dataset: str
    kind: str
    severity: int
    """1 to 5; 0 is the picture as it is."""
    auc: Measure
    coverage: Coverage
    fpr: Measure | None = None
    """Share of reals called fake at the threshold; it needs no fakes. Likewise ``tpr``. None in
    reports of versions that did not measure it."""
    tpr: Measure | None = None
    unit: Literal["picture", "video"] | None = None
    """What was counted; None in reports of versions that did not say it."""
    mixed: bool = False
    """As of a row."""


@dataclass(frozen=True, slots=True)
class Moved:
    """How far P(fake) of the pictures of one class moves; as :class:`Stability` has it of all."""

    median_shift: float
    p95_shift: float
    flipped: float
    changed: float
    n: int


@dataclass(frozen=True, slots=True)
class Stability:
    """How far P(fake) of the same pictures moves under one alteration."""

    kind: str
    severity: int
    median_shift: float
    """Median of the absolute change of P(fake)."""
    p95_shift: float
    flipped: float
    """Share that crosses the threshold: called fake only before or only after."""
    n: int
    changed: float = math.nan
    """Share with another verdict than before, of real, inconclusive and fake. Without a band it is
    ``flipped``; NaN in reports of versions that did not count it."""
    reals: Moved | None = None
    """Of the reals alone; None without any. Likewise ``fakes``."""
    fakes: Moved | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One picture or video that a reader should look at."""

    source: str
    dataset: str
    label: int
    p_fake: float
    reasons: tuple[str, ...]
    thumbnail: str = ""
    """A ``data:`` URL of a small JPEG; empty where the picture could not be read again."""


@dataclass(frozen=True, slots=True)
class Curves:
    """What the plots of one row draw; all as plain lists."""

    name: str
    """That of the row."""
    fpr: tuple[float, ...]
    """Rising from 0 to 1, with points below 0.01 too: the DET plot shows rates from 0.001 on."""
    tpr: tuple[float, ...]
    tpr_low: tuple[float, ...]
    """Bootstrap band at the same ``fpr``; empty where there is none."""
    tpr_high: tuple[float, ...]
    bin_p_fake: tuple[float, ...]
    """Reliability: mean P(fake) per non-empty bin; likewise below."""
    bin_share_fake: tuple[float, ...]
    bin_count: tuple[int, ...]
    histogram_edges: tuple[float, ...]
    histogram_real: tuple[int, ...]
    histogram_fake: tuple[int, ...]
    unit: Literal["picture", "video"] = "picture"
    """That of the row: name and unit together lead to it."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that was measured in one run."""

    detector: DetectorRef
    threshold: Threshold
    protocol: Protocol
    aggregation: str
    """From frames to videos: ``mean``, ``median``, ``max`` or ``top-k``."""
    command: str
    seed: int
    bootstraps: int
    data: Mapping[str, str]
    """Data set to the SHA-256 over its items' hashes and labels."""
    versions: Mapping[str, str]
    rows: tuple[Row, ...]
    curves: tuple[Curves, ...] = ()
    slices: tuple[Slice, ...] = ()
    worst_slice: Slice | None = None
    comparisons: tuple[Comparison, ...] = ()
    robustness: tuple[Robustness, ...] = ()
    stability: tuple[Stability, ...] = ()
    errors: tuple[Item, ...] = ()
    """The most confident wrong answers, worst first; what is inconclusive is none."""
    missing: tuple[tuple[str, str, str], ...] = ()
    """Source, status and reason of every item that was not scored."""
    timing: Mapping[str, float] = field(default_factory=dict)
    """Seconds by what was done, of the last run; ``items_per_s``, of a run that scored everything;
    ``resumed_from``, how many items were scored already when the last run went on."""
    notes: tuple[str, ...] = ()
    """What a reader must know: the protocol's own rules, untrained heads, one-class data, ..."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Preprocessing, face stage and options, as ``Pipeline.settings()`` gives them."""
    schema: int = SCHEMA
