"""Masks of what is blended into a face: bent, kept within the picture, softened."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from unmask.types import Image

__all__ = ["Mask", "Range", "Region", "bent", "blended", "softened", "within_picture"]

Range = tuple[float, float]
Mask = npt.NDArray[np.float32]
"""``(H, W)``, 0 to 1: how much of each pixel is blended in."""
Region = npt.NDArray[np.uint8]
"""``(H, W)``, 0 outside."""

_CLOSING = np.ones((7, 7), np.uint8)
"""Black spots up to this size are part of a picture: pupils, nostrils."""
_EDGE = 0.1
"""How far from a picture's edge a mask ends before it is softened, as a share of its size."""
_LEAST_SIGMA = 0.8
"""Pixels; below it an edge is jagged."""
_FIELD = 5
"""Side of the grid of random vectors that, enlarged smoothly, bends the mask."""


def within_picture(region: Region, image: Image, size: float) -> Region:
    """The region without the black that alignment adds beyond a picture's edge, and near it.

    There the moved copy would show the edge twice, which no face swap does. A region most of which
    is black keeps it: then it is a dark picture.
    """
    red, green, blue = cv2.split(image)
    brightest = np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)
    if brightest.all():
        return region
    filled = cv2.morphologyEx(np.minimum(brightest, 1), cv2.MORPH_CLOSE, _CLOSING)
    side = 2 * math.ceil(_EDGE * size) + 1
    kept = cv2.erode(filled, np.ones((side, side), np.uint8), borderValue=(1,))
    cut = np.where(np.asarray(kept, np.bool_), region, np.uint8(0))
    return cut if 2 * cv2.countNonZero(cut) >= cv2.countNonZero(region) else region


def bent(hull: Region, size: float, deform: float, grow: Range, rng: np.random.Generator) -> Region:
    """The region bent, then widened or narrowed; 0 to 255.

    Args:
        hull: 0 or 1.
        size: The square root of its area, in pixels.
        deform: How far its outline is bent, as a share of the size: the standard deviation of a
            smooth random field.
        grow: By how much it is widened, as a share of the size, or narrowed (below 0).
        rng: Where chance comes from.
    """
    height, width = hull.shape
    field = rng.standard_normal((_FIELD, _FIELD, 2)) * (deform * size)
    bend = cv2.resize(field.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    x = bend[:, :, 0] + np.arange(width, dtype=np.float32)
    y = bend[:, :, 1] + np.arange(height, dtype=np.float32)[:, None]
    full = hull * np.uint8(255)
    moved = cv2.remap(full, x, y, cv2.INTER_LINEAR)
    by = rng.uniform(*grow) * size
    side = 2 * round(abs(by)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    formed = cv2.erode(moved, kernel) if by < 0 else cv2.dilate(moved, kernel)
    if not cv2.countNonZero(formed):  # bent out of the picture, or thin and narrowed away
        return full
    return np.asarray(formed, np.uint8)


def softened(region: Region, size: float, feather: Range, rng: np.random.Generator) -> Mask:
    """The region with a soft edge, 1 at its middle; ``feather`` is its sigma as a share of size."""
    sigma = max(_LEAST_SIGMA, rng.uniform(*feather) * size)
    mask = cv2.GaussianBlur(np.asarray(region, np.float32), (0, 0), sigma)
    return np.asarray(mask / mask.max(), np.float32)


def blended(source: Image, target: Image, mask: Mask) -> Image:
    """``target + mask * (source - target)``, rounded."""
    x, y, width, height = cv2.boundingRect((mask > 0).astype(np.uint8))
    part = np.s_[y : y + height, x : x + width]
    below = target[part]
    change = np.asarray(cv2.subtract(source[part], below, dtype=cv2.CV_32F), np.float32)
    result = target.copy()
    result[part] = cv2.add(below, change * mask[part][:, :, None], dtype=cv2.CV_8U)
    return result
