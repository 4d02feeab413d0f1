"""A progress bar with rate and time left, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress", "stage"]


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[], None]]:
    """A function to call once per finished item. Draws on stderr if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Items per second over the recent past."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.1f}/s" if speed else "-/s")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def stage(what: str, total: int | None) -> Iterator[Callable[[], None]]:
    """:func:`progress`, and where stderr is no terminal one line on it that says what begins."""
    if not sys.stderr.isatty():
        count = "" if total is None else f": {total} item{'' if total == 1 else 's'}"
        sys.stderr.write(f"{what}{count}\n")
        sys.stderr.flush()
    with progress(what, total) as advance:
        yield advance
