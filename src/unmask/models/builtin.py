"""The detectors that ship with the package, by name."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from unmask.errors import UnknownDetector, near_names

__all__ = ["BUILTINS", "DEFAULT", "builtin_folder"]

DEFAULT = "builtin"
"""The name that stands for the detector used where none is named."""

BUILTINS: dict[str, str] = {
    DEFAULT: "face-vits14",
    "face-vits14": "face-vits14",
}
"""Name to folder, under ``unmask/models/builtin``."""


def builtin_folder(name: str) -> Path:
    """The folder of a built-in detector.

    Raises:
        UnknownDetector: If there is none of that name, or this installation lacks its files.
    """
    if name not in BUILTINS:
        raise UnknownDetector(
            f"there is no built-in detector {name!r}. {near_names(name, BUILTINS)}"
        )
    folder = Path(str(files("unmask.models") / "builtin" / BUILTINS[name]))
    if not (folder / "config.json").is_file():
        raise UnknownDetector(
            f"the built-in detector {BUILTINS[name]!r} is not part of this installation "
            f"({folder} is missing); reinstall unmask, or name a detector folder or Hub id"
        )
    return folder
