"""One file -> what is known of it without looking at what it shows."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, ImageFile
from PIL import Image as PillowImage

from unmask.audit.fingerprint import perceptual_hash, thumbnail_of
from unmask.audit.jpeg import Compression, compression
from unmask.errors import UnreadableMedia, UnsupportedMedia
from unmask.images import Limits, decode, read_bytes, sha256
from unmask.magic import image_format
from unmask.types import Image, Reason, Sample

__all__ = ["Container", "Picture", "Unread", "describe", "read_picture"]

_SAMPLING = {"1x1": "4:4:4", "2x1": "4:2:2", "2x2": "4:2:0", "4x1": "4:1:1", "1x2": "4:4:0"}
"""Luminance samples across and down per chrominance sample (JFIF 1.02), and their usual name."""


@dataclass(frozen=True, slots=True)
class Container:
    """The file around the pixels."""

    format: str
    """Pillow's name, lower case: ``jpeg``, ``png``, ..."""
    mode: str
    """Pillow's name of the stored pixels: ``RGB``, ``RGBA``, ``P``, ``L``, ..."""
    width: int
    height: int
    """Pixels of the upright picture."""
    n_bytes: int
    compression: Compression | None = None
    """``None`` where the file is no JPEG."""
    subsampling: str = ""
    """Of the chrominance, ``4:2:0`` and so on; ``grey``; empty where the file is no JPEG."""
    progressive: bool = False
    exif_bytes: int = 0
    software: str = ""
    """The program that wrote the file, as EXIF or a PNG text chunk says; ``damaged`` EXIF too."""
    icc_bytes: int = 0
    text_fields: int = 0
    """Comments, XMP and text chunks; image generators write their prompts there."""
    density: str = ""
    """Dots per inch or aspect of a pixel, as the file states it."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One file that could be read."""

    sample: Sample
    sha256: str
    container: Container
    thumbnail: npt.NDArray[np.uint8]
    """``(16, 16, 3)``"""
    phash: int


@dataclass(frozen=True, slots=True)
class Unread:
    """One file that could not be read, and why."""

    sample: Sample
    reason: Reason


def read_picture(sample: Sample, limits: Limits) -> Picture | Unread:
    """The file read and decoded once; never an error for what stands in the file."""
    try:
        data = read_bytes(sample.path, limits)
        image = decode(data, limits, name=str(sample.path)).image
    except (UnreadableMedia, UnsupportedMedia) as error:
        return Unread(sample, Reason(error.code, str(error)))
    return Picture(
        sample, sha256(data), describe(data, image), thumbnail_of(image), perceptual_hash(image)
    )


def describe(data: bytes, image: Image) -> Container:
    """What the header of a file says that was decoded to ``image`` without an error."""
    kind = image_format(data) or ""
    height, width = image.shape[:2]
    with PillowImage.open(io.BytesIO(data), formats=(kind,)) as picture:
        info = picture.info
        tables = getattr(picture, "quantization", None)
        return Container(
            format=kind.lower(),
            mode=picture.mode,
            width=width,
            height=height,
            n_bytes=len(data),
            compression=compression(tables) if tables else None,
            subsampling=_subsampling(picture),
            progressive=bool(info.get("progressive") or info.get("interlace")),
            exif_bytes=len(info.get("exif") or b""),
            software=_software(info),
            icc_bytes=len(info.get("icc_profile") or b""),
            text_fields=_text_fields(info),
            density=_density(info),
        )


def _subsampling(picture: ImageFile.ImageFile) -> str:
    layers = getattr(picture, "layer", None)
    if not layers or getattr(picture, "quantization", None) is None:
        return ""
    if len(layers) < 2:
        return "grey"
    (_, across, down, _), (_, chroma_across, chroma_down, _) = layers[0], layers[1]
    name = f"{across // max(1, chroma_across)}x{down // max(1, chroma_down)}"
    return _SAMPLING.get(name, name)


def _software(info: dict[str | tuple[int, int], object]) -> str:
    """The EXIF tag, else the PNG text of that name, at most 40 characters."""
    exif = info.get("exif")
    found: object = info.get("Software", "")
    if isinstance(exif, bytes):
        tags = PillowImage.Exif()
        try:
            tags.load(exif)
            found = tags.get(ExifTags.Base.Software, found)
        except Exception:  # noqa: BLE001 (on hostile bytes Pillow raises almost anything)
            return "damaged"
    return str(found).strip("\0 ")[:40]


_TEXT_KEYS = frozenset({"comment", "xmp", "XML:com.adobe.xmp", "photoshop"})
_NOT_TEXT = frozenset({"transparency", "srgb", "Software"})


def _text_fields(info: dict[str | tuple[int, int], object]) -> int:
    known = sum(1 for key in _TEXT_KEYS if info.get(key))
    texts = [
        key
        for key, value in info.items()
        if isinstance(value, str) and key not in _TEXT_KEYS | _NOT_TEXT
    ]
    return known + len(texts)


def _density(info: dict[str | tuple[int, int], object]) -> str:
    for key in ("dpi", "jfif_density", "aspect"):
        value = info.get(key)
        if isinstance(value, tuple):
            return "x".join(f"{float(each):.0f}" for each in value)
    return ""
