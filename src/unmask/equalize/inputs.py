"""What may be copied where: inputs and copies apart, each picture once and under one label."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from unmask.equalize.journal import Row
from unmask.errors import ConfigError, SourceError
from unmask.types import Sample

__all__ = ["NAMES", "check_inputs", "check_label"]

NAMES = {0: "real", 1: "fake", None: ""}
"""Labels as a manifest has them."""


def check_label(row: Row, first: Row) -> None:
    """Nothing, if the first picture of the same bytes has no other label.

    Raises:
        SourceError: it has.
    """
    if row.path and None not in (row.label, first.label) and row.label != first.label:
        raise SourceError(
            f"{first.source} and {row.source} are one picture, byte for byte, and labelled "
            f"{NAMES[first.label]} and {NAMES[row.label]}. Correct one label, or remove both; "
            "--resume goes on then."
        )


def check_inputs(samples: Sequence[Sample], root: Path, dst: Path) -> None:
    """Nothing, if copies and inputs are apart, and each input is listed once.

    Raises:
        ConfigError: ``dst`` lies within ``root``, or an input within ``dst``.
        SourceError: a picture is listed twice.
    """
    inside = os.path.realpath(dst)
    if _lies_in(inside, os.path.realpath(root)):
        raise ConfigError(
            f"{dst} lies within {root}, the folder of the inputs, so copies would be taken for "
            "inputs the next time. Give a folder outside."
        )
    seen: dict[str, Sample] = {}
    for sample in samples:
        if _lies_in(os.path.realpath(sample.path), inside):
            raise ConfigError(f"the input {sample.source} lies within {dst}. Give another folder.")
        before = seen.setdefault(os.path.abspath(sample.path), sample)  # noqa: PTH100 (links stay)
        if before is not sample:
            labels = {NAMES[each.label] or "unlabelled" for each in (before, sample)}
            raise SourceError(
                f"{sample.source} is listed twice, {' and '.join(sorted(labels))}; a picture has "
                "one copy and one label. Keep one row."
            )


def _lies_in(path: str, folder: str) -> bool:
    return Path(path).is_relative_to(folder)
