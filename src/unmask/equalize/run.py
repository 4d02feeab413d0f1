"""A labelled data set whose real and fake files are alike: size, format, compression and names.

What a picture shows stays; what the file tells about its source goes. Each picture is cut to its
middle square, scaled to a drawn side and saved with a drawn quality, from the same distributions
for both classes, without metadata and under a name that says nothing.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from unmask.equalize.inputs import NAMES, check_inputs, check_label
from unmask.equalize.journal import Format, Plan, Row, plan_line, read_journal, write_down
from unmask.equalize.leftovers import remove_leftovers
from unmask.errors import ConfigError, OutputError, UnreadableMedia, UnsupportedMedia
from unmask.files import replacing, valid_text
from unmask.flow import ordered
from unmask.images import Limits, decode, read_bytes, sha256
from unmask.manifest import COLUMNS
from unmask.types import Image, Sample

__all__ = [
    "EqualizeOptions",
    "Equalized",
    "Plan",
    "Row",
    "alike",
    "choose_side",
    "encoded",
    "equalize",
    "parse_range",
    "plan_for",
]

MANIFEST, LEFT_OUT, PICTURES = "manifest.csv", "left_out.csv", "pictures"
_JOURNAL = ".equalize.jsonl"

_LEAST_SIDE = 16
"""Pixels: eight for each of the two blocks that a subsampled JPEG needs at least."""

_SIDE_QUANTILE = 0.05
_SIDE_SHARE = 0.9
"""The side is nine tenths of what 19 in 20 pictures of each class have at least. So nearly all are
scaled down, which wipes out the 8 x 8 grid of an earlier JPEG compression."""

_WINDOW = 64
"""Pictures that may be begun and not yet written down."""

_SUBSAMPLED = 2
"""Pillow's number for 4:2:0."""


@dataclass(frozen=True, slots=True)
class EqualizeOptions:
    """What may be chosen.

    Raises:
        ConfigError: a number outside its range.
    """

    sides: tuple[int, int] | None = None
    """Least and greatest side in pixels; ``None``: one that suits the data, :func:`choose_side`."""
    qualities: tuple[int, int] = (70, 95)
    """Least and greatest JPEG quality; the range in which cameras and sites save."""
    format: Format = "jpeg"
    seed: int = 0
    workers: int = 2
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for what, values, low, high in (
            ("size", self.sides or (_LEAST_SIDE, _LEAST_SIDE), _LEAST_SIDE, 8192),
            ("quality", self.qualities, 1, 100),
            ("workers", (self.workers, self.workers), 1, 256),
        ):
            if not low <= values[0] <= values[1] <= high:
                raise ConfigError(
                    f"{what} is {values[0]} to {values[1]}; expected {low} to {high}, the smaller "
                    "number first"
                )


@dataclass(frozen=True, slots=True)
class Equalized:
    """What was written, and what was left out."""

    written: tuple[Row, ...]
    left_out: tuple[Row, ...]
    removed: tuple[str, ...] = ()
    """Copies of an earlier run whose inputs are no longer there, relative to the destination."""
    strange: tuple[str, ...] = ()
    """Files among the copies that are not in the manifest, and not as an earlier run wrote them."""


def parse_range(text: str, what: str) -> tuple[int, int]:
    """``"224"`` as (224, 224), ``"70-95"`` as (70, 95).

    >>> parse_range("70-95", "quality")
    (70, 95)

    Raises:
        ConfigError: something else.
    """
    low, found, high = text.partition("-")
    try:
        return int(low), int(high if found else low)
    except ValueError as error:
        raise ConfigError(
            f"{what} is {text!r}; expected one whole number, or two as in 70-95"
        ) from error


def choose_side(samples: Iterable[Sample]) -> int:
    """A side in pixels that nearly all pictures of each class exceed, told from the headers.

    Raises:
        ConfigError: not one header can be read.
    """
    edges: dict[int | None, list[int]] = {}
    for sample in samples:
        edge = _short_edge(sample.path)
        if edge:
            edges.setdefault(sample.label, []).append(edge)
    if not edges:
        raise ConfigError(
            "no picture among the inputs can be opened, so no size can be chosen; look at the "
            "inputs, or give --size"
        )
    least = min(float(np.quantile(each, _SIDE_QUANTILE)) for each in edges.values())
    return max(_LEAST_SIDE, int(_SIDE_SHARE * least))


def _short_edge(path: Path) -> int:
    """0 where the file cannot be opened; reading it later says why."""
    try:
        with PillowImage.open(path) as picture:
            return min(picture.size)
    except Exception:  # noqa: BLE001 (on hostile bytes Pillow raises almost anything)
        return 0


def plan_for(source: str, samples: Iterable[Sample], options: EqualizeOptions) -> Plan:
    """The plan that the options and, where they leave the size open, the pictures give.

    Raises:
        ConfigError: see :func:`choose_side`.
    """
    side = choose_side(samples) if options.sides is None else 0
    sides = options.sides or (side, side)
    return Plan(source, sides, options.qualities, options.format, options.seed)


def alike(image: Image, side: int) -> Image:
    """The middle square of the picture at ``(side, side, 3)``, smoothed where it shrinks."""
    height, width = image.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = PillowImage.fromarray(image[top : top + edge, left : left + edge])
    return np.asarray(square.resize((side, side), PillowImage.Resampling.BICUBIC))


def encoded(image: Image, kind: Format, quality: int) -> bytes:
    """The file: baseline JPEG with 4:2:0 and IJG tables, or PNG; nothing but the pixels in it."""
    buffer = io.BytesIO()
    picture = PillowImage.fromarray(image)
    if kind == "jpeg":
        picture.save(buffer, "JPEG", quality=quality, subsampling=_SUBSAMPLED)
    else:
        picture.save(buffer, "PNG")
    return buffer.getvalue()


def equalize(
    samples: Sequence[Sample],
    root: Path,
    dst: Path,
    plan: Plan,
    options: EqualizeOptions,
    *,
    resume: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> Equalized:
    """Write the copies, ``manifest.csv`` and, where needed, ``left_out.csv`` below ``dst``.

    Pictures keep their folders, below ``dst/pictures``. Each file appears whole or not at all, and
    is written down at once, so that a run that was broken off can be resumed. Then copies whose
    inputs are no longer there are removed.

    Args:
        samples: Of any label or none.
        root: Folder whose structure is kept.
        dst: Folder; must be empty or absent unless ``resume`` is set.
        plan: What decides each file.
        options: Threads and limits.
        resume: Go on with a run of the same plan; copies that are whole are kept.
        advance: Called once per input.

    Raises:
        ConfigError: ``dst`` lies within ``root``, or an input within ``dst``.
        SourceError: a picture is listed twice, or its bytes have both labels.
        OutputError: ``dst`` is in use, belongs to another plan, or cannot be written.
    """
    check_inputs(samples, root, dst)
    try:
        done = _begin(dst, plan, resume=resume)
        rows: list[Row] = []
        first: dict[str, Row] = {}
        with (dst / _JOURNAL).open("a", encoding="utf-8", newline="\n") as journal:

            def one(sample: Sample) -> Row:
                return _copied(sample, root, dst, plan, options.limits, done)

            for row in ordered(one, samples, options.workers, _WINDOW):
                rows.append(row)
                if row.path and done.get(row.source) != row:
                    write_down(row, journal)
                check_label(row, first.setdefault(row.source_sha256, row))
                advance()
        copies = tuple(row for row in rows if row.path)
        left_out = tuple(row for row in rows if not row.path)
        _write_manifest(dst, samples, rows)
        _write_left_out(dst, left_out)
        removed, strange = remove_leftovers(dst, PICTURES, planned=copies, written=done.values())
    except OSError as error:
        raise OutputError(
            f"{dst} cannot be written: {error}. Make room or check the rights; --resume goes on "
            "from what is done."
        ) from error
    return Equalized(copies, left_out, removed, strange)


def _begin(dst: Path, plan: Plan, *, resume: bool) -> Mapping[str, Row]:
    """The rows that an earlier run wrote, by source; the journal stands with its first line."""
    dst.mkdir(parents=True, exist_ok=True)
    journal = dst / _JOURNAL
    if not any(dst.iterdir()):
        with replacing(journal) as file:
            file.write(plan_line(plan) + "\n")
        return {}
    if not resume:
        raise OutputError(
            f"{dst} is not empty, and nothing is overwritten. Give another folder, or go on with "
            "a run that was broken off by --resume."
        )
    if not journal.exists():
        raise OutputError(f"{dst} was not begun by equalize, so nothing can be resumed in it.")
    begun, rows = read_journal(journal)
    if begun != plan:
        raise OutputError(
            f"{dst} was begun with other options or data ({plan_line(begun)}). Give the same, or "
            "another folder."
        )
    with replacing(journal) as file:
        file.write(plan_line(plan) + "\n")
        for row in rows:
            write_down(row, file)
    return {row.source: row for row in rows}


def _copied(
    sample: Sample, root: Path, dst: Path, plan: Plan, limits: Limits, done: Mapping[str, Row]
) -> Row:
    """The row of one input, its file written if it is not there already, whole."""
    planned = _planned(sample, root, plan)
    try:
        data = read_bytes(sample.path, limits)
        planned = replace(planned, source_sha256=sha256(data))
        before = done.get(sample.source)
        if before is not None and _is_there(before, planned, dst):
            return replace(before, label=sample.label)
        image = decode(data, limits, name=str(sample.path)).image
    except (UnreadableMedia, UnsupportedMedia) as error:
        return Row(sample.source, sample.label, code=error.code, reason=str(error))
    copy = encoded(alike(image, planned.side), plan.format, planned.quality or 0)
    _write(dst / planned.path, copy)
    return replace(planned, sha256=sha256(copy), width=image.shape[1], height=image.shape[0])


def _planned(sample: Sample, root: Path, plan: Plan) -> Row:
    """What the plan says of an input before it is read."""
    folder, relative = _place(sample.path, root)
    drawn = hashlib.sha256(f"{plan.seed}:{relative}".encode(errors="surrogateescape")).digest()
    rng = np.random.default_rng(int.from_bytes(drawn[8:16], "big"))
    side = int(rng.integers(plan.sides[0], plan.sides[1] + 1))
    quality = int(rng.integers(plan.qualities[0], plan.qualities[1] + 1))
    suffix = {"jpeg": ".jpg", "png": ".png"}[plan.format]
    return Row(
        sample.source,
        sample.label,
        (folder / (drawn[:8].hex() + suffix)).as_posix(),
        side=side,
        quality=quality if plan.format == "jpeg" else None,
    )


def _is_there(before: Row, planned: Row, dst: Path) -> bool:
    """Whether the copy is the one that is planned, byte for byte as it was written."""
    made = (before.source_sha256, before.path, before.side, before.quality)
    if made != (planned.source_sha256, planned.path, planned.side, planned.quality):
        return False
    try:
        return sha256((dst / before.path).read_bytes()) == before.sha256
    except FileNotFoundError:
        return False


def _place(path: Path, root: Path) -> tuple[Path, str]:
    """Folder below the destination, and the name from which chance is drawn.

    What lies outside ``root`` (a manifest may say ``../x.jpg``) goes to one folder, ``elsewhere``.
    """
    inside = path.is_relative_to(root) and ".." not in path.relative_to(root).parts
    if not inside:
        return Path(PICTURES, "elsewhere"), str(path.absolute())
    relative = path.relative_to(root)
    return Path(PICTURES, valid_text(relative.parent.as_posix())), relative.as_posix()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write_manifest(dst: Path, samples: Sequence[Sample], rows: Sequence[Row]) -> None:
    """What ``unmask train`` reads, and beside it where each picture comes from."""
    with replacing(dst / MANIFEST) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            [
                *COLUMNS,
                "source",
                "source_sha256",
                "source_width",
                "source_height",
                "side",
                "quality",
            ]
        )
        for sample, row in zip(samples, rows, strict=True):
            if row.path:
                known = (sample.dataset, sample.generator, sample.group, sample.video, sample.split)
                made = (row.source_sha256, row.width, row.height, row.side, row.quality or "")
                writer.writerow(
                    [row.path, NAMES[sample.label], *known, valid_text(row.source), *made]
                )


def _write_left_out(dst: Path, rows: Sequence[Row]) -> None:
    (dst / LEFT_OUT).unlink(missing_ok=True)  # of the run that is resumed
    if not rows:
        return
    with replacing(dst / LEFT_OUT) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["source", "label", "code", "reason"])
        for row in rows:
            writer.writerow(
                [valid_text(row.source), NAMES[row.label], row.code, valid_text(row.reason)]
            )
