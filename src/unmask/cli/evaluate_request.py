"""What one call of ``unmask evaluate`` asks for. Plain values: nothing of a model is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.errors import ConfigError

if TYPE_CHECKING:
    from unmask.evaluate.gate import Gate
    from unmask.evaluate.robustness import Cell
    from unmask.evaluate.summary import Choices
    from unmask.pipeline import FaceMode

__all__ = ["Loading", "Reading", "Run", "Wanted", "parse_joins", "wanted_of"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose scores are measured, and against whose: a detector, or tables of its scores."""

    first: str
    tables: tuple[Path, ...] = ()
    """Of the first, instead of a detector."""
    second: str | None = None
    second_table: Path | None = None

    def files(self) -> list[Path]:
        """The tables that are read."""
        return [*self.tables, *([self.second_table] if self.second_table else [])]


@dataclass(frozen=True, slots=True)
class Reading:
    """Which samples; the options of :func:`unmask.labelled.read_labelled`."""

    data: tuple[str, ...] = ()
    split: str = "all"
    root: tuple[str, ...] = ()
    compression: str | None = None
    frames: int | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    video_folders: bool = False


@dataclass(frozen=True, slots=True)
class Loading:
    """How a detector is loaded and run."""

    point: str | float | None = None
    """Operating point by name, or a fixed threshold on P(fake); None: the detector's default."""
    faces: FaceMode = "auto"
    finder: str | None = None
    landmark_model: Path | None = None
    min_face_px: float = 32.0
    batch_size: int = 16
    workers: int | None = None
    revision: str | None = None
    offline: bool = False
    base: str | None = None
    fake_labels: tuple[str, ...] = ()
    allow_untrained: bool = False
    device: str = "auto"
    dtype: str = "auto"


@dataclass(frozen=True, slots=True)
class Run:
    """One evaluation."""

    wanted: Wanted
    reading: Reading
    loading: Loading
    choices: Choices
    gates: tuple[Gate, ...]
    command: str
    cells: tuple[Cell, ...] = ()
    """Alterations of the pictures to measure as well."""


def wanted_of(
    data: Sequence[str],
    tables: Sequence[Path],
    detector: str | None,
    compare: tuple[str, str] | None,
) -> Wanted:
    """What the options ask for.

    Raises:
        ConfigError: they contradict each other, or there is nothing to score.
    """
    from unmask.evaluate.table_file import is_scores

    pairs = (("--detector", detector), ("--scores", tables), ("--compare", compare))
    given = [name for name, value in pairs if value]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} each say whose scores to measure; give one")
    _check_tables(tables)
    if compare is None:
        wanted, scored = Wanted(detector or "builtin", tuple(tables)), bool(tables)
    else:
        first, second = (Path(each) if is_scores(Path(each)) else None for each in compare)
        wanted = Wanted(compare[0], (first,) if first else (), compare[1], second)
        scored = None not in (first, second)
    if not scored and not data:
        raise ConfigError(
            "no DATA. Give labelled pictures (a folder with real/ and fake/, a manifest), or "
            "--scores of an evaluation."
        )
    if data and scored:
        raise ConfigError(f"{data[0]} is not needed, since the scores are given; leave it out")
    return wanted


def _check_tables(tables: Sequence[Path]) -> None:
    """Nothing, if no table is given twice, by whatever names: its items would count twice."""
    for number, path in enumerate(tables):
        for other in tables[:number]:
            if _is_one(path, other):
                raise ConfigError(
                    f"--scores {path} is the file {other}, which is given already; give it once"
                )


def _is_one(path: Path, other: Path) -> bool:
    there = path.exists() and other.exists()
    return path.samefile(other) if there else os.path.realpath(path) == os.path.realpath(other)


def parse_joins(texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The data sets that each ``A+B`` names, two or more; none is in two joins.

    A name may hold ``+`` at its end: the last one of several is what joins.

    >>> parse_joins(["fakes+reals", "FaceForensics+++Celeb"])
    (('fakes', 'reals'), ('FaceForensics++', 'Celeb'))

    Raises:
        ConfigError: a text of another form, or a data set that is named twice.
    """
    joins = tuple(tuple(re.split(r"\+(?=[^+])", each)) for each in texts)
    names: list[str] = []
    for join in joins:
        if len(join) < 2 or "" in join:
            raise ConfigError(f"--join is {'+'.join(join)!r}; A+B was expected, two data sets")
        for name in join:
            if name in names:
                raise ConfigError(f"--join names the data set {name!r} twice; name it once")
            names.append(name)
    return joins
