"""The bytes of one file -> Frame. Which files, and what they are called, stands in ``sources``.

The decoding rules are stated in ``docs/inputs.md``. Everything here may run in worker threads.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageFile, UnidentifiedImageError

from unmask.errors import SourceError, UnreadableMedia, UnsupportedMedia
from unmask.magic import icon_payload, image_format, jpeg_scans, other_format, sniff_kind
from unmask.pixels import reduced, to_rgb, upright
from unmask.types import Frame, Reason

__all__ = [
    "Limits",
    "decode",
    "file_sha256",
    "read_bytes",
    "read_frame",
    "sha256",
    "sniff_kind",
]

_ORIENTATION = 0x0112
"""The EXIF tag of TIFF 6.0 and EXIF 2.32, values 1..8."""

_SEVERAL_PICTURES = frozenset({"GIF", "PNG", "WEBP", "TIFF", "MPO", "AVIF"})
"""Formats whose further frames or pages are pictures (the layers of a PSD are not)."""

_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_FILTER_LOCK = threading.Lock()

_LARGE_PIXELS = 24_000_000
_ONE_LARGE = threading.Lock()
"""Held while a picture of more than ``_LARGE_PIXELS`` is decoded. A decoder takes up to 20 bytes a
pixel (JPEG 2000) for a moment; if each worker did so at once, memory would grow with the workers.
Pictures of usual size never wait."""

_MAX_SCANS = 100
"""Of one JPEG. Encoders write 1 to about 20; each costs a pass over all pixels. The number is that
at which libtiff refuses a JPEG inside a TIFF."""

_MAX_PLAIN_BYTES = 16 * 2**20
"""Of a PPM whose numbers are text, of which Pillow reads a few MB a second."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may cost; beyond it the file is ``unsupported``, never half read."""

    max_bytes: int = 256 * 2**20
    """A file is held in memory whole (it is hashed and decoded from the same bytes), once per
    worker. Photos are below 50 MiB; the limit leaves room for scans and uncompressed TIFF."""
    max_pixels: int = 64_000_000
    """Width times height as the header says, checked before anything is decoded. A pixel costs 5
    to 16 bytes while it is decoded, so 64 million stay near 1 GB; above what cameras with a
    full-frame sensor give. JPEG 2000 takes twice as much, so each of its pixels counts as two.
    Pillow refuses more than 178,956,970 pixels whatever stands here."""


def read_frame(path: Path, limits: Limits = Limits()) -> tuple[Frame, str]:
    """The decoded picture, and the SHA-256 (hex) of the file's bytes.

    Raises:
        UnreadableMedia: The file cannot be read or its bytes are damaged.
        UnsupportedMedia: Not a picture that is scored, or beyond the limits.
    """
    data = read_bytes(path, limits)
    return decode(data, limits, name=str(path)), sha256(data)


def read_bytes(path: Path, limits: Limits = Limits()) -> bytes:
    """The whole content of a regular file; pipes, devices and directories are never opened.

    Raises:
        UnreadableMedia: ``unreadable`` (the system refused, or the file changed while it was
            read) or ``empty_file``.
        UnsupportedMedia: ``not_a_file`` or ``file_too_large``.
    """
    with _reading(path), _open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limits.max_bytes:
            raise UnsupportedMedia(
                f"{path}: {size:,} bytes, more than the limit of {limits.max_bytes:,}. "
                "Raise the limit if this file is meant.",
                code="file_too_large",
            )
        data = file.read(size + 1)
    if len(data) != size:
        raise UnreadableMedia(
            f"{path}: changed while it was read ({size:,} bytes were expected). "
            "Run again when nothing writes to it any more."
        )
    if not data:
        raise UnreadableMedia(
            f"{path}: the file is empty. Expected a picture; copy or download it again.",
            code="empty_file",
        )
    return data


def sha256(data: bytes) -> str:
    """The SHA-256 of the bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """The SHA-256 of a regular file of any size, read in pieces.

    Raises:
        UnreadableMedia: The system refused to read it.
        UnsupportedMedia: Not a regular file.
    """
    with _reading(path), _open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except SourceError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UnreadableMedia(
            f"{path}: cannot be read: {error}. Expected a readable file; check name and rights."
        ) from error


def _open_regular(path: Path) -> io.BufferedReader:
    """Opened for reading, without ever waiting for the other end of a pipe."""
    _require_regular(path, path.stat().st_mode)  # first: opening a device can have effects
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _require_regular(path, os.fstat(file.fileno()).st_mode)  # it may have been exchanged
    except UnsupportedMedia:
        file.close()
        raise
    return file


def _require_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = "a pipe, socket or device"
        if stat.S_ISDIR(mode):
            kind = "a directory, one that cannot be listed or stands where a file should"
        raise UnsupportedMedia(f"{path}: {kind}. Expected a regular file.", code="not_a_file")


def decode(
    data: bytes,
    limits: Limits = Limits(),
    *,
    name: str = "the picture",
) -> Frame:
    """The picture in ``data`` as RGB uint8 ``(H, W, 3)``, upright, its array writable.

    Args:
        data: A whole file.
        limits: ``max_pixels`` is checked before pixels are decoded.
        name: What error messages call it.

    Raises:
        UnreadableMedia: ``truncated`` or ``damaged``.
        UnsupportedMedia: ``unsupported_format``, ``unsupported_pixels``, ``video_not_supported``
            ``too_many_pixels``, ``too_many_scans`` or ``file_too_large``.
    """
    kind = image_format(data)
    if kind is None:
        raise _not_a_picture(data, name)
    if kind == "ICO":
        kind, data = icon_payload(data, name)
    _check_effort(data, kind, name)
    _silence_pillow()
    with _pillow(name, kind), PillowImage.open(io.BytesIO(data), formats=(kind,)) as picture:
        _check_size(picture.size, kind, limits, name)
        is_large = picture.width * picture.height > _LARGE_PIXELS
        with _ONE_LARGE if is_large else nullcontext():
            return _to_frame(picture, name)


def _not_a_picture(data: bytes, name: str) -> UnsupportedMedia:
    if sniff_kind(data) == "video":
        return UnsupportedMedia(
            f"{name}: a video. Videos are not scored yet; expected a picture. "
            "Extract frames and score those.",
            code="video_not_supported",
        )
    return UnsupportedMedia(
        f"{name}: {other_format(data)}. Expected JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP, "
        "JPEG 2000, PPM, PSD or ICO; convert it to PNG or JPEG.",
        code="unsupported_format",
    )


def _check_effort(data: bytes, kind: str, name: str) -> None:
    """Refuse the files whose decoding takes minutes though they are small or have few pixels."""
    if kind == "JPEG" and (scans := jpeg_scans(data)) > _MAX_SCANS:
        raise UnsupportedMedia(
            f"{name}: a JPEG of {scans:,} scans, more than the limit of {_MAX_SCANS}. No camera or "
            "editor writes so many; save it again as a plain JPEG or PNG.",
            code="too_many_scans",
        )
    if kind == "PPM" and data[1:2] in b"123" and len(data) > _MAX_PLAIN_BYTES:
        raise UnsupportedMedia(
            f"{name}: a plain-text P{data[1:2].decode()} picture of {len(data):,} bytes, more than "
            f"the limit of {_MAX_PLAIN_BYTES:,}. Save it as binary PPM or as PNG.",
            code="file_too_large",
        )


def _silence_pillow() -> None:
    """Pillow's Python warnings are ignored, in this process, from the first decoding on.

    What they say (odd metadata, a large picture) is decided here and told by the result. With
    ``-W error`` they would turn a sound picture into a damaged one. ``catch_warnings`` is no way
    out: it exchanges the filters of all threads, and its end may have dropped the filter.
    """
    with _FILTER_LOCK:
        if _QUIET not in warnings.filters:
            warnings.filterwarnings("ignore", module=_QUIET[3].pattern)


@contextmanager
def _pillow(name: str, kind: str) -> Iterator[None]:
    """The one place where whatever a third-party decoder raises becomes an error of ours."""
    try:
        yield
    except SourceError:
        raise
    except (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning) as error:
        raise UnsupportedMedia(
            f"{name}: the {kind} header claims more pixels than Pillow decodes ({error}). "
            "Scale the picture down.",
            code="too_many_pixels",
        ) from error
    except UnidentifiedImageError as error:  # its message has a memory address in it
        raise UnreadableMedia(
            f"{name}: the {kind} header is damaged or of a variant that is not understood. "
            "Copy or download the file again, or convert it to PNG.",
            code="damaged",
        ) from error
    except Exception as error:  # on hostile bytes Pillow raises almost anything
        cut = isinstance(error, EOFError) or "truncat" in str(error).lower()
        what = "cut short" if cut else "damaged or of a variant that is not understood"
        raise UnreadableMedia(
            f"{name}: the {kind} data are {what} ({type(error).__name__}: {error}). "
            "Copy or download the file again, or convert it to PNG.",
            code="truncated" if cut else "damaged",
        ) from error


def _check_size(size: tuple[int, int], kind: str, limits: Limits, name: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise UnreadableMedia(
            f"{name}: {width}x{height} pixels. Expected at least one pixel; the file is damaged.",
            code="damaged",
        )
    each = 2 if kind == "JPEG2000" else 1
    if each * width * height > limits.max_pixels:
        twice = " (each of JPEG 2000 counts as two)" if each == 2 else ""
        raise UnsupportedMedia(
            f"{name}: {width}x{height} pixels{twice}, more than the limit of "
            f"{limits.max_pixels:,}. "
            "Raise the limit if this picture is meant, or scale it down.",
            code="too_many_pixels",
        )


def _to_frame(picture: ImageFile.ImageFile, name: str) -> Frame:
    notes: list[Reason] = []
    if picture.mode.startswith("RGB") and ";16" in str(picture.tile):  # Pillow cuts these itself
        notes.append(reduced("the high byte of each 16-bit value"))
    picture.load()
    image = to_rgb(picture, name, notes)
    image = upright(image, _orientation(picture, name, notes))
    if picture.format in _SEVERAL_PICTURES and getattr(picture, "is_animated", False):
        notes.append(
            Reason("first_frame_of_animation", "the file holds several pictures; the first counts")
        )
    return Frame(image=np.ascontiguousarray(image), notes=tuple(notes))


def _orientation(picture: PillowImage.Image, name: str, notes: list[Reason]) -> int:
    """The EXIF (or XMP) orientation, 1 where there is none or the metadata are damaged.

    Pillow has applied that of a TIFF itself when it loaded the pixels, and forgotten it.
    """
    try:
        with _pillow(name, "EXIF"):
            value = picture.getexif().get(_ORIENTATION, 1)
    except (UnreadableMedia, UnsupportedMedia):
        notes.append(Reason("metadata_ignored", "the metadata are damaged; taken as upright"))
        return 1
    return value if isinstance(value, int) else 1
