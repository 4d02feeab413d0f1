"""Copies that a resumed run of ``unmask equalize`` no longer plans, since their inputs are gone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from unmask.equalize.journal import Row
from unmask.images import sha256

__all__ = ["remove_leftovers"]


def remove_leftovers(
    dst: Path, folder: str, *, planned: Iterable[Row], written: Iterable[Row]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What was removed below ``dst / folder``, and what stays there though nothing plans it.

    A file is removed only if the journal names it and it has the bytes that the journal notes;
    whatever else stands there is somebody's own.

    Args:
        dst: The destination.
        folder: That of the copies.
        planned: What the manifest lists.
        written: What the journal lists.

    Returns:
        Two lists of paths relative to ``dst``.

    Raises:
        OSError: a file cannot be read or removed.
    """
    kept = {row.path for row in planned}
    noted: dict[str, set[str]] = {}
    for row in written:
        noted.setdefault(row.path, set()).add(row.sha256)
    removed: list[str] = []
    strange: list[str] = []
    for path in sorted((dst / folder).rglob("*")):
        name = path.relative_to(dst).as_posix()
        if name in kept or not path.is_file():
            continue
        if sha256(path.read_bytes()) in noted.get(name, ()):
            path.unlink()
            removed.append(name)
        else:
            strange.append(name)
    return tuple(removed), tuple(strange)
