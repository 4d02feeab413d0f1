"""The tables that ``unmask audit`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

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
    """How many pictures of which kind, by data set, split and label."""
    table = Table(title="Data", title_justify="left")
    table.add_column("data set", no_wrap=True)
    table.add_column("split")
    table.add_column("label")
    for name in ("pictures", "units", "not read"):
        table.add_column(name, justify="right")
    for name in ("format", "width", "height", "JPEG quality", "bytes/pixel"):
        table.add_column(name)
    for cell in cells:
        table.add_row(
            _text(cell.dataset or "-"),
            _text(cell.split or "-"),
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
    """AUC by data set and group of features; coloured as the level it stands for."""
    title = "AUC of telling real from fake by (0.5 is chance; name and metadata: no detector sees)"
    table = Table(title=title, title_justify="left")
    table.add_column("data set", no_wrap=True)
    for group in GROUPS:
        table.add_column("together" if group == ALL else group, justify="right")
    lines: dict[tuple[str, str], list[Separability]] = {}
    for row in rows:
        lines.setdefault((row.dataset, row.against), []).append(row)
    several = len(lines) > 1
    for (dataset, against), found in lines.items():
        name = dataset or ("all together" if several else "-")
        who = f"{name} (with {against} of others)" if against else name
        if all(row.auc is None for row in found):
            table.add_row(_text(who), Text(found[0].reason))
        else:
            table.add_row(_text(who), *(_cell(row) for row in found))
    return table


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
    return ", ".join(f"{name} {count}" for name, count in formats)


def _spread(spread: Spread | None) -> str:
    """The median, and the ends where they differ."""
    if spread is None:
        return "-"
    if spread.low == spread.high:
        return f"{spread.median:.4g}"
    if spread.high < 10:
        return f"{spread.median:.2f} ({spread.low:.2f}-{spread.high:.2f})"
    return f"{spread.median:.0f} ({spread.low:.0f}-{spread.high:.0f})"


def _text(value: str) -> Text:
    return Text(one_line(value))
