"""``unmask align``: aligned face crops to disk, and a table of what became of each input."""

from __future__ import annotations

import csv
import glob
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unmask.cli import options
from unmask.cli.progress import progress
from unmask.errors import (
    ConfigError,
    FaceError,
    OutputError,
    UnreadableMedia,
    UnsupportedMedia,
)
from unmask.files import one_line, valid_text

if TYPE_CHECKING:
    from unmask.faces import FaceFinder
    from unmask.types import Crop, Face, Image, Sample

__all__ = ["align"]

_TABLE = "align.csv"
_COLUMNS = ("source", "face", "box_xyxy", "matrix", "output", "status", "reason")


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the table: a crop, or an input (or one face of it) that gave none."""

    status: str
    face: int | None = None
    crop: Crop | None = None
    reason: str = ""


def align(
    src: Annotated[
        str,
        typer.Argument(metavar="SRC", help="Image, folder, glob, .csv/.jsonl manifest, or -."),
    ],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="Folder for the crops.")],
    finder: Annotated[
        str, typer.Option(help="yunet, or dlib81 for the crops of the reference.")
    ] = "yunet",
    landmark_model: options.LandmarkModel = None,
    size: Annotated[int, typer.Option(min=8, max=4096, help="Side of the crops in pixels.")] = 256,
    scale: Annotated[
        float, typer.Option(help="How much wider than the bare face; 1.3 is usual.")
    ] = 1.3,
    faces: Annotated[
        Literal["largest", "all"], typer.Option(help="Which faces of a picture.")
    ] = "largest",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")
    ] = False,
) -> None:
    """Cut out faces, turned upright, as PNG, in the folders of the source.

    DST/align.csv has a row for every crop and for every input without one.

    Example: unmask align photos/ crops/ --finder dlib81
    """
    from unmask.faces import make_finder
    from unmask.faces.align import crop_face, template
    from unmask.sources import read_sources

    template(size, scale)  # refuses what cannot be, before anything is written
    found_by = make_finder(finder, landmark_model=landmark_model)
    total = None
    if src != "-" and sys.stderr.isatty():
        total = sum(1 for _ in read_sources([src]))
    samples = read_sources([src])
    _prepare(src, dst, overwrite=overwrite)

    def cut(image: Image, face: Face) -> Crop:
        return crop_face(image, face, size=size, scale=scale)

    with progress("aligning", total) as advance:
        counts = _run(samples, found_by, cut, _Places(dst, _root(src)), faces == "all", advance)
    raise typer.Exit(_close(counts, dst))


def _prepare(src: str, dst: Path, *, overwrite: bool) -> None:
    source, target = Path(src).resolve(), dst.resolve()
    if source.is_dir() and target.is_relative_to(source):
        raise ConfigError(
            f"{dst} lies within {src}, so crops would be taken for inputs. Give another DST."
        )
    try:
        dst.mkdir(parents=True, exist_ok=True)
        if any(dst.iterdir()) and not overwrite:
            raise OutputError(
                f"{dst} is not empty. Write into it, replacing files of the same name, by "
                "--overwrite, or give another folder."
            )
    except OSError as error:
        raise _unwritable(dst, error) from error


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path} cannot be written: {error}. Check rights and space.")


def _root(src: str) -> Path:
    """The folder whose structure the crops keep."""
    root = Path(src) if Path(src).is_dir() else Path(src).parent
    while glob.has_magic(str(root)):
        root = root.parent
    return root


@dataclass(frozen=True, slots=True)
class _Places:
    """Where each crop goes; never two to one place, also where case does not tell names apart."""

    dst: Path
    root: Path
    taken: set[str] = field(default_factory=set)

    def take(self, source: Path, face: int) -> Path:
        """``a/b.png`` for ``a/b.jpg``; ``a/b.jpg.png`` if there is an ``a/b.bmp`` too."""
        inside = source.is_relative_to(self.root) and ".." not in source.parts
        path = source.relative_to(self.root) if inside else Path(source.name)
        ending = ".png" if face == 0 else f".face{face}.png"
        names = [path.stem + ending, path.name + ending]
        tries = (self.dst / path.parent / valid_text(name) for name in _numbered(names))
        free = next(each for each in tries if str(each).casefold() not in self.taken)
        self.taken.add(str(free).casefold())
        return free


def _numbered(names: list[str]) -> Iterator[str]:
    yield from names
    number = 2
    while True:
        yield f"{names[-1].removesuffix('.png')}.{number}.png"
        number += 1


def _run(
    samples: Iterable[Sample],
    finder: FaceFinder,
    cut: Callable[[Image, Face], Crop],
    places: _Places,
    several: bool,
    advance: Callable[[], None],
) -> Counter[str]:
    counts: Counter[str] = Counter()
    table = places.dst / _TABLE
    try:
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            for sample in samples:
                rows = _rows(sample, finder, cut, several)
                for row in rows:
                    output = _save(sample, row, places)
                    writer.writerow(_cells(sample, row, output))
                counts["crops"] += sum(row.crop is not None for row in rows)
                done = any(row.crop is not None for row in rows)
                counts["ok" if done else rows[0].status] += 1
                advance()
    except KeyboardInterrupt:
        counts["interrupted"] = 1
    except OSError as error:
        raise _unwritable(places.dst, error) from error
    return counts


def _rows(
    sample: Sample, finder: FaceFinder, cut: Callable[[Image, Face], Crop], several: bool
) -> list[_Row]:
    """At least one row: what became of this input."""
    from unmask.images import read_frame

    try:
        frame, _ = read_frame(sample.path)
    except UnreadableMedia as error:
        return [_Row("unreadable", reason=f"{error.code}: {error}")]
    except UnsupportedMedia as error:
        return [_Row("unsupported", reason=f"{error.code}: {error}")]
    found = finder.find(frame.image)
    if not found:
        return [_Row("no_face", reason=f"no_face: {finder.name} found no face")]
    rows = []
    for index, face in enumerate(found if several else found[:1]):
        try:
            rows.append(_Row("ok", index, cut(frame.image, face)))
        except FaceError as error:
            rows.append(_Row("low_quality", index, reason=f"no_alignment: {error}"))
    return rows


def _save(sample: Sample, row: _Row, places: _Places) -> Path | None:
    from PIL import Image as PillowImage

    if row.crop is None or row.face is None:
        return None
    path = places.take(sample.path, row.face)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        PillowImage.fromarray(row.crop.image).save(part, format="PNG")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path.relative_to(places.dst)


def _cells(sample: Sample, row: _Row, output: Path | None) -> tuple[str, ...]:
    crop = row.crop
    box = crop.face.box_xyxy if crop is not None and crop.face is not None else None
    matrix = crop.matrix.tolist() if crop is not None and crop.matrix is not None else None
    return (
        valid_text(sample.source),
        "" if row.face is None else str(row.face),
        json.dumps(box) if box else "",
        json.dumps(matrix) if matrix else "",
        "" if output is None else valid_text(output.as_posix()),
        row.status,
        one_line(row.reason),
    )


def _close(counts: Counter[str], dst: Path) -> int:
    """Print the sum on stderr; the exit code."""
    statuses = ("no_face", "low_quality", "unreadable", "unsupported")
    failed = [f"{counts[status]} {status}" for status in statuses if counts[status]]
    line = f"{counts['crops']} crops of {counts['ok']} inputs"
    sys.stderr.write("; without a crop: ".join([line, *([", ".join(failed)] if failed else [])]))
    sys.stderr.write(f"\nwrote {dst / _TABLE}\n")
    if counts["interrupted"]:
        sys.stderr.write("interrupted\n")
        return 130
    return 1 if failed else 0
