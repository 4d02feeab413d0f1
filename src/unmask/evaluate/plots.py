"""The plots of a report, as SVG to stand in a page: ROC, DET, reliability, robustness.

The same data give the same bytes. No plot holds a name from the data: the page has the legend, so
that names need no font here. Colours are CSS variables (:data:`COLOURS`) with a value for a page
without them; text takes the reader's font and the colour of the text around it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unmask.evaluate.evaluation import Curves, Robustness
from unmask.evaluate.intervals import Interval
from unmask.evaluate.report_robustness import matrix_measure, severities
from unmask.evaluate.report_tables import metric_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "AT_ONCE",
    "COLOURS",
    "DASHES",
    "det_plot",
    "reliability_plot",
    "robustness_plot",
    "roc_plot",
    "styled_figure",
    "svg_element",
]

Array = npt.NDArray[np.float64]
Band = tuple[Array, Array]

COLOURS: Mapping[str, str] = {
    "ink": "#1b1f24",
    "line": "#c9ced6",
    "real": "#0072b3",
    "fake": "#d55e01",
    "s1": "#0072b2",
    "s2": "#d55e00",
    "s3": "#00896b",
    "s4": "#a8479a",
    "s5": "#8a6d00",
    "s6": "#5b6470",
}
"""CSS variable to its colour on white. After Okabe and Ito (Color Universal Design, 2008), which
the common kinds of colour blindness keep apart, darker where they had too little contrast; lines
differ in their dashes too."""

DASHES: tuple[tuple[float, ...], ...] = ((), (6, 2), (1.5, 1.5), (6, 2, 1.5, 2), (3, 3), (9, 3))
"""Of the lines in one plot, in points; the first is unbroken."""

AT_ONCE = len(DASHES)
"""How many curves one plot can hold."""

_RATES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9)
"""Ticks of a DET plot."""
_LEAST, _MOST = 0.001, 0.95
"""Its ends: below 0.1 % no test set of usual size tells anything."""

_ENDS: Mapping[str, tuple[float, float]] = {
    "auc": (0.5, 1.0),
    "false_positive_rate": (0.5, 0.0),
    "true_positive_rate": (0.0, 1.0),
}
"""Worst (dark) and best value of a matrix; what is worse than that is as dark."""
_DARK_BELOW = 0.45
"""Brightness of a cell (0..1) below which its number is white."""


def roc_plot(curves: Sequence[Curves], key: str) -> str:
    """ROC curves with their bands, at most :data:`AT_ONCE`.

    Args:
        curves: One line each.
        key: What the ids in the plot begin with, another for each plot of a page.
    """
    with styled_figure(4.3, 4.1) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=COLOURS["line"], linewidth=1)
        for number, curve in enumerate(curves):
            _curve(axes, number, np.array(curve.fpr), np.array(curve.tpr), _band(curve))
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.01)
        axes.set_aspect("equal")
        _percent(axes, np.linspace(0, 1, 6))
        axes.set_xlabel("reals called fake: FPR (%)")
        axes.set_ylabel("fakes called fake: TPR (%)")
        return svg_element(
            figure, key, "ROC curves: true positive rate against false positive rate"
        )


def det_plot(curves: Sequence[Curves], key: str) -> str:
    """DET curves with their bands on axes of normal deviates, at most :data:`AT_ONCE`.

    Martin et al., The DET Curve in Assessment of Detection Task Performance (Eurospeech 1997):
    normal scores of equal spread give a straight line.
    """
    with styled_figure(4.3, 4.1) as figure:
        axes = figure.add_subplot()
        ends = _deviates(np.array([_LEAST, _MOST]))
        axes.plot(ends, ends, color=COLOURS["line"], linewidth=1)
        for number, curve in enumerate(curves):
            tpr = _band(curve)
            band = None if tpr is None else (_deviates(1 - tpr[0]), _deviates(1 - tpr[1]))
            fpr, fnr = np.array(curve.fpr), 1 - np.array(curve.tpr)
            _curve(axes, number, _deviates(fpr), _deviates(fnr), band)
        axes.set_xlim(*ends)
        axes.set_ylim(*ends)
        axes.set_aspect("equal")
        ticks, names = _deviates(np.array(_RATES)), [f"{100 * rate:g}" for rate in _RATES]
        axes.set_xticks(ticks, names)
        axes.set_yticks(ticks, names)
        axes.set_xlabel("reals called fake: FPR (%)")
        axes.set_ylabel("fakes called real: FNR (%)")
        return svg_element(
            figure, key, "DET curves: false negative rate against false positive rate"
        )


def reliability_plot(curve: Curves, threshold: float, key: str) -> str:
    """Share of fakes against P(fake), and below it how P(fake) spreads in each class."""
    with styled_figure(3.3, 4.1) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        if sum(curve.histogram_real) and sum(curve.histogram_fake):
            _reliability(upper, curve)
        else:  # a share of 0 or 1 everywhere says nothing about P(fake)
            upper.text(0.5, 0.5, "one class only", ha="center", va="center")
        upper.set_ylim(-0.03, 1.03)
        upper.set_yticks(np.linspace(0, 1, 6))
        upper.set_ylabel("share of fakes (0 to 1)")
        for name, counts in (("real", curve.histogram_real), ("fake", curve.histogram_fake)):
            _histogram(lower, name, np.array(curve.histogram_edges), np.array(counts, np.float64))
        lower.axvline(threshold, color=COLOURS["ink"], linewidth=1, dashes=(2, 2))
        lower.set_xlim(-0.01, 1.01)
        lower.set_ylim(bottom=0)
        lower.set_xlabel("P(fake), 0 to 1")
        lower.set_ylabel("% of class")
        label = "Reliability: share of fakes against P(fake); histograms of P(fake) by class"
        return svg_element(figure, key, label)


def _reliability(axes: Axes, curve: Curves) -> None:
    axes.plot([0, 1], [0, 1], color=COLOURS["line"], linewidth=1)
    colour, count = COLOURS["s1"], np.array(curve.bin_count, np.float64)
    area = 12 + 90 * count / max(count.max(initial=0.0), 1.0)
    axes.plot(curve.bin_p_fake, curve.bin_share_fake, color=colour, linewidth=1)
    axes.scatter(curve.bin_p_fake, curve.bin_share_fake, area, color=colour, alpha=0.8, zorder=3)


def robustness_plot(cells: Sequence[Robustness], key: str, metric: str = "auc") -> str:
    """A metric of one data set: a row for each kind of alteration, a column for each severity."""
    kinds = list(dict.fromkeys(cell.kind for cell in cells if cell.severity))
    columns = [0, *severities(cells)]
    at = {(cell.kind, cell.severity): cell for cell in cells}
    whole = next((cell for cell in cells if cell.severity == 0), None)
    with styled_figure(1.5 + 0.55 * len(columns), 0.9 + 0.32 * len(kinds)) as figure:
        axes = figure.add_subplot()
        for row, kind in enumerate(kinds):
            for column, severity in enumerate(columns):
                cell = at.get((kind, severity), whole if severity == 0 else None)
                measure = None if cell is None else matrix_measure(cell, metric)
                absent = "–" if cell is None else "n/a"
                _cell(axes, row, column, measure.interval if measure else None, absent, metric)
        axes.set_xlim(0, len(columns))
        axes.set_ylim(len(kinds), 0)
        axes.set_xticks(np.arange(len(columns)) + 0.5, ["as is", *(str(s) for s in columns[1:])])
        axes.set_yticks(np.arange(len(kinds)) + 0.5, kinds, parse_math=False)
        axes.set_xlabel("severity (1 mild, 5 strong)")
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        return svg_element(figure, key, f"{metric_name(metric)} by alteration and severity")


def _cell(
    axes: Axes, row: int, column: int, found: Interval | None, absent: str, metric: str
) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex
    from matplotlib.patches import Rectangle

    ink, fill = COLOURS["ink"], "none"
    if found is not None:
        worst, best = _ENDS[metric]
        share = min(max((found.value - worst) / (best - worst), 0.0), 1.0)
        red, green, blue, _ = colormaps["viridis"](share)
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < _DARK_BELOW
        ink, fill = "#ffffff" if dark else "#000000", to_hex((red, green, blue))
    text = absent if found is None else f"{found.value:.3f}"
    axes.add_patch(
        Rectangle((column + 0.02, row + 0.03), 0.96, 0.94, facecolor=fill, edgecolor="none")
    )
    axes.text(column + 0.5, row + 0.5, text, color=ink, ha="center", va="center", fontsize=9)


def _curve(axes: Axes, number: int, x: Array, y: Array, band: Band | None) -> None:
    colour = COLOURS[f"s{number + 1}"]
    if band is not None:
        axes.fill_between(x, band[0], band[1], color=colour, alpha=0.14, linewidth=0)
    # Points scaled by the width of the line would not be the dashes of the legend.
    axes.plot(x, y, color=colour, linewidth=1.6, dashes=[each / 1.6 for each in DASHES[number]])


def _band(curve: Curves) -> Band | None:
    """Lower and upper TPR, if there is a band."""
    low, high = np.array(curve.tpr_low, np.float64), np.array(curve.tpr_high, np.float64)
    return None if np.isnan(low).all() or np.isnan(high).all() else (low, high)


def _deviates(rates: Array) -> Array:
    """Standard normal deviates ``(K,)``; a rate beyond the ends of the plot lies outside of it."""
    normal = NormalDist()
    kept = np.clip(rates, _LEAST / 10, 1 - (1 - _MOST) / 10)
    return np.array([np.nan if np.isnan(rate) else normal.inv_cdf(float(rate)) for rate in kept])


def _percent(axes: Axes, rates: Array) -> None:
    names = [f"{100 * rate:.0f}" for rate in rates]
    axes.set_xticks(rates, names)
    axes.set_yticks(rates, names)


def _histogram(axes: Axes, name: str, edges: Array, counts: Array) -> None:
    total = counts.sum()
    if not total:
        return
    colour = COLOURS[name]
    axes.stairs(100 * counts / total, edges, fill=True, color=colour, alpha=0.25)
    dashed = "--" if name == "fake" else "-"
    axes.stairs(100 * counts / total, edges, color=colour, linewidth=1.4, linestyle=dashed)


@contextmanager
def styled_figure(width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches, in a style that nobody's settings change."""
    from matplotlib import style
    from matplotlib.figure import Figure

    ink = COLOURS["ink"]
    ours: dict[str, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "unmask",
        "font.size": 10,
        "axes.labelsize": 10,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.linewidth": 0.8,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": COLOURS["line"],
        "grid.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with style.context(["default", ours]):
        yield Figure(figsize=(width, height), layout="constrained")


def svg_element(figure: Figure, key: str, label: str) -> str:
    """The figure as an ``svg`` element for HTML: no namespaces, and only ids that are used."""
    buffer = io.BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue().decode("utf-8")
    box = _found(r'viewBox="([^"]*)"', text)
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    body = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(|xlink:href=")#([\w.-]+)', body))
    body = re.sub(
        r' id="([^"]*)"', lambda at: f' id="{key}-{at[1]}"' if at[1] in used else "", body
    )
    body = re.sub(r'(url\(|xlink:href=")#', lambda at: f"{at[1]}#{key}-", body)
    body = body.replace("xlink:href", "href")
    body = re.sub(r"font-family: [^;]*; ?", "", body)
    body = re.sub(r"\d+\.\d{4,}", lambda at: f"{float(at[0]):.2f}", body)
    for name, colour in COLOURS.items():
        body = body.replace(colour, f"var(--{name}, {colour})")
    lines = " ".join(body.split()).replace("> <", "><").strip()
    width = 96 * figure.get_figwidth()
    return (
        f'<svg class="plot" viewBox="{box}" style="width: {width:.0f}px" role="img" '
        f'aria-label="{label}">{lines}</svg>'
    )


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else ""
