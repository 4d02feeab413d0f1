"""The tables that ``unmask audit`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from unmask.audit.columns import ALL, GROUPS
from unmask.audit.verdict import CAUTION_AUC, LEAK_AUC
from unmask.files import one_line

if TYPE_CHECKING:
    from unmask.audit.profile import Cell, Spread
    from unmask.audit.separability import Separability
    from unmask.audit.verdict import Level

__all__ = ["cells_table", "level_style", "separability_table"]

_NAMES = {0: "real", 1: "fake", None: "unknown"}


def level_style(level: Level) -> str:
    """The colour of a level on a terminal."""
    return {"clean": "green", "not_tested": "yellow", "caution": "yellow", "leak": "red"}[level]


def cells_table(cells: Sequence[Cell]) -> Table:
    """How many pictures of which kind, by data set, split and label; medians over their ranges."""
    table = _table("Data")
    table.add_column("data set", overflow="fold")
    has_splits = any(cell.split for cell in cells)
    if has_splits:
        table.add_column("split", overflow="fold")
    table.add_column("label", overflow="fold")
    for name in ("pictures", "units", "not\nread"):
        table.add_column(name, justify="right", overflow="fold")
    for name in ("format", "width", "height", "JPEG\nquality", "bytes\nper pixel"):
        table.add_column(name, overflow="fold")
    for cell in cells:
        table.add_row(
            _text(cell.dataset or "-"),
            *([_text(cell.split or "-")] if has_splits else []),
            _NAMES[cell.label],
            str(cell.n),
            str(cell.n_units),
            str(cell.n_unread),
            _formats(cell.formats),
            _spread(cell.width),
            _spread(cell.height),
            _spread(cell.jpeg_quality),
            _spread(cell.bytes_per_pixel),
        )
    return table


def separability_table(rows: Sequence[Separability]) -> Table:
    """AUC by data set and group of features; coloured as the level it stands for.

    Where there is none, a finding says why; a sentence is too wide for a cell.
    """
    table = _table(
        "AUC of telling real from fake by (0.5 is chance; name and metadata: no detector sees)"
    )
    table.add_column("data set", overflow="fold")
    for group in GROUPS:
        name = "together" if group == ALL else group
        table.add_column(name, justify="right", overflow="fold")
    lines: dict[tuple[str, str], list[Separability]] = {}
    for row in rows:
        lines.setdefault((row.dataset, row.against), []).append(row)
    several = len(lines) > 1
    for (dataset, against), found in lines.items():
        name = dataset or ("all together" if several else "-")
        who = f"{name} (with {against} of others)" if against else name
        table.add_row(_text(who), *(_cell(row) for row in found))
    return table


def _table(title: str) -> Table:
    """With few lines, so that it fits a terminal of 100 columns; what does not fit is wrapped."""
    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        pad_edge=False,
    )


def _cell(row: Separability) -> Text:
    if row.auc is None or row.low is None:
        return Text("n/a")
    sure = row.low > 0.5
    style = "red" if row.auc >= LEAK_AUC and sure else ""
    if CAUTION_AUC <= row.auc < LEAK_AUC and sure:
        style = "yellow"
    return Text(f"{row.auc:.2f}", style=style)


def _formats(formats: Sequence[tuple[str, int]]) -> str:
    if len(formats) == 1:
        return formats[0][0]
    return "\n".join(f"{name} {count}" for name, count in formats)


def _spread(spread: Spread | None) -> str:
    """The median, and on a second line the ends where they differ."""
    if spread is None:
        return "-"
    if spread.low == spread.high:
        return f"{spread.median:.4g}"
    if spread.high < 10:
        return f"{spread.median:.2f}\n{spread.low:.2f}-{spread.high:.2f}"
    return f"{spread.median:.0f}\n{spread.low:.0f}-{spread.high:.0f}"


def _text(value: str) -> Text:
    return Text(one_line(value))
