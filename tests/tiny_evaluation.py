"""An evaluation made from drawn scores, with everything that a report shows."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np

from unmask.evaluate import curves as lines
from unmask.evaluate.evaluation import (
    Comparison,
    Coverage,
    Curves,
    Evaluation,
    Item,
    Measure,
    Moved,
    Robustness,
    Row,
    Slice,
    Stability,
    Threshold,
)
from unmask.evaluate.intervals import (
    Interval,
    bootstrap,
    clopper_pearson,
    paired_difference,
    percentile_interval,
)
from unmask.evaluate.weighted import auc, default_metrics
from unmask.types import DetectorRef

AT = 0.5
NO_REALS = "AUC needs reals, and the data have none"
DATASETS = {"celebdf": 2.4, "ffpp_reenact": 1.2, "ciplab": 0.5}
"""Name to distance of the classes in standard deviations."""


def drawn(name: str, distance: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, P(fake) and groups of one data set."""
    generator = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [90, 140])
    logits = generator.normal((labels - 0.5) * distance, 1.0)
    groups = np.array([f"{name}-{number // 3}" for number in range(len(labels))])
    return labels, 1 / (1 + np.exp(-1.6 * logits)), groups


def curves_of(name: str, labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> Curves:
    grid = np.unique(np.concatenate([[0], np.geomspace(1e-3, 1, 40), np.linspace(0, 1, 51)]))
    band = lines.roc_band(labels, scores, groups, grid, n=60, seed=1)
    bins = lines.reliability(labels, scores, 10)
    filled = bins.count > 0
    edges = np.linspace(0, 1, 21)
    return Curves(
        name=name,
        fpr=tuple(band.fpr.tolist()),
        tpr=tuple(band.tpr.tolist()),
        tpr_low=tuple(band.low.tolist()),
        tpr_high=tuple(band.high.tolist()),
        bin_p_fake=tuple(bins.mean[filled].tolist()),
        bin_share_fake=tuple(bins.share[filled].tolist()),
        bin_count=tuple(bins.count[filled].tolist()),
        histogram_edges=tuple(edges.tolist()),
        histogram_real=tuple(np.histogram(scores[labels == 0], edges)[0].tolist()),
        histogram_fake=tuple(np.histogram(scores[labels == 1], edges)[0].tolist()),
        unit="video",
    )


def measures_of(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> tuple[Measure, ...]:
    found = bootstrap(labels, scores, groups, default_metrics(AT), n=60, seed=1)
    return tuple(
        Measure(name, each) if isinstance(each, Interval) else Measure(name, None, each.message)
        for name, each in found.items()
    )


def of_one_class(name: str) -> Row:
    """A data set of fakes: what needs reals has a reason, the interval of the rest is unknown."""
    measures = tuple(
        Measure(each.name, None, f"{each.name} needs reals, and the data have none")
        if each.name not in {"accuracy", "true_positive_rate", "brier"}
        else Measure(each.name, Interval(0.81, math.nan, math.nan))
        for each in measures_of(*drawn("x", 1, 0))
    )
    return Row(name, "dataset", "picture", 0, 86, 1, Coverage(86, 86), measures)


@cache
def rows_and_curves() -> tuple[tuple[Row, ...], tuple[Curves, ...]]:
    rows, curves = [], []
    for seed, (name, distance) in enumerate(DATASETS.items()):
        data = drawn(name, distance, seed)
        coverage = Coverage(236, 230, {"no_face": 4, "unreadable": 2})
        rows.append(Row(name, "dataset", "video", 90, 140, 77, coverage, measures_of(*data)))
        curves.append(curves_of(name, *data))
    means = tuple(
        Measure(
            each.name,
            percentile_interval(
                float(np.mean([row.measures[index].interval.value for row in rows])),
                np.linspace(0.7, 0.8, 50),
            ),
        )
        for index, each in enumerate(rows[0].measures)
    )
    coverage = Coverage(708, 690, {"no_face": 12, "unreadable": 6})
    mean = Row("mean", "mean", "video", 270, 420, 231, coverage, means, ("over 3 data sets",))
    generators = [
        Row(
            f"ffpp_reenact / {name}", "generator", "video", 90, 70, 60, Coverage(160, 160), measures
        )
        for name, measures in (
            ("Face2Face", rows[0].measures),
            ("NeuralTextures", rows[2].measures),
        )
    ]
    return (*rows, of_one_class("sfhq_t2i"), mean, *generators), tuple(curves)


def slices() -> tuple[Slice, ...]:
    counts = {
        ("source", "celebdf"): (2, 90, 20, 140),
        ("source", "ffpp_reenact"): (14, 90, 40, 140),
        ("face_px", "[20, 64)"): (9, 40, 31, 60),
        ("face_px", "[64, 128)"): (5, 120, 29, 200),
        ("face_px", "[128, inf)"): (2, 110, 10, 160),
        ("format", "png"): (0, 0, 12, 30),
    }
    return tuple(
        Slice(
            column,
            value,
            reals,
            fakes,
            clopper_pearson(alarms, reals) if reals else None,
            clopper_pearson(missed, fakes) if fakes else None,
        )
        for (column, value), (alarms, reals, missed, fakes) in counts.items()
    )


def robustness() -> tuple[Robustness, ...]:
    cells = []
    for dataset, start in (("celebdf", 0.93), ("ffpp_reenact", 0.8)):
        cells.append(_cell(dataset, "none", 0, start))
        for kind, loss in (("jpeg", 0.03), ("blur", 0.06), ("social", 0.045)):
            for severity in range(1, 6):
                cells.append(_cell(dataset, kind, severity, start - loss * severity))
    gone, none = (
        Measure(name, None, "no face was found in any real")
        for name in ("auc", "false_positive_rate")
    )
    cells[-1] = replace(cells[-1], auc=gone, fpr=none, coverage=Coverage(230, 80, {"no_face": 150}))
    return tuple(cells)


def _cell(dataset: str, kind: str, severity: int, value: float) -> Robustness:
    auc, fpr, tpr = (
        Measure(name, Interval(each, each - 0.04, each + 0.03, resamples=60))
        for name, each in (
            ("auc", value),
            ("false_positive_rate", 1.05 - value),
            ("true_positive_rate", value - 0.2),
        )
    )
    coverage = Coverage(230, 230 - severity, {"no_face": severity} if severity else {})
    return Robustness(dataset, kind, severity, auc, coverage, fpr, tpr, "video")


def stability() -> tuple[Stability, ...]:
    return tuple(
        Stability(
            kind, severity, 0.01 * severity, 0.05 * severity, 0.012 * severity * step, 690,
            0.02 * severity * step,
            Moved(0.02 * severity, 0.06 * severity, 0.0, 0.03 * severity * step, 270),
            Moved(0.005 * severity, 0.04 * severity, 0.02 * step, 0.01 * severity * step, 420),
        )
        for step, kind in enumerate(("jpeg", "blur", "social"), 1)
        for severity in range(1, 6)
    )  # fmt: skip


def comparison() -> tuple[Comparison, ...]:
    labels, scores, groups = drawn("celebdf", 2.4, 0)
    other = drawn("celebdf", 1.9, 9)[1]
    difference = paired_difference(labels, scores, other, groups, auc, n=60, seed=1)
    found = Comparison("celebdf", "auc", "tiny", "other", difference, 0.0004)
    unknown = Interval(-0.02, math.nan, math.nan)
    return found, Comparison("ciplab", "eer", "tiny", "other", unknown, None)


def evaluation(thumbnail: str = "") -> Evaluation:
    """Three data sets of both classes and one of fakes, with everything measured."""
    rows, curves = rows_and_curves()
    parts = slices()
    return Evaluation(
        detector=DetectorRef("tiny", "cd" * 32, trained=True),
        threshold=Threshold(AT, "fpr5 of the validation split of celebdf"),
        protocol="unmask",
        aggregation="mean",
        command="unmask evaluate data --detector tiny",
        seed=7,
        bootstraps=60,
        data={name: f"{number:02x}" * 32 for number, name in enumerate(DATASETS)},
        versions={"unmask": "0.1.0", "torch": "2.13"},
        rows=rows,
        curves=curves,
        slices=parts,
        worst_slice=parts[2],
        comparisons=comparison(),
        robustness=robustness(),
        stability=stability(),
        errors=(
            Item("in/real/a.png", "celebdf", 0, 0.981, ("the face is 31 px wide",), thumbnail),
            Item("in/fake/b.png", "ciplab", 1, 0.012, ()),
        ),
        missing=(
            ("in/c.png", "no_face", "yunet found no face"),
            ("in/d.png", "unreadable", "the PNG data are damaged"),
        ),
        timing={"scoring": 81.2, "report": 3.5, "items_per_s": 8.5},
        notes=("Thresholds were chosen on other data than those measured here.",),
        settings={"dtype": "float32", "options": {"faces": "largest", "scales": [1.0, 1.3]}},
    )
