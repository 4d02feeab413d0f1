"""The folder of a search: tables, and the winner as a detector; whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from unmask.errors import OutputError
from unmask.models.checkpoint import save
from unmask.models.modeling import UnmaskForImageClassification

__all__ = ["DETECTOR", "check_sweep_folder", "write_sweep"]

DETECTOR = "best"
"""Name of the winner's folder."""

_TABLES = ("sweep.json", "sweep.csv", "sweep.md")


def check_sweep_folder(folder: Path, *, overwrite: bool) -> None:
    """Nothing, if a search may be written there: no folder, an empty one, or one to replace.

    Raises:
        OutputError: it is a file, holds something else than a search, or may not be replaced.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is not a folder; name a new folder for the search")
    found = {each.name for each in folder.iterdir()}
    if not found:
        return
    if _TABLES[0] not in found or found - {*_TABLES, DETECTOR}:
        raise OutputError(
            f"{folder} exists and holds something else than a search, so it is never replaced; "
            "name another folder"
        )
    if not overwrite:
        raise OutputError(
            f"{folder} holds a search already; name another folder, or allow to overwrite it "
            "(--overwrite)"
        )


def write_sweep(
    folder: Path,
    tables: Mapping[str, str],
    model: UnmaskForImageClassification,
    *,
    card: str,
    overwrite: bool,
) -> None:
    """Write the tables and the winner; the folder appears complete or not at all.

    Args:
        folder: As :func:`check_sweep_folder` allows it.
        tables: Text by file name.
        model: The winner.
        card: Its model card.
        overwrite: Whether another search may be replaced.

    Raises:
        OutputError: as :func:`check_sweep_folder`, or the folder cannot be written.
    """
    check_sweep_folder(folder, overwrite=overwrite)
    folder = folder.resolve()
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:200]}.", dir=folder.parent))
        new, old = temporary / "new", temporary / "old"
        new.mkdir()
        save(model, new / DETECTOR, card=card)
        for name, text in tables.items():
            (new / name).write_text(text, encoding="utf-8", newline="\n")
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error}; make room or name another folder"
        ) from error
    finally:
        if temporary is not None:
            _put_back(temporary, folder)
            shutil.rmtree(temporary, ignore_errors=True)


def _put_back(temporary: Path, folder: Path) -> None:
    """The former folder, where the new one could not take its place."""
    old = temporary / "old"
    if old.exists() and not folder.exists():
        old.rename(folder)
