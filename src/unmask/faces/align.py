"""From a face to its aligned crop. Knows no finder.

The template, the fit and the warp are those that published face detectors were trained with
(DeepfakeBench preprocessing), so that their weights see what they expect.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from unmask.errors import ConfigError, FaceError
from unmask.types import Crop, Face, Image, Quality

__all__ = ["crop_face", "sharpness", "similarity", "template"]

_TEMPLATE_SIZE = 112
"""Side in pixels of the square in which ``_TEMPLATE`` is given."""

_TEMPLATE = (
    (30.2946, 51.6963),
    (65.5318, 51.5014),
    (48.0252, 71.7366),
    (33.5493, 92.3655),
    (62.7299, 92.2041),
)
"""Eye, eye, nose, mouth, mouth, left of the picture first: the five points that ArcFace
alignment made common, for a picture 96 wide and 112 high."""

_TEMPLATE_SHIFT = 8.0
"""Added to each x: centres the 96 pixels of the template's width in 112."""

_MAX_SIDE = 32_766
"""cv2.warpAffine takes no source whose width or height exceeds a 16-bit integer."""


def template(size: int, scale: float = 1.3) -> npt.NDArray[np.float64]:
    """Where the five points of a face lie in its crop, ``(5, 2)``, in pixels.

    ``x' = ((x + 8) * size / 112 + size * (scale - 1) / 2) / scale``, the same for y without the
    shift of 8: the template at 112 with a margin on each side, shrunk back to ``size``.

    Args:
        size: Side of the crop in pixels.
        scale: How much wider than the bare template the crop reaches; 1.3 is the reference's.

    Raises:
        ConfigError: ``size`` below 1, or ``scale`` not a positive number.

    >>> template(224)[2].round(4).tolist()
    [112.0388, 136.2102]
    """
    _check(size, scale)
    return _template(size, scale, np.float64)


def _check(size: int, scale: float) -> None:
    if size < 1 or not (math.isfinite(scale) and scale > 0):
        raise ConfigError(
            f"no crop of size {size} and scale {scale}: expected a size of at least 1 pixel and "
            "a positive scale; the usual ones are 224 and 1.3."
        )


def _template(
    size: int, scale: float, precision: type[np.float64 | np.float32]
) -> npt.NDArray[np.float64]:
    """The template; with float32, rounded at each step as the reference's is."""
    points = np.array(_TEMPLATE, precision) + np.array((_TEMPLATE_SHIFT, 0), precision)
    at_size = points * (size / _TEMPLATE_SIZE) + size * (scale - 1) / 2
    return np.asarray(at_size * (1 / scale), np.float64)


def similarity(src: npt.ArrayLike, dst: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The ``(2, 3)`` matrix that takes ``src`` nearest to ``dst``, in the least-squares sense.

    Rotation, uniform scale and shift, never a reflection: what Umeyama (PAMI 1991) finds for two
    dimensions. With points as complex numbers it is the linear fit ``dst = a * src + b``.

    Args:
        src: ``(N, 2)`` points, N >= 2.
        dst: ``(N, 2)`` points.

    Raises:
        FaceError: Other shapes, numbers that are not finite, or points that lie so that no
            scale and rotation follows from them (all in one place).

    >>> similarity([(0, 0), (1, 0)], [(5, 5), (5, 7)]).tolist()
    [[0.0, -2.0, 5.0], [2.0, 0.0, 5.0]]
    """
    source, target = np.asarray(src, np.float64), np.asarray(dst, np.float64)
    if source.ndim != 2 or source.shape != target.shape or source.shape[1] != 2:
        raise FaceError(
            f"points of shapes {source.shape} and {target.shape} cannot be aligned: expected "
            "the same number of (x, y) pairs on both sides."
        )
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise FaceError(f"the points {source.tolist()} cannot be aligned: not all are finite.")
    z, w = source @ (1, 1j), target @ (1, 1j)  # (N,) each
    z_mean, w_mean = z.mean(), w.mean()
    spread = float((np.abs(z - z_mean) ** 2).sum())
    a = np.vdot(z - z_mean, w - w_mean) / spread if spread > 1e-12 else 0j
    if abs(a) < 1e-9:
        raise FaceError(
            f"the points {source.tolist()} cannot be aligned: they lie in one place or have "
            "nothing of the shape that is wanted. Expected the five points of a face."
        )
    b = w_mean - a * z_mean
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def crop_face(
    image: Image, face: Face, *, size: int = 224, scale: float = 1.3, antialias: bool = False
) -> Crop:
    """The face turned upright and cut out, black where the crop reaches beyond the picture.

    Args:
        image: The picture in which the face was found.
        face: The face, in pixels of ``image``.
        size: Side of the square crop in pixels.
        scale: See :func:`template`.
        antialias: Without, each crop pixel is interpolated from four source pixels, as the
            reference does it; a face much larger than the crop then aliases. With, a face that
            shrinks more than twofold is first averaged over whole blocks of source pixels.

    Raises:
        ConfigError: ``size`` or ``scale`` out of range.
        FaceError: The landmarks give no alignment, or the face lies outside of the picture.
    """
    _check(size, scale)
    # The reference's rounding: a face far from the origin magnifies 1e-5 to more than 1e-4.
    matrix = similarity(face.landmarks, _template(size, scale, np.float32))
    shrink = 1 / math.hypot(matrix[0, 0], matrix[1, 0])  # source pixels per crop pixel
    block = int(shrink) if antialias and shrink > 2 else 1
    pixels = _warp(image, matrix, size, block)
    left, top, right, bottom = face.box_xyxy
    quality = Quality(
        size_px=min(right - left, bottom - top),
        sharpness=sharpness(pixels),
        confidence=face.confidence,
    )
    return Crop(pixels, face=face, matrix=matrix, quality=quality)


def sharpness(image: Image) -> float:
    """Variance of the Laplacian (3x3) of the grey picture; falls with blur, 0 for a flat one."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var(dtype=np.float64))


def _warp(image: Image, matrix: npt.NDArray[np.float64], size: int, block: int) -> Image:
    """The crop; ``block`` source pixels (squared) are averaged to one before the warp."""
    x0, y0, x1, y1 = _needed(image, matrix, size, block)
    if block == 1 and max(image.shape[:2]) <= _MAX_SIDE:
        region, first = image, np.zeros(2)
    else:
        region, first = _shrunk(image[y0:y1, x0:x1], block), np.array([x0, y0], np.float64)
    # Pixel centres: region pixel u covers source pixels first + block * u .. + block - 1.
    linear = matrix[:, :2]
    shift = linear @ (first + (block - 1) / 2) + matrix[:, 2]
    warped = cv2.warpAffine(region, np.column_stack([linear * block, shift]), (size, size))
    return np.asarray(warped, np.uint8)


def _needed(
    image: Image, matrix: npt.NDArray[np.float64], size: int, block: int
) -> tuple[int, int, int, int]:
    """The box of source pixels, within the picture, that the crop is made of."""
    corners = np.array([(-1, -1), (size, -1), (-1, size), (size, size)], np.float64)
    source = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    height, width = image.shape[:2]
    margin = 2 * block  # interpolation reads one (averaged) pixel beyond
    low = np.clip(np.floor(source.min(0)) - margin, 0, (width, height))
    high = np.clip(np.ceil(source.max(0)) + margin, 0, (width, height))
    (x0, y0), (x1, y1) = low.astype(int).tolist(), high.astype(int).tolist()
    if x0 >= x1 or y0 >= y1:
        raise FaceError(
            f"the face at {source.mean(0).round().tolist()} lies outside of its picture of "
            f"{width} x {height} pixels. Expected landmarks in pixels of this picture."
        )
    return x0, y0, x1, y1


def _shrunk(region: Image, block: int) -> Image:
    """``region`` averaged over whole blocks, black added on the right and below to fill them."""
    height, width = region.shape[:2]
    filled = cv2.copyMakeBorder(
        region, 0, -height % block, 0, -width % block, cv2.BORDER_CONSTANT, value=(0, 0, 0)
    )
    target = (filled.shape[1] // block, filled.shape[0] // block)
    return np.asarray(cv2.resize(filled, target, interpolation=cv2.INTER_AREA), np.uint8)
