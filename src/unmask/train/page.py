"""``training.html``: how losses, learning rate and validation went, as one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from unmask.evaluate.plots import AT_ONCE, COLOURS, DASHES, styled_figure, svg_element
from unmask.evaluate.report_style import STYLE
from unmask.files import one_line, valid_text

__all__ = ["training_page"]

Lines = Sequence[Mapping[str, Any]]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_WINDOW = 0.02
"""Share of the steps over which losses are averaged."""
_NOT_LOSSES = frozenset({"step", "epoch", "lr", "gradient_norm", "crops_per_s"})


def training_page(lines: Lines, *, name: str, settings: str) -> str:
    """The page as one HTML document; the same log gives the same text.

    Args:
        lines: Of the log, see :func:`unmask.train.logs.read_log`.
        name: Of the detector.
        settings: As text.
    """
    steps = [line for line in lines if "loss" in line]
    evaluations = [line["validation"] for line in lines if "validation" in line]
    title = escape(one_line(f"Training of {name}"))
    body = [f"<h1>{title}</h1>"]
    if steps:
        body += ["<h2>Losses</h2>", _losses(steps)]
    if evaluations:
        body += ["<h2>Validation</h2>", _aucs(evaluations), _table(evaluations)]
    if steps:
        body += ["<h2>Learning rate</h2>", _lr(steps)]
    body += ["<h2>Settings</h2>", f"<pre><code>{escape(valid_text(settings))}</code></pre>"]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style></head>\n"
        "<body>" + "\n".join(body) + "</body></html>\n"
    )


def _losses(steps: Lines) -> str:
    names = [name for name in steps[0] if name not in _NOT_LOSSES]
    if len(names) == 2:  # the only part is the sum
        names = names[:1]
    width = max(1, round(_WINDOW * len(steps)))
    curves = {
        name: _smoothed(np.array([line[name] for line in steps], np.float64), width)
        for name in names[:AT_ONCE]
    }
    note = f"Mean of {width} steps each." if width > 1 else "Each step."
    return _plot(_numbers(steps), curves, "loss", "loss", note)


def _aucs(evaluations: Lines) -> str:
    curves = {"mean": np.array([each["mean_auc"] for each in evaluations], np.float64)}
    for row in evaluations[0]["rows"][: AT_ONCE - 1]:
        curves[row["dataset"]] = np.array(
            [_auc(each, row["dataset"]) for each in evaluations], np.float64
        )
    note = "One line for each data set of the validation part; a video counts once."
    return _plot(_numbers(evaluations), curves, "auc", "AUC", note)


def _lr(steps: Lines) -> str:
    rates = {"lr": np.array([line["lr"] for line in steps], np.float64)}
    return _plot(
        _numbers(steps), rates, "lr", "learning rate", "Of weights without a rate of their own."
    )


def _table(evaluations: Lines) -> str:
    names = [row["dataset"] for row in evaluations[0]["rows"]]
    header = "".join(f"<th>{escape(one_line(name))}</th>" for name in ("step", "mean", *names))
    best = max(evaluations, key=lambda each: each["mean_auc"])
    rows = []
    for each in evaluations:
        values = [each["mean_auc"], *(_auc(each, name) for name in names)]
        cells = "".join(f"<td>{value:.3f}</td>" for value in values)
        kept = ' class="mean"' if each is best else ""
        rows.append(f"<tr{kept}><th>{each['step']}</th>{cells}</tr>")
    return (
        f'<div class="wide"><table><caption>AUC; the shaded weights are kept</caption>'
        f"<thead><tr>{header}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _plot(
    steps: npt.NDArray[np.float64],
    curves: Mapping[str, npt.NDArray[np.float64]],
    key: str,
    what: str,
    note: str,
) -> str:
    with styled_figure(8.0, 3.2) as figure:
        axes = figure.add_subplot()
        for number, values in enumerate(curves.values()):
            marker = "o" if len(values) < 40 else ""
            axes.plot(
                steps,
                values,
                color=COLOURS[f"s{number + 1}"],
                linewidth=1.5,
                marker=marker,
                markersize=3,
                dashes=[each / 1.5 for each in DASHES[number]],
            )
        axes.set_xlabel("step")
        axes.set_ylabel(what)
        plot = svg_element(figure, key, f"{what} by step")
    return f"<figure>{plot}<figcaption>{note}</figcaption>{_legend(list(curves))}</figure>"


def _legend(names: Sequence[str]) -> str:
    if len(names) < 2:
        return ""
    items = []
    for number, name in enumerate(names):
        dashes = " ".join(f"{each:g}" for each in DASHES[number])
        line = (
            f'<svg viewBox="0 0 36 10"><line x1="0" x2="36" y1="5" y2="5" stroke-width="2" '
            f'stroke="var(--s{number + 1})" stroke-dasharray="{dashes}"/></svg>'
        )
        items.append(f"<li>{line}{escape(one_line(name))}</li>")
    return f'<ul class="legend">{"".join(items)}</ul>'


def _auc(evaluation: Mapping[str, Any], dataset: str) -> float:
    found = (row["auc"] for row in evaluation["rows"] if row["dataset"] == dataset)
    return next(found, float("nan"))


def _numbers(lines: Lines) -> npt.NDArray[np.float64]:
    return np.array([line["step"] for line in lines], np.float64)


def _smoothed(values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """Each the mean of itself and up to ``width - 1`` values before it."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    result: npt.NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return result
