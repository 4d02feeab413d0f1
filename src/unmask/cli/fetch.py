"""``unmask fetch``: files that the package may not carry."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from unmask.fetch import Progress

__all__ = ["fetch"]


def fetch(
    what: Annotated[
        Literal["landmarks"], typer.Argument(help="landmarks: the 81-point file of dlib81.")
    ],
    source: Annotated[
        str | None,
        typer.Option("--from", help="File or http(s) address to take it from."),
    ] = None,
    destination: Annotated[
        Path | None,
        typer.Option("--to", help="Where to put it; default: where dlib81 looks for it."),
    ] = None,
) -> None:
    """Get a file, check its hash, put it where it is looked for; prints its path.

    Goes on with a download that broke off. Does nothing if the file is there.

    Example: unmask fetch landmarks
    """
    from unmask.fetch import fetch_landmarks

    with _bar(what) as progress:
        path = fetch_landmarks(destination, source=source, progress=progress)
    typer.echo(path)
    sys.stderr.write(
        "Terms: repository BSD-3-Clause; trained on iBUG 300-W, which is for research only.\n"
    )


@contextmanager
def _bar(what: str) -> Iterator[Progress | None]:
    """Bytes on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(
        TextColumn("{task.description}"), *columns, console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
