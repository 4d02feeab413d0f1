"""A Pillow picture of any mode -> RGB uint8, and the right way up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from unmask.errors import UnsupportedMedia
from unmask.types import Image, Reason

__all__ = ["reduced", "to_rgb", "upright"]

_PLAIN_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
"""Pillow modes whose conversion to RGB is defined and keeps the stored colours."""


_BAND_PIXELS = 1 << 20
"""Converted at once; a picture's conversion needs this many pixels beside picture and result."""


def to_rgb(picture: PillowImage.Image, name: str, notes: list[Reason]) -> Image:
    """RGB ``(H, W, 3)``: alpha dropped, palettes looked up, CMYK by Pillow's formula, no ICC."""
    mode = picture.mode
    if mode in _PLAIN_MODES:
        return _by_bands(picture, lambda band: np.asarray(band.convert("RGB")))
    if mode == "I" or mode.startswith("I;16"):
        return _from_16_bits(picture, name, notes)
    raise UnsupportedMedia(
        f"{name}: pixels of Pillow mode {mode}. Expected 1, 8 or 16 bits a channel, grey, palette, "
        "RGB or CMYK; convert it to an 8-bit RGB PNG.",
        code="unsupported_pixels",
    )


def _from_16_bits(picture: PillowImage.Image, name: str, notes: list[Reason]) -> Image:
    if picture.mode == "I":
        low, high = picture.getextrema()
        if low < 0 or high > 65535:  # type: ignore[operator]  # one channel: two numbers
            raise UnsupportedMedia(
                f"{name}: grey values from {low} to {high}. Expected 0..65535; "
                "scale it and save it as an 8-bit PNG.",
                code="unsupported_pixels",
            )
    notes.append(reduced("divided by 257 and rounded"))
    return _by_bands(picture, lambda band: _narrow(np.asarray(band))[:, :, None])


def _narrow(grey: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    return ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _by_bands(
    picture: PillowImage.Image, convert: Callable[[PillowImage.Image], npt.NDArray[np.uint8]]
) -> Image:
    """``(H, W, 3)`` from some rows at a time, so that no second copy of the whole is made."""
    width, height = picture.size
    image = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        image[top:bottom] = convert(picture.crop((0, top, width, bottom)))
    return image


def reduced(how: str) -> Reason:
    """The note that a picture had more than 8 bits a channel."""
    return Reason("reduced_to_8_bits", f"16 bits a channel reduced to 8: {how}")


def upright(image: Image, orientation: int) -> Image:
    """The picture turned as EXIF 2.32 (tag 274) says; a value outside 2..8 leaves it as it is."""
    match orientation:
        case 2:
            return image[:, ::-1]
        case 3:
            return image[::-1, ::-1]
        case 4:
            return image[::-1]
        case 5:
            return image.transpose(1, 0, 2)
        case 6:
            return np.rot90(image, -1)
        case 7:
            return image[::-1, ::-1].transpose(1, 0, 2)
        case 8:
            return np.rot90(image)
        case _:
            return image
