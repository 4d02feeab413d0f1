"""Pictures -> the table that a classifier without eyes learns from, in groups of features."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unmask.audit.metadata import Picture

__all__ = ["ALL", "GROUPS", "THUMBNAIL", "TOGETHER", "Column", "columns_of", "name_shape"]

THUMBNAIL = "thumbnail"
ALL = "all"

GROUPS: Mapping[str, str] = {
    "format": "file format",
    "size": "picture size",
    "jpeg": "JPEG compression",
    "bytes": "file size",
    "metadata": "metadata",
    "name": "file name",
    THUMBNAIL: "16x16 thumbnail",
    ALL: "format, size, compression and file size together",
}
"""Names of the groups, and what they are called in a sentence."""

TOGETHER = frozenset({"format", "size", "jpeg", "bytes"})
"""What the group ``all`` is made of: what leaves a trace in the pixels, so that a detector can
learn it. Metadata and names a detector never sees: they show that the classes come from different
sources, and names tell the classes of almost any set."""

_MOST_CATEGORIES = 32
"""Rarer ones are one category; scikit-learn's trees take 255."""


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One feature of all pictures."""

    group: str
    name: str
    values: npt.NDArray[np.float64]
    """``(N,)``; NaN where a file has none; numbers of ``categories`` where there are any."""
    categories: tuple[str, ...] = ()


def columns_of(pictures: Sequence[Picture]) -> tuple[Column, ...]:
    """All features but the thumbnail. The folder, which carries the label, is none of them."""
    containers = [picture.container for picture in pictures]
    width = np.array([each.width for each in containers], np.float64)
    height = np.array([each.height for each in containers], np.float64)
    n_bytes = np.array([each.n_bytes for each in containers], np.float64)
    jpeg = [each.compression for each in containers]
    return (
        _categorical("format", "format", [each.format for each in containers]),
        _categorical("format", "mode", [each.mode for each in containers]),
        Column("size", "width", width),
        Column("size", "height", height),
        Column("size", "aspect", width / height),
        Column("size", "megapixels", width * height / 1e6),
        _numbers("jpeg", "quality", [each.quality if each else None for each in jpeg]),
        _numbers("jpeg", "misfit", [each.misfit if each else None for each in jpeg]),
        _categorical("jpeg", "subsampling", [each.subsampling for each in containers]),
        _numbers("jpeg", "progressive", [float(each.progressive) for each in containers]),
        Column("bytes", "file bytes", n_bytes),
        Column("bytes", "bytes per pixel", n_bytes / (width * height)),
        _numbers("metadata", "EXIF bytes", [each.exif_bytes for each in containers]),
        _categorical("metadata", "software", [each.software for each in containers]),
        _numbers("metadata", "ICC bytes", [each.icc_bytes for each in containers]),
        _numbers("metadata", "text fields", [each.text_fields for each in containers]),
        _categorical("metadata", "density", [each.density for each in containers]),
        *_name_columns([picture.sample.path for picture in pictures]),
    )


def _name_columns(paths: Sequence[Path]) -> tuple[Column, ...]:
    stems = [path.stem for path in paths]
    return (
        _categorical("name", "extension", [path.suffix.lower() for path in paths]),
        _categorical("name", "pattern", [name_shape(stem) for stem in stems]),
        _numbers("name", "length", [len(stem) for stem in stems]),
        _numbers("name", "digits", [sum(map(str.isdigit, stem)) for stem in stems]),
    )


def name_shape(stem: str) -> str:
    """A file name with each run of digits as ``9`` and each run of letters as ``a``.

    >>> name_shape("easy_142_0011")
    'a_9_9'
    """
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", stem))


def _numbers(group: str, name: str, values: Sequence[float | None]) -> Column:
    return Column(group, name, np.array([np.nan if v is None else v for v in values], np.float64))


def _categorical(group: str, name: str, values: Sequence[str]) -> Column:
    common = [value for value, _ in Counter(values).most_common(_MOST_CATEGORIES)]
    categories = (*common, "another") if len(set(values)) > len(common) else tuple(common)
    number = {value: index for index, value in enumerate(common)}
    codes = [number.get(value, len(common)) for value in values]
    return Column(group, name, np.array(codes, np.float64), categories)
