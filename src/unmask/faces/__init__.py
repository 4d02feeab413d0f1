"""Faces in a picture: what a finder is, which ones there are, how one is chosen.

A finder knows no crop and ``align`` knows no finder. Neither cv2 nor dlib is imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from unmask.errors import ConfigError, near_names
from unmask.types import Face, Image

__all__ = ["FINDERS", "FaceFinder", "by_area", "largest", "make_finder"]

FINDERS: tuple[str, ...] = ("yunet", "dlib81")


class FaceFinder(Protocol):
    """Finds faces in one picture at a time.

    A finder object need not be thread-safe, it may keep buffers between calls: make one per
    thread. What it finds must not depend on what it was given before.
    """

    name: str
    """The name by which :func:`make_finder` knows it."""

    def find(self, image: Image) -> list[Face]:
        """All faces of an RGB picture, largest box first; equal ones in the finder's order."""


def make_finder(name: str, *, landmark_model: Path | None = None) -> FaceFinder:
    """A new finder of that name, for one thread.

    Args:
        name: One of :data:`FINDERS`.
        landmark_model: dlib file with 68 or 81 points, for ``dlib81`` only; ``None`` is where
            ``unmask fetch landmarks`` puts it.

    Raises:
        ConfigError: No finder of that name, or a landmark file for one that takes none.
        LandmarkFileError: The landmark file is missing or not the expected one.
    """
    if name == "dlib81":
        from unmask.faces.dlib81 import Dlib81

        return Dlib81(landmark_model)
    if name != "yunet":
        raise ConfigError(f"there is no face finder {name!r}. {near_names(name, FINDERS)}")
    if landmark_model is not None:
        raise ConfigError(
            f"the landmark file {landmark_model} was given with the finder 'yunet', which has its "
            "landmarks built in. Leave the file out, or choose the finder 'dlib81'."
        )
    from unmask.faces.yunet import YuNet

    return YuNet()


def by_area(faces: Sequence[Face]) -> list[Face]:
    """The faces, largest box first; equal ones keep their order."""
    return sorted(faces, key=_area, reverse=True)


def largest(faces: Sequence[Face]) -> Face | None:
    """The face with the largest box, the first of equal ones; ``None`` where there is none."""
    return max(faces, key=_area, default=None)


def _area(face: Face) -> float:
    left, top, right, bottom = face.box_xyxy
    return (right - left) * (bottom - top)
