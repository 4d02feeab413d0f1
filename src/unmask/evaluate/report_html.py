"""``report.html``: an evaluation as one page that needs nothing else, for screen and paper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unmask.evaluate.evaluation import Curves, Evaluation, Row
from unmask.evaluate.plots import AT_ONCE, det_plot, reliability_plot, robustness_plot, roc_plot
from unmask.evaluate.report_facts import (
    headline,
    missing_counts,
    not_drawn,
    notes,
    provenance,
    row_notes,
    settings,
    summary,
    timing,
    timing_note,
    worst,
)
from unmask.evaluate.report_parts import (
    definitions,
    error_card,
    footnotes,
    legend,
    listed,
    slice_table,
    table,
    text,
)
from unmask.evaluate.report_robustness import (
    about_stability,
    absent,
    drawn_matrices,
    matrices,
    matrix_metrics,
    matrix_title,
    robustness_table,
    stability_tables,
)
from unmask.evaluate.report_style import STYLE
from unmask.evaluate.report_tables import (
    GUIDE,
    Cell,
    comparison_table,
    interval_text,
    measure_cell,
    metric_name,
    result_tables,
    row_name,
    share_text,
    unit_name,
    units_name,
)

__all__ = ["write_html"]

_CARDS = (
    "auc", "eer", "tpr_at_fpr_1", "false_positive_rate", "true_positive_rate", "ece",
    "average_precision", "accuracy",
)  # fmt: skip
_MOST_CARDS = 6
"""The first of these that a row has stand above everything."""

_MISSING_SHOWN = 500
"""Items without a score that the page lists; ``report.json`` has them all."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_html(evaluation: Evaluation) -> str:
    """The page as one HTML document; the same evaluation gives the same text.

    Nothing is loaded from anywhere, and the page forbids it by its content security policy. Names
    from the data are text, never markup.
    """
    sections = [(title, body) for title, body in _sections(evaluation) if body]
    links = "\n".join(f'<a href="#{_anchor(title)}">{title}</a>' for title, _ in sections)
    bodies = "".join(
        f'<section><h2 id="{_anchor(title)}">{title}</h2>\n{body}</section>\n'
        for title, body in sections
    )
    name = text(evaluation.detector.id)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Evaluation of {name}</title>\n<style>{STYLE}</style></head>\n"
        f"<body><header><h1>Evaluation of {name}</h1>\n"
        f'<p class="soft">{text(summary(evaluation))}</p></header>\n'
        f'<main>{_cards(evaluation)}{_notes(evaluation)}<nav aria-label="Sections">{links}</nav>\n'
        f"{bodies}</main></body></html>\n"
    )


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _sections(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    yield "Results", _results(evaluation)
    yield "Generators", _generators(evaluation)
    yield "ROC and DET curves", _curves(evaluation)
    yield "Reliability and scores", _reliability(evaluation)
    yield "Slices", _slices(evaluation)
    yield "Comparison", _comparison(evaluation)
    yield "Robustness", _robustness(evaluation)
    yield "Stability", _stability(evaluation)
    yield "Most confident errors", _errors(evaluation)
    yield "Not scored", _missing(evaluation)
    yield "Timing", _timing(evaluation)
    yield "Provenance", _provenance(evaluation)


def _cards(evaluation: Evaluation) -> str:
    row = headline(evaluation)
    if row is None:
        return ""
    measures = {measure.name: measure for measure in row.measures}
    names = [name for name in _CARDS if name in measures][:_MOST_CARDS]
    said: list[str] = []
    cards = [
        _card(metric_name(name), measure_cell(measures[name], evaluation.bootstraps, said))
        for name in names
    ]
    coverage = row.coverage
    if coverage.given:
        share = share_text(coverage.scored / coverage.given)
        counted = f"{coverage.scored:,} of {coverage.given:,} {units_name(row, coverage.given)}"
        cards.append(_card("Scored", Cell(share, (counted,))))
    units = units_name(row, 2)
    return (
        f"<p><strong>{text(row_name(row))}</strong>: {row.n_real:,} real and {row.n_fake:,} fake "
        f'{units}</p>\n<div class="cards">{"".join(cards)}</div>\n{footnotes(said)}'
    )


def _card(name: str, cell: Cell) -> str:
    mark = f"<sup>{cell.note}</sup>" if cell.note else ""
    more = "".join(f"<small>{text(each)}</small>" for each in cell.details)
    return f'<div class="card"><span>{text(name)}</span><b>{text(cell.text)}{mark}</b>{more}</div>'


def _notes(evaluation: Evaluation) -> str:
    said = notes(evaluation)
    if not said:
        return ""
    return f'<div class="notes" role="note"><b>Read first</b>{listed(said)}</div>\n'


def _results(evaluation: Evaluation) -> str:
    rows = [row for row in evaluation.rows if row.kind != "generator"]
    if not rows:
        return "<p>Nothing was measured.</p>"
    return f'{_tables(rows, evaluation.bootstraps)}<p class="soft">{text(GUIDE)}</p>'


def _generators(evaluation: Evaluation) -> str:
    rows = [row for row in evaluation.rows if row.kind == "generator"]
    if not rows:
        return ""
    said = (
        "<p>The fakes of one generator against the reals of the data sets in which it occurs; "
        "without any such real, what needs both classes is n/a.</p>"
    )
    return said + _tables(rows, evaluation.bootstraps)


def _tables(rows: Sequence[Row], bootstraps: int) -> str:
    classes = [row.kind if row.kind in {"mean", "all"} else "" for row in rows]
    found = result_tables(rows, bootstraps)
    tables = "".join(f"<div>{table(each, classes)}</div>" for each in found)
    said = row_notes(rows)
    return f'<div class="tables">{tables}</div>' + (
        f'<div class="soft">{listed(said)}</div>' if said else ""
    )


def _curves(evaluation: Evaluation) -> str:
    found = []
    drawn = [curve for curve in evaluation.curves if curve.fpr]
    for number in range(0, len(drawn), AT_ONCE):
        some = drawn[number : number + AT_ONCE]
        names = [_line_of(evaluation, curve) for curve in some]
        found.append(
            f'{legend(names)}<div class="plots curves"><figure>{roc_plot(some, f"roc{number}")}'
            "<figcaption>ROC: further up is better; the grey line is guessing.</figcaption>"
            f"</figure><figure>{det_plot(some, f'det{number}')}<figcaption>DET, on axes of normal "
            "deviates: further down is better; the EER is where a line meets the grey one. A line "
            "that leaves the plot has no such errors in the data.</figcaption></figure></div>\n"
        )
    if not found:
        return ""
    band = "Bands: 95 % of the resamples at each false positive rate by itself."
    return f'{_not_drawn(evaluation)}{"".join(found)}<p class="soft">{band}</p>'


def _not_drawn(evaluation: Evaluation) -> str:
    said = not_drawn(evaluation)
    return f"<p>{text(said)}</p>" if said else ""


def _line_of(evaluation: Evaluation, curve: Curves) -> tuple[str, str]:
    """What the legend says of a curve: the name of its row, and its AUC."""
    row = _row_of(evaluation, curve)
    if row is None:
        return curve.name, unit_name(curve.unit, 2)
    found = [each.interval for each in row.measures if each.name == "auc" and each.interval]
    said = [f"AUC {each.value:.3f} {interval_text(each)}" for each in found]
    return row_name(row), ", ".join([units_name(row, 2), *said])


def _row_of(evaluation: Evaluation, curve: Curves) -> Row | None:
    rows = (row for row in evaluation.rows if row.kind != "generator")
    return next((row for row in rows if (row.name, row.unit) == (curve.name, curve.unit)), None)


def _reliability(evaluation: Evaluation) -> str:
    plots = []
    for number, curve in enumerate(evaluation.curves):
        plot = reliability_plot(curve, evaluation.threshold.value, f"rel{number}")
        name, more = _line_of(evaluation, curve)
        plots.append(f"<figure><h3>{text(name)} ({text(more.split(',')[0])})</h3>{plot}</figure>")
    if not plots:
        return ""
    return _not_drawn(evaluation) + (
        "<p>Above: the share of fakes among items of about the same P(fake). On the grey line, "
        "P(fake) is what it says; the larger a point, the more items. Below: how P(fake) spreads, "
        "<b>real</b> blue and unbroken, <b>fake</b> orange and dashed; the dotted line is the "
        f'threshold.</p><div class="plots">{"".join(plots)}</div>'
    )


def _slices(evaluation: Evaluation) -> str:
    if not evaluation.slices:
        return ""
    said = worst(evaluation)
    return (
        f"{f'<p>{text(said)}</p>' if said else ''}"
        f"{slice_table(evaluation.slices, evaluation.worst_slice)}"
        '<p class="soft">Intervals: Clopper-Pearson, 95 %, as if items were independent; the line '
        "in a bar is the interval.</p>"
    )


def _comparison(evaluation: Evaluation) -> str:
    if not evaluation.comparisons:
        return ""
    return table(comparison_table(evaluation.comparisons, evaluation.bootstraps), caption=False)


def _robustness(evaluation: Evaluation) -> str:
    if not evaluation.robustness:
        return ""
    blocks, rest = [], []
    drawn = drawn_matrices(evaluation)
    for number, (name, here) in enumerate(matrices(evaluation).items()):
        title, metrics = text(matrix_title(name, here)), matrix_metrics(here)
        tables = "".join(
            table(robustness_table(here, evaluation.bootstraps, metric)) for metric in metrics
        )
        if name not in drawn:
            rest.append(f"<details><summary>{title}</summary>{tables}</details>")
            continue
        why = f'<p class="soft">{text(absent(here))}</p>' if absent(here) else ""
        plots = "".join(
            f"<figure><figcaption>{metric_name(metric)}</figcaption>"
            f"{robustness_plot(here, f'rob{number}{metric}', metric)}</figure>"
            for metric in metrics
        )
        shown = (
            f'<div class="plots">{plots}</div>{why}'
            f"<details><summary>With intervals and coverage</summary>{tables}</details>"
        )
        blocks.append(f"<h3>{title}</h3>{shown if metrics else why}")
    return (
        "<p>AUC of the same items after an alteration, and FPR and TPR at the threshold; the whole "
        "flow ran again on them. The darker, the worse: AUC down to 0.5 (guessing), FPR up to 0.5, "
        f"TPR down to 0.</p>{''.join(blocks)}"
        f"{_not_drawn(evaluation) if rest else ''}{''.join(rest)}"
    )


def _stability(evaluation: Evaluation) -> str:
    if not evaluation.stability:
        return ""
    tables = "".join(f"<div>{table(each)}</div>" for each in stability_tables(evaluation.stability))
    return f'<p>{text(about_stability(evaluation))}</p><div class="tables">{tables}</div>'


def _errors(evaluation: Evaluation) -> str:
    if not evaluation.errors:
        return ""
    cards = "".join(error_card(item) for item in evaluation.errors)
    said = "Reals called fake and fakes called real, the surest first; not what is inconclusive."
    return f'<p>{said}</p><div class="errors">{cards}</div>'


def _missing(evaluation: Evaluation) -> str:
    missing = evaluation.missing
    if not missing:
        return f"<p>{text(missing_counts(evaluation))}</p>"
    rows = "".join(
        f'<tr><th scope="row" class="name">{text(source)}</th><td class="name">{text(status)}</td>'
        f'<td class="name">{text(reason)}</td></tr>\n'
        for source, status, reason in missing[:_MISSING_SHOWN]
    )
    more = len(missing) - _MISSING_SHOWN
    rest = f"<p>And {more:,} more, all of them in report.json.</p>" if more > 0 else ""
    head = "".join(f'<th scope="col" class="name">{n}</th>' for n in ("Source", "Status", "Reason"))
    return (
        f"<p>{text(missing_counts(evaluation))} They are counted in the tables under "
        f"“Scored”.</p><details><summary>Each with its reason</summary>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        f"{rest}</details>"
    )


def _timing(evaluation: Evaluation) -> str:
    if not evaluation.timing:
        return ""
    said = timing_note(evaluation)
    facts = definitions({name: text(value) for name, value in timing(evaluation).items()})
    return f"{f'<p>{text(said)}</p>' if said else ''}{facts}"


def _provenance(evaluation: Evaluation) -> str:
    facts, options = (
        definitions({name: f"<code>{text(value)}</code>" for name, value in values.items()})
        for values in (provenance(evaluation), settings(evaluation))
    )
    return facts + (f"<h3>Settings</h3>{options}" if evaluation.settings else "")
