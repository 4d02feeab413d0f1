"""Input names -> Samples with their labels. Nothing is opened here but directories and lists."""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from unmask.errors import MissingSource, near_names
from unmask.labels import label_from_directories
from unmask.magic import IMAGE_SUFFIXES
from unmask.manifest import MANIFEST_SUFFIXES, read_manifest
from unmask.types import Sample

__all__ = ["IMAGE_SUFFIXES", "REFERENCE_SUFFIXES", "label_from_directories", "read_sources"]

REFERENCE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tiff", ".webp"})
"""What the original script took; ``.tif`` was not among them."""


def read_sources(
    inputs: Sequence[str | Path],
    *,
    recursive: bool = True,
    suffixes: frozenset[str] | None = None,
    stdin: TextIO | None = None,
) -> Iterator[Sample]:
    """The samples of all inputs, in the order given; directories and globs sorted by path."""
    raise NotImplementedError
