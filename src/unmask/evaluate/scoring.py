"""From labelled samples to their table of scores, once; whatever is asked later needs no model."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image as PillowImage

from unmask.audit.jpeg import compression
from unmask.errors import OutputError
from unmask.evaluate.table import (
    NO_FRAMES,
    Scores,
    from_results,
    texts,
    with_columns,
    with_unscored,
)
from unmask.ledger import Ledger
from unmask.magic import image_format
from unmask.pipeline import Pipeline
from unmask.types import Result, Sample

__all__ = ["FILE_COLUMNS", "score"]

FILE_COLUMNS = ("format", "width", "height", "aspect", "jpeg_quality")
"""What is read from the header of each file, beside what the face stage measures."""

_DECODED = frozenset({"ok", "no_face", "low_quality"})
_HEADER = 4096
"""Bytes by which a format is told: an AVIF file's list of brands has no fixed length."""
_ORIENTATION = 0x0112
_TURNED = frozenset({5, 6, 7, 8})
"""Values of the EXIF orientation that swap width and height."""


@dataclass(frozen=True, slots=True)
class _File:
    """What the header of one file says."""

    format: str = ""
    width: float = np.nan
    height: float = np.nan
    """Pixels of the upright picture."""
    jpeg_quality: float = np.nan


def score(
    samples: Sequence[Sample],
    pipeline: Pipeline,
    *,
    ledger: Ledger | None = None,
    command: str = "",
    seed: int | None = None,
    advance: Callable[[], None] = lambda: None,
    without_frames: Sequence[Sample] = (),
) -> Scores:
    """The table of all samples, with the columns of :data:`FILE_COLUMNS` and how it was scored.

    Args:
        samples: As :func:`~unmask.labelled.read_labelled` gives them.
        pipeline: The detector with its options.
        ledger: Remembers each result at once and spares those of an interrupted run.
        command: What was called, for the record.
        seed: What randomness began with, for the record.
        advance: Called once per sample.
        without_frames: Videos of which a list names no frame: rows without a score.

    Raises:
        OutputError: the ledger can no longer be written.
        ScoresError: no sample.
    """
    results: list[Result] = []
    files: list[_File] = []
    for sample, result in zip(samples, pipeline(samples, memory=ledger), strict=True):
        if ledger is not None:
            _remember(ledger, sample, result)
        results.append(result)
        files.append(_header(sample) if result.status in _DECODED else _File())
        advance()
    scores = from_results(results, samples, command=command, seed=seed)
    scores = replace(scores, meta=replace(scores.meta, settings=pipeline.settings()))
    width, height, quality = (
        np.array([getattr(each, name) for each in files], np.float64)
        for name in ("width", "height", "jpeg_quality")
    )
    measured = {
        "format": texts(each.format for each in files),
        "width": width,
        "height": height,
        "aspect": width / height,
        "jpeg_quality": quality,
    }
    # A manifest may have columns of these names: what was measured stands under its own.
    listed = {f"listed.{name}": scores.extra[name] for name in measured if name in scores.extra}
    return with_unscored(
        with_columns(scores, {**listed, **measured}),
        without_frames,
        status=NO_FRAMES,
        message="the list names the video without any frame",
    )


def _remember(ledger: Ledger, sample: Sample, result: Result) -> None:
    try:
        ledger.add(sample, result)
    except (OSError, sqlite3.OperationalError) as error:
        raise OutputError(
            f"results can no longer be kept ({error}). Make room; the same command then goes on "
            "from what is kept."
        ) from error


def _header(sample: Sample) -> _File:
    """What the header says of a file that has just been decoded; nothing if it is gone since."""
    try:
        with sample.path.open("rb") as file:
            kind = image_format(file.read(_HEADER)) or ""
            file.seek(0)
            with PillowImage.open(file, formats=(kind,)) as picture:
                width, height = picture.size
                if picture.getexif().get(_ORIENTATION) in _TURNED:
                    width, height = height, width
                tables = getattr(picture, "quantization", None)
    except Exception:  # noqa: BLE001 (gone since, or metadata on which Pillow raises anything)
        return _File()
    quality = float(compression(tables).quality) if tables else np.nan
    return _File(kind.lower(), float(width), float(height), quality)
