"""Pieces of the page of a report: tables, bars, legends, and text that is never markup."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from unmask.evaluate.evaluation import Item, Slice
from unmask.evaluate.intervals import Interval
from unmask.evaluate.plots import DASHES
from unmask.evaluate.report_tables import Cell, Table, interval_text, share_text
from unmask.files import one_line, valid_text

__all__ = [
    "definitions",
    "error_card",
    "footnotes",
    "legend",
    "listed",
    "slice_table",
    "table",
    "text",
]

_BAR = 130
"""Width of the longest bar, in pixels."""
_ENDS = (0.05, 0.1, 0.2, 0.5, 1.0)

_REASONS_SHOWN = 4


def text(value: object) -> str:
    """Anything as text of one line that HTML shows as it is."""
    return escape(valid_text(one_line(str(value))))


def table(given: Table, classes: Sequence[str] = (), *, caption: bool = True) -> str:
    """The table with its footnotes; ``classes`` are those of its rows."""
    names = given.names
    head = "".join(
        f'<th scope="col"{_name_class(number < names)}>{_unbroken(text(title))}</th>'
        for number, title in enumerate(given.header)
    )
    rows = []
    for number, row in enumerate(given.rows):
        mark = f' class="{classes[number]}"' if number < len(classes) and classes[number] else ""
        cells = "".join(_cell(cell, at, names) for at, cell in enumerate(row))
        rows.append(f"<tr{mark}>{cells}</tr>\n")
    title = f"<caption>{text(given.title)}</caption>" if caption else ""
    body = f"<table>{title}<thead><tr>{head}</tr></thead>\n<tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="wide">{body}</div>{footnotes(given.footnotes)}\n'


def footnotes(notes: Sequence[str]) -> str:
    """What the marks beside numbers stand for; empty without any."""
    return f'<ol class="foot">{_items(notes)}</ol>' if notes else ""


def _items(notes: Sequence[str]) -> str:
    return "".join(f"<li>{text(note)}</li>" for note in notes)


def _cell(cell: Cell, at: int, names: int) -> str:
    note = f"<sup>{cell.note}</sup>" if cell.note else ""
    details = "".join(f"<small>{text(each)}</small>" for each in cell.details)
    inside = f"{text(cell.text)}{note}{details}"
    if at == 0:
        return f'<th scope="row" class="name">{inside}</th>'
    return f"<td{_name_class(at < names)}>{inside}</td>"


def _unbroken(title: str) -> str:
    """A title whose numbers, signs and arrows stay with the word before them."""
    return re.sub(r" (?=[\d%↑↓])", "\xa0", title)


def _name_class(is_name: bool) -> str:
    return ' class="name"' if is_name else ""


def slice_table(slices: Sequence[Slice], worst: Slice | None) -> str:
    """Shares of errors in each slice, as bars with their intervals."""
    fpr_end, fnr_end = _end(each.fpr for each in slices), _end(each.fnr for each in slices)
    rows = []
    for each in slices:
        mark = ' class="worst"' if each == worst else ""
        rows.append(
            f'<tr{mark}><th scope="row" class="name">{text(each.column)}</th>'
            f'<td class="name">{text(each.value)}</td><td>{each.n_real:,} / {each.n_fake:,}</td>'
            f"{_rate(each.fpr, 'real', 'no reals', fpr_end)}"
            f"{_rate(each.fnr, 'fake', 'no fakes', fnr_end)}</tr>\n"
        )
    head = (
        '<th scope="col" class="name">Column</th><th scope="col" class="name">Value</th>'
        '<th scope="col">Real / fake</th><th scope="col">Reals called fake: FPR</th>'
        f'<th scope="col" class="name">bar: 0 to {100 * fpr_end:.0f}\xa0%</th>'
        '<th scope="col">Fakes not called fake: FNR</th>'
        f'<th scope="col" class="name">bar: 0 to {100 * fnr_end:.0f}\xa0%</th>'
    )
    body = f"<thead><tr>{head}</tr></thead>\n<tbody>{''.join(rows)}</tbody>"
    return f'<div class="wide"><table>{body}</table></div>\n'


def _end(intervals: Iterable[Interval | None]) -> float:
    """The share where the bars of a column end: a round one that holds all of them."""
    known = [each for each in intervals if each is not None]
    most = max((max((each.value, *_bounds(each))) for each in known), default=1.0)
    return next(end for end in _ENDS if end >= most)


def _bounds(interval: Interval) -> tuple[float, ...]:
    bounds = (interval.low, interval.high)
    return () if any(math.isnan(bound) for bound in bounds) else bounds


def _rate(interval: Interval | None, colour: str, without: str, end: float) -> str:
    if interval is None:
        return f'<td>n/a<small>{without}</small></td><td aria-hidden="true"></td>'
    bounds = interval_text(interval, percent=True)
    return (
        f"<td>{share_text(interval.value)}<small>{bounds}</small></td>"
        f'<td aria-hidden="true">{_bar(interval, colour, end)}</td>'
    )


def _bar(interval: Interval, colour: str, end: float) -> str:
    """A bar for the share and a line for its interval."""
    whisker = ""
    if bounds := _bounds(interval):
        low, high = (bound / end * _BAR for bound in bounds)
        whisker = (
            f'<path d="M{low:.1f} 7H{high:.1f}M{low:.1f} 4V10M{high:.1f} 4V10" '
            'stroke="var(--ink)" fill="none"/>'
        )
    return (
        f'<svg class="bar" viewBox="0 0 {_BAR} 14"><rect width="{_BAR}" height="14" '
        f'fill="var(--line)" opacity=".35"/><rect width="{interval.value / end * _BAR:.1f}" '
        f'height="14" fill="var(--{colour})" opacity=".6"/>{whisker}</svg>'
    )


def legend(names: Sequence[tuple[str, str]]) -> str:
    """The lines of a plot in its order: name, and what belongs to it."""
    lines = "".join(
        f'<li><svg viewBox="0 0 36 10" aria-hidden="true"><path d="M0 5H36" '
        f'stroke="var(--s{number + 1})" stroke-width="2" '
        f'stroke-dasharray="{" ".join(map(str, DASHES[number])) or "none"}"/></svg>'
        f'{text(name)} <span class="soft">{text(more)}</span></li>'
        for number, (name, more) in enumerate(names)
    )
    return f'<ul class="legend">{lines}</ul>'


def error_card(item: Item) -> str:
    """A wrong answer with its picture, if it is one that stands in the page itself."""
    what = "real, called fake" if item.label == 0 else "fake, called real"
    name = item.source.replace("\\", "/").rsplit("/", 1)[-1] or item.source
    if item.thumbnail.startswith("data:image/"):
        label = text(f"{name}: {what}, P(fake) {item.p_fake:.3f}")
        picture = f'<img src="{escape(item.thumbnail)}" alt="{label}">'
    else:
        picture = '<div class="empty">picture not available</div>'
    hidden = len(item.reasons) - _REASONS_SHOWN
    reasons = [*item.reasons[:_REASONS_SHOWN], *([f"and {hidden} more"] if hidden > 0 else [])]
    told = "".join(f"<li>{text(reason)}</li>" for reason in reasons)
    return (
        f'<article>{picture}<div><h3 title="{text(item.source)}">{text(name)}</h3>'
        f"{what}; P(fake) <b>{item.p_fake:.3f}</b><br>"
        f'<span class="soft">{text(item.dataset)}</span>'
        f"{f'<ul>{told}</ul>' if told else ''}</div></article>\n"
    )


def definitions(values: Mapping[str, str]) -> str:
    """Names and values; a value is HTML."""
    return "<dl>" + "".join(f"<dt>{text(n)}</dt><dd>{v}</dd>" for n, v in values.items()) + "</dl>"


def listed(notes: Sequence[str]) -> str:
    """Sentences as a list."""
    return f"<ul>{_items(notes)}</ul>"
