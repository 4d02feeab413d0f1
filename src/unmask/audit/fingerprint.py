"""Small summaries of a picture by which copies of it are found after scaling and recompression."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from scipy.fft import dctn

from unmask.types import Image

__all__ = [
    "HASH_DISTANCE",
    "THUMBNAIL_DISTANCE",
    "THUMBNAIL_SIDE",
    "near_pairs",
    "perceptual_hash",
    "thumbnail_of",
]

THUMBNAIL_SIDE = 16

HASH_DISTANCE = 10
"""Bits of 64 in which two hashes of one picture may differ. Hash and thumbnail must agree.

Chosen on 6,570 aligned faces: 2,536 pairs from different identities are within 10 bits. 6 of those
are within the thumbnail's distance too, and all 6 show one photo, once edited or compressed."""

THUMBNAIL_DISTANCE = 12.0
"""Mean distance of two thumbnails of one picture, in grey levels of 255. From 13 on, other pairs
begin: two people in one studio."""

_DCT_SIDE = 32
_HASH_SIDE = 8

_BLOCK = 512
"""Rows that are compared with all others at once: 512 x 100,000 bytes are 50 MB."""


def thumbnail_of(image: Image) -> npt.NDArray[np.uint8]:
    """The picture as ``(16, 16, 3)``: the mean colour of each of 256 fields."""
    return _reduced(PillowImage.fromarray(image), THUMBNAIL_SIDE)


def perceptual_hash(image: Image) -> int:
    """64 bits: which of the 8 x 8 lowest DCT coefficients of the grey picture exceed their median.

    The grey picture is reduced to 32 x 32 by averaging. The median leaves out the first
    coefficient, which is the mean brightness.
    """
    grey = _reduced(PillowImage.fromarray(image).convert("L"), _DCT_SIDE)
    low = dctn(grey.astype(np.float64), norm="ortho")[:_HASH_SIDE, :_HASH_SIDE].ravel()
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_pairs(
    hashes: Sequence[int],
    thumbnails: npt.NDArray[np.uint8],
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[npt.NDArray[np.int64]]:
    """Pairs of pictures that are copies of each other, ``(P, 2)`` a block, first below second.

    Every picture is compared with every other: 7,000 take a tenth of a
    second of one core, 100,000 half a minute.

    Args:
        hashes: ``(N,)`` of :func:`perceptual_hash`.
        thumbnails: ``(N, 16, 16, 3)``.
        advance: Called with the number of pictures done.
    """
    bits = np.array(hashes, np.uint64)
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.int16)
    for start in range(0, len(bits), _BLOCK):
        stop = min(start + _BLOCK, len(bits))
        distance = np.bitwise_count(bits[start:stop, None] ^ bits[None, start:])
        first, second = np.nonzero(distance <= HASH_DISTANCE)
        ordered = first < second
        first, second = first[ordered] + start, second[ordered] + start
        near = _thumbnails_agree(flat, first, second)
        yield np.stack([first[near], second[near]], axis=1)
        advance(stop - start)


def _thumbnails_agree(
    flat: npt.NDArray[np.int16], first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """``(P,)``, in pieces, since a folder of copies has a pair for each two of them."""
    agree = np.zeros(len(first), np.bool_)
    for at in range(0, len(first), 65536):
        part = slice(at, at + 65536)
        gap = np.abs(flat[first[part]] - flat[second[part]]).mean(axis=1)
        agree[part] = gap <= THUMBNAIL_DISTANCE
    return agree


def _reduced(picture: PillowImage.Image, side: int) -> npt.NDArray[np.uint8]:
    return np.asarray(picture.resize((side, side), PillowImage.Resampling.BOX), np.uint8)
