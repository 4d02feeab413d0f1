"""Standard output and error as they are found: closed, full, or with nobody reading any more."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import typer

from unmask.errors import OutputError, UnmaskWarning

__all__ = ["open_closed_streams", "plain_warnings", "say", "terminable"]


def open_closed_streams() -> None:
    """Streams that the caller closed (``2>&-``) take everything and show nothing."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (lives on)


def plain_warnings() -> None:
    """Our warnings are a sentence on stderr; those of libraries stay as they are."""
    usual = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, UnmaskWarning):
            sys.stderr.write(f"warning: {message}\n")
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.showwarning = show


def say(line: str, *, go_on: bool) -> None:
    """One line on stdout, at once.

    A reader that went away (``| head``) is no error where there is something else to write
    (``go_on``): stdout is silent from then on. Else the command ends quietly with exit code 1,
    which the command line parser does for every broken pipe.

    Raises:
        OutputError: stdout cannot be written (a full disk, for example).
    """
    try:
        typer.echo(line)
    except BrokenPipeError:
        if not go_on:
            raise
        _silence()
    except OSError as error:
        _silence()
        raise OutputError(
            f"standard output cannot be written: {error.strerror}. Make room, or give -o FILE."
        ) from error


def _silence() -> None:
    """From here on stdout shows nothing, not even what its buffer still holds."""
    with suppress(OSError):  # not a file of the system
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (lives on)


@contextmanager
def terminable() -> Iterator[None]:
    """A request to end (SIGTERM) in this block is an interruption, as Ctrl-C is."""
    if threading.current_thread() is not threading.main_thread():  # the system allows it no other
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
