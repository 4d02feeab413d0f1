"""Scores of altered pictures: the whole flow again, once per alteration, kept as files.

Pictures are altered after decoding and before faces are looked for, so that an alteration can also
cost the face. Each table is kept as soon as it is complete; of the one in work every answer is. An
interrupted run therefore goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from unmask.errors import MissingSource, OutputError, UnsupportedMedia
from unmask.evaluate.agreement import temperature_of
from unmask.evaluate.perturb import Change, apply_change, parse_change
from unmask.evaluate.robustness import Cell
from unmask.evaluate.scoring import score
from unmask.evaluate.table import Meta, Scores
from unmask.evaluate.table_file import read_scores, write_scores
from unmask.ledger import Ledger, ledger_files, ledger_path
from unmask.pipeline import Pipeline
from unmask.prepare import Alteration
from unmask.report import make_folder
from unmask.types import Image, Sample

__all__ = [
    "Progress",
    "alteration_of",
    "cell_path",
    "forget_cells",
    "kept_cells",
    "score_cells",
]

Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]
"""Given what is done and how many, a context whose function is called once per item."""


def alteration_of(cell: Cell, *, seed: int) -> Alteration:
    """What a pipeline does to pictures in this cell; chance depends on the picture and the seed.

    A picture beyond the limits of the codec (WebP: 16,383 pixels a side) is ``unsupported`` there,
    with the code ``not_altered``.
    """
    change = partial(_altered, change=parse_change(cell.name), seed=seed)
    return Alteration(_name(cell, seed), change)


def _name(cell: Cell, seed: int | None) -> str:
    return f"{cell.name}, seed {seed}"


def _altered(image: Image, digest: str, *, change: Change, seed: int) -> Image:
    key = hashlib.sha256(f"{seed}:{digest}".encode()).digest()
    try:
        return apply_change(image, change, seed=int.from_bytes(key[:8]))
    except (OSError, ValueError) as error:  # what Pillow's encoders raise
        height, width = image.shape[:2]
        raise UnsupportedMedia(
            f"the picture of {width} x {height} pixels cannot be altered by {change.kind}: {error}",
            code="not_altered",
        ) from error


def score_cells(
    samples: Sequence[Sample],
    pipeline: Pipeline,
    cells: Sequence[Cell],
    baseline: Scores,
    *,
    folder: Path,
    seed: int,
    progress: Progress,
    without_frames: Sequence[Sample] = (),
) -> Iterator[tuple[Cell, Scores]]:
    """The table of each cell, one after another, for :func:`unmask.evaluate.robustness.robustness`.

    Args:
        samples: Those of the baseline.
        pipeline: That of the baseline.
        cells: What to do to the pictures.
        baseline: Scores of the pictures as they are; the tables record its command.
        folder: Keeps the tables, ``jpeg-3.parquet``; what is there already is not scored again.
        seed: Of alterations that draw by chance.
        progress: Shows how far it is.
        without_frames: Those of the baseline.

    Raises:
        OutputError: a kept table that belongs to another evaluation, or the folder cannot be
            written.
    """
    make_folder(folder)
    for cell in cells:
        path = cell_path(folder, cell)
        altered = pipeline.altered(alteration_of(cell, seed=seed))
        if not path.exists():
            with (
                Ledger(ledger_path(path), altered.settings()) as ledger,
                progress(f"scoring, {cell.name}", len(samples)) as advance,
            ):
                table = score(
                    samples,
                    altered,
                    ledger=ledger,
                    command=baseline.meta.command,
                    seed=seed,
                    advance=advance,
                    without_frames=without_frames,
                )
            write_scores(path, table)
        for left in ledger_files(path):
            left.unlink(missing_ok=True)
        yield cell, _checked(path, cell, baseline, seed)


def kept_cells(
    folder: Path, cells: Sequence[Cell], baseline: Scores
) -> Iterator[tuple[Cell, Scores]]:
    """The tables that an earlier run kept; no model is needed.

    Raises:
        MissingSource: one is not there.
        OutputError: one belongs to another evaluation.
    """
    for cell in cells:
        path = cell_path(folder, cell)
        if not path.exists():
            raise MissingSource(
                f"{path}: no such file, so {cell.name} was not scored. Evaluate the data with "
                "--perturb once; then its scores are kept."
            )
        yield cell, _checked(path, cell, baseline, None)


def forget_cells(folder: Path) -> None:
    """Remove the kept tables of every cell, and what an interrupted run left."""
    for path in folder.glob("*-[1-5].parquet*"):
        path.unlink(missing_ok=True)


def cell_path(folder: Path, cell: Cell) -> Path:
    """The file of a cell's table."""
    return folder / f"{cell.kind}-{cell.severity}.parquet"


def _checked(path: Path, cell: Cell, baseline: Scores, seed: int | None) -> Scores:
    """The kept table, if it is of the same detector, data and treatment.

    Args:
        path: Of the table.
        cell: Which alteration it is of.
        baseline: Scores of the pictures as they are.
        seed: Of the alteration; None for the one that the table was made with.
    """
    table = read_scores(path)
    then, now = table.meta, baseline.meta
    name = _name(cell, then.seed if seed is None else seed)
    expected = {
        "detector": (then.detector_sha256, now.detector_sha256),
        "data": (then.data_sha256, now.data_sha256),
        "preprocessing": (then.preprocessing, f"altered by {name}; {now.preprocessing}"),
        "temperature": (_temperature(then), _temperature(now)),
        "operating point": (_point(then), _point(now)),
    }
    for what, (found, wanted) in expected.items():
        if found != wanted:
            raise OutputError(
                f"{path} is of another {what} ({found[:100]}, not {wanted[:100]}); score again by "
                "--overwrite, or write to another folder by -o"
            )
    return table


def _temperature(meta: Meta) -> str:
    return temperature_of(meta.settings) or "not known"


def _point(meta: Meta) -> str:
    point = meta.operating_point
    return "several" if point is None else f"{point.name} {point.real_below} to {point.fake_at}"
