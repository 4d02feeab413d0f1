"""Versions of what decides a score, for the record in every result."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

import unmask

__all__ = ["versions"]

_DECIDING = ("torch", "transformers", "opencv-python-headless", "pillow", "numpy")


@cache
def versions() -> dict[str, str]:
    """Distribution name to version: this package and the libraries between bytes and score."""
    return {"unmask": unmask.__version__} | {name: version(name) for name in _DECIDING}
