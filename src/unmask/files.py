"""Files that are whole or not there, and names that can stand in them."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock

__all__ = ["held", "one_line", "replacing", "valid_text"]


@contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """A text file (utf-8) that takes the place of ``path`` when the block ends without error."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """A lock file that nobody else holds while the block runs; it is gone afterwards.

    Raises:
        filelock.Timeout: If somebody holds it.
        OSError: If it cannot be made.
    """
    lock = FileLock(path, timeout=0)
    lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):  # a system that keeps open files: it stays, and harms nobody
            path.unlink()  # first, while nobody else can hold it
        lock.release()


def valid_text(text: str) -> str:
    r"""``text`` as utf-8 can hold it: bytes of a file name that are no utf-8 are spelt out.

    >>> valid_text("\udcff.png")
    '\\udcff.png'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: str) -> str:
    r"""``text`` on one line that a terminal shows as it is: no control characters.

    >>> one_line("a\nb")
    'a\\nb'
    """
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        else character
        for character in text
    )
