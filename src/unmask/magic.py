"""What a file is, told from its first bytes. The name's suffix decides only where they cannot."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from unmask.errors import UnreadableMedia
from unmask.types import Kind

__all__ = [
    "IMAGE_SUFFIXES",
    "icon_payload",
    "image_format",
    "jpeg_scans",
    "other_format",
    "sniff_kind",
]

# fmt: off
IMAGE_SUFFIXES = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".avif", ".gif", ".tif", ".tiff",
    ".bmp", ".jp2", ".j2k", ".jpf", ".jpx", ".mpo", ".ppm", ".pgm", ".pbm", ".pnm", ".psd", ".ico",
])
"""Lower-case suffixes of the formats that are decoded."""

_VIDEO_SUFFIXES = frozenset([
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts",
    ".flv", ".wmv", ".ogv", ".3gp",
])
_AUDIO_SUFFIXES = frozenset([".m4a", ".m4b", ".mka", ".oga", ".ogg", ".opus", ".wma", ".weba"])
# fmt: on

_PREFIXES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),  # BigTIFF
    (b"MM\x00+", "TIFF"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"8BPS\x00\x01", "PSD"),
    (b"\x00\x00\x01\x00", "ICO"),
)
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
"""Sizes of the known BMP information headers; ``BM`` alone begins many a text."""

_VIDEO_PREFIXES = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF: WMV, WMA
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG video
    b"OggS",
)
_MOVIE_BOXES = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
"""First boxes of QuickTime and MP4 files that have no ``ftyp``."""

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""ITU T.81, table B.1. In compressed data 0xff is followed by 0 or by a restart marker."""

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc", b"hevx"})
_AUDIO_BRANDS = frozenset({b"M4A ", b"M4B ", b"F4A "})


def image_format(data: bytes) -> str | None:
    """Pillow's name of the picture format that ``data`` begins as; None if it is none we decode."""
    for prefix, name in _PREFIXES:
        if data.startswith(prefix):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:1] == b"P" and data[1:2] in b"123456" and data[2:3] in b" \t\r\n#":
        return "PPM" if len(data) > 2 else None
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if {b"avif", b"avis"} & _brands(data):
        return "AVIF"
    return None


def jpeg_scans(data: bytes) -> int:
    """How many scans the first picture of a JPEG file has: what decoding it takes, times pixels.

    Headers are skipped by their length, and what follows the end marker (a clip of a phone's
    motion photo) is not looked at: chance puts the two bytes of a scan's marker there.
    """
    scans, at = 0, 2
    while (found := _JPEG_MARKER.search(data, at)) is not None:
        marker, at = data[found.end() - 1], found.end()
        if marker == 0xD9:  # end of image
            break
        if marker == 0xDA:
            scans += 1
        if marker not in (0x01, 0xD8):  # all others have a length
            at += int.from_bytes(data[at : at + 2], "big")
    return scans


def sniff_kind(data: bytes, path: Path = Path()) -> Kind:
    """What a medium is: ``image``, ``video`` or ``other``.

    Args:
        data: The file or at least its first 256 bytes. Empty (it could not be read): the suffix
            alone decides.
        path: Its suffix tells sound from moving pictures where containers are shared.
    """
    suffix = path.suffix.lower()
    if not data:
        if suffix in IMAGE_SUFFIXES:
            return "image"
        return "video" if suffix in _VIDEO_SUFFIXES else "other"
    if image_format(data) is not None:
        return "image"
    if _is_movie(data) and suffix not in _AUDIO_SUFFIXES:
        return "video"
    return "other"


def other_format(data: bytes) -> str:
    """A few words on what the bytes are, where they are no picture that is decoded."""
    if _brands(data) & _HEIF_BRANDS:
        return "a HEIC/HEIF picture, which is not decoded"
    if data.lstrip()[:4] == b"<svg" or data[:512].find(b"<svg") >= 0:
        return "an SVG drawing, which is not decoded"
    if data[:5] == b"%PDF-":
        return "a PDF document, not a picture"
    return f"no known picture format (the file begins with {data[:8].hex(' ')})"


def _is_movie(data: bytes) -> bool:
    brands = _brands(data)
    if brands:
        return not brands & (_HEIF_BRANDS | _AUDIO_BRANDS)
    if data.startswith(_VIDEO_PREFIXES) or data[4:8] in _MOVIE_BOXES:
        return True
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return True
    return data[:1] == data[188:189] == b"G"  # MPEG transport stream: sync byte every 188 bytes


def _brands(data: bytes) -> frozenset[bytes]:
    """The major and compatible brands of an ISO base media file (MP4, AVIF, HEIC), else none."""
    if data[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(data[:4], "big"), len(data), 256)
    compatible = (data[at : at + 4] for at in range(16, end - 3, 4))
    return frozenset({data[8:12], *compatible})


def icon_payload(data: bytes, name: str) -> tuple[str, bytes]:
    """Format and bytes of the largest picture of a Windows icon.

    The directory of an icon says up to 256 pixels a side, the picture in it may say anything.
    A PNG is handed on alone; a bitmap is handed on as an icon of one entry, and only where both
    sizes agree, so that it cannot claim a large area.

    Raises:
        UnreadableMedia: ``damaged``.
    """
    count = int.from_bytes(data[4:6], "little")
    ends = range(6, min(6 + 16 * count, len(data) - 15), 16)
    entries = [struct.unpack_from("<BBBBHHII", data, at) for at in ends]
    if not entries:
        raise _bad_icon(name, "it lists no picture")
    entry = max(entries, key=lambda e: ((e[0] or 256) * (e[1] or 256), e[5]))
    width, height, size, offset = entry[0] or 256, entry[1] or 256, entry[6], entry[7]
    payload = data[offset : offset + size]
    if payload.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG", payload
    if len(payload) < 40:
        raise _bad_icon(name, "its largest picture lies outside the file")
    header, bitmap_width, bitmap_height = struct.unpack_from("<Iii", payload)
    if header < 40 or (bitmap_width, bitmap_height) != (width, 2 * height):
        raise _bad_icon(
            name,
            f"its directory says {width}x{height}, its bitmap {bitmap_width}x{bitmap_height // 2}",
        )
    directory = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", *entry[:7], 22)
    return "ICO", directory + payload


def _bad_icon(name: str, what: str) -> UnreadableMedia:
    return UnreadableMedia(
        f"{name}: a damaged icon: {what}. Expected a sound ICO file; convert it to PNG.",
        code="damaged",
    )
