"""Changes of a picture with all their parameters given; what is drawn by chance is drawn elsewhere.

Pictures are RGB uint8 ``(H, W, 3)`` and keep their size, unless a function says otherwise.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from unmask.types import Image

__all__ = [
    "ENLARGING",
    "SHRINKING",
    "SUBSAMPLING",
    "Matrix",
    "as_jpeg",
    "as_webp",
    "colour_matrix",
    "gamma",
    "glass",
    "local_contrast",
    "motion_blur",
    "placed",
    "placement",
    "recoloured",
    "resized",
    "sharpened",
    "softened",
    "speckled",
]

Matrix = npt.NDArray[np.float64]

SHRINKING = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
"""Filters that make a picture smaller; the last two alias, as those of many programs do."""
ENLARGING = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)
"""Filters that make it larger."""

SUBSAMPLING = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
"""Chroma at half the resolution, or at the whole."""

_GRID = 8
"""Side of the blocks that JPEG works on."""

_LUMA = (0.299, 0.587, 0.114)
"""Of ITU-R BT.601."""

_GLASS_SIGMA = 0.7
"""Of the blur before and after pixels change places, as in albumentations' GlassBlur."""


def placement(
    size: tuple[int, int], degrees: float, zoom: float, shift: tuple[float, float]
) -> Matrix:
    """The ``(2, 3)`` matrix that turns and scales about the middle, then shifts.

    Args:
        size: Width and height.
        degrees: Counter-clockwise as seen.
        zoom: Above 1 enlarges.
        shift: Right and down, in pixels.
    """
    width, height = size
    about = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, zoom)
    matrix = np.asarray(about, np.float64)
    matrix[:, 2] += np.array(shift)
    return matrix


def placed(image: Image, matrix: Matrix) -> Image:
    """The picture moved by a ``(2, 3)`` matrix, bilinear; beyond its edges it is mirrored."""
    height, width = image.shape[:2]
    moved = cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return _uint8(moved)


def colour_matrix(
    *,
    hue: float = 0.0,
    saturation: float = 1.0,
    contrast: float = 1.0,
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Matrix:
    """The ``(3, 4)`` matrix that takes (R, G, B, 1) to new (R, G, B), in this order of changes.

    Args:
        hue: Degrees by which colours turn about the grey axis.
        saturation: Distance from grey of the same luma, 0 is grey, 1 leaves it.
        contrast: Distance from middle grey (127.5), likewise.
        offset: Added to R, G and B, in levels of 255.
    """
    angle = np.deg2rad(hue)
    third, root = (1 - np.cos(angle)) / 3, np.sin(angle) / np.sqrt(3)
    one, two, three = np.cos(angle) + third, third - root, third + root
    turn = np.array([(one, two, three), (three, one, two), (two, three, one)])
    grey = np.tile(_LUMA, (3, 1))
    mixed = (grey + saturation * (np.eye(3) - grey)) @ turn * contrast
    constant = 127.5 * (1 - contrast) + np.array(offset, np.float64)
    return np.column_stack([mixed, constant])


def recoloured(image: Image, matrix: Matrix) -> Image:
    """Each pixel taken through a matrix of :func:`colour_matrix`, rounded and clipped."""
    return _uint8(cv2.transform(image, matrix))


def gamma(image: Image, exponent: float) -> Image:
    """``255 * (level / 255) ** exponent``: below 1 lightens the middle, above 1 darkens it."""
    table = np.rint(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)
    return _uint8(cv2.LUT(image, table))


def local_contrast(image: Image, limit: float) -> Image:
    """Luma equalised in 8 x 8 tiles, with that clip limit (CLAHE)."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[:, :, 0] = cv2.createCLAHE(limit, (8, 8)).apply(np.ascontiguousarray(lab[:, :, 0]))
    return _uint8(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))


def softened(image: Image, sigma: float) -> Image:
    """Gaussian blur, sigma in pixels."""
    return _uint8(cv2.GaussianBlur(image, (0, 0), sigma))


def sharpened(image: Image, amount: float, sigma: float = 1.0) -> Image:
    """``image + amount * (image - blurred)``: unsharp masking."""
    soft = cv2.GaussianBlur(image, (0, 0), sigma)
    return _uint8(cv2.addWeighted(image, 1 + amount, soft, -amount, 0))


def motion_blur(image: Image, length: int, degrees: float) -> Image:
    """The mean along a line of ``length`` pixels in that direction."""
    side = length | 1
    kernel = np.zeros((side, side), np.uint8)
    reach, middle = (length - 1) / 2, side // 2
    x, y = reach * np.cos(np.deg2rad(degrees)), reach * np.sin(np.deg2rad(degrees))
    ends = (round(middle - x), round(middle - y)), (round(middle + x), round(middle + y))
    cv2.line(kernel, *ends, color=(1,))
    return _uint8(cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101))


def glass(image: Image, moves: npt.NDArray[np.int8]) -> Image:
    """Each pixel replaced by a near one, between two slight blurs.

    Args:
        image: The picture.
        moves: ``(2, H, W)``: how far below and right of a pixel its replacement lies.
    """
    height, width = image.shape[:2]
    rows = np.clip(np.arange(height)[:, None] + moves[0], 0, height - 1)
    columns = np.clip(np.arange(width)[None] + moves[1], 0, width - 1)
    return softened(softened(image, _GLASS_SIGMA)[rows, columns], _GLASS_SIGMA)


def speckled(image: Image, noise: npt.NDArray[np.float32]) -> Image:
    """The picture plus noise ``(H, W, 3)`` in levels of 255, rounded and clipped."""
    return _uint8(cv2.add(image, noise, dtype=cv2.CV_8U))


def resized(image: Image, size: tuple[int, int], interpolation: int) -> Image:
    """The picture at another size, width and height."""
    return _uint8(cv2.resize(image, size, interpolation=interpolation))


def as_jpeg(
    image: Image, quality: int, subsampling: int = SUBSAMPLING[0], grid: tuple[int, int] = (0, 0)
) -> Image:
    """The picture saved as JPEG and read again.

    Args:
        image: The picture.
        quality: 1 to 100, libjpeg's scale.
        subsampling: One of :data:`SUBSAMPLING`.
        grid: Right and down, by how many pixels (below 8) the blocks start before the picture. A
            face in a photo lies anywhere on the photo's grid, not at its corner.
    """
    (right, down), (height, width) = grid, image.shape[:2]
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if right or down:
        bgr = cv2.copyMakeBorder(bgr, down, 0, right, 0, cv2.BORDER_REPLICATE)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, subsampling]
    decoded = _decoded(cv2.imencode(".jpg", bgr, options)[1])
    return np.ascontiguousarray(decoded[down : down + height, right : right + width])


def as_webp(image: Image, quality: int) -> Image:
    """The picture saved as lossy WebP and read again; quality 1 to 100."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return _decoded(cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, quality])[1])


def _decoded(data: npt.NDArray[np.uint8]) -> Image:
    bgr = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return _uint8(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))


def _uint8(image: cv2.typing.MatLike) -> Image:
    return np.asarray(image, np.uint8)
