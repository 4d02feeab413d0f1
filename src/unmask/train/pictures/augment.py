"""What happens to pictures on their way through the world, done to training pictures.

Each change is drawn alike for real and fake: a detector must not learn which source was saved in
which way. The ranges follow what sharing services do to a photo (shrink, recompress, filter).

:func:`apply` alters the crops of a fine-tuning, anew each time; :func:`augmenter` gives the probe
its altered copies, whose features are cached.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from unmask.train.pictures import pixel_changes as pixels
from unmask.train.pictures.augmentation import Augmentation, Range
from unmask.types import Image

__all__ = ["apply", "augment", "augmenter"]

_LEAST_SIDE = 80
"""Pixels; below it a face is no longer recognisable after shrinking."""

_FILTERS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


def apply(image: Image, augmentation: Augmentation, rng: np.random.Generator) -> Image:
    """An altered copy of the same size; the same one for the same state of ``rng``.

    Args:
        image: RGB uint8 ``(H, W, 3)``; it is not altered, and given back where nothing happens.
        augmentation: What may happen.
        rng: Where chance comes from.
    """
    for change in (_placed, _toned, _seen, _saved, _covered):
        image = change(image, augmentation, rng)
    return image


def _happens(rng: np.random.Generator, probability: float) -> bool:
    return probability > 0 and rng.random() < probability


def _whole(rng: np.random.Generator, bounds: Range) -> int:
    """A whole number within the bounds, both included."""
    return int(rng.integers(int(bounds[0]), int(bounds[1]) + 1))


def _placed(image: Image, how: Augmentation, rng: np.random.Generator) -> Image:
    if _happens(rng, how.flip):
        image = np.ascontiguousarray(image[:, ::-1])
    if _happens(rng, how.affine):
        height, width = image.shape[:2]
        right, down = rng.uniform(-how.shift, how.shift, 2)
        matrix = pixels.placement(
            (width, height),
            rng.uniform(-how.rotation, how.rotation),
            rng.uniform(*how.zoom),
            (right * width, down * height),
        )
        image = pixels.placed(image, matrix)
    return image


def _toned(image: Image, how: Augmentation, rng: np.random.Generator) -> Image:
    if _happens(rng, how.tone):
        offset = 255 * rng.uniform(-how.brightness, how.brightness)
        contrast = 1 + rng.uniform(-how.contrast, how.contrast)
        matrix = pixels.colour_matrix(contrast=contrast, offset=(offset, offset, offset))
        image = pixels.recoloured(image, matrix)
    if _happens(rng, how.gamma):
        image = pixels.gamma(image, rng.uniform(*how.gamma_power))
    if _happens(rng, how.colour):
        offset = 255 * rng.uniform(-how.value, how.value)
        matrix = pixels.colour_matrix(
            hue=rng.uniform(-how.hue, how.hue),
            saturation=1 + rng.uniform(-how.saturation, how.saturation),
            offset=(offset, offset, offset),
        )
        image = pixels.recoloured(image, matrix)
    if _happens(rng, how.grayscale):
        image = pixels.recoloured(image, pixels.colour_matrix(saturation=0))
    if _happens(rng, how.shuffle):
        image = np.ascontiguousarray(image[:, :, rng.permutation(3)])
    if _happens(rng, how.clahe):
        image = pixels.local_contrast(image, rng.uniform(*how.clahe_limit))
    return image


def _seen(image: Image, how: Augmentation, rng: np.random.Generator) -> Image:
    if _happens(rng, how.blur):
        image = pixels.softened(image, rng.uniform(*how.blur_sigma))
    if _happens(rng, how.motion):
        image = pixels.motion_blur(image, _whole(rng, how.motion_length), rng.uniform(0, 180))
    if _happens(rng, how.glass):
        reach = how.glass_reach
        moves = rng.integers(-reach, reach + 1, (2, *image.shape[:2]), np.int8)
        image = pixels.glass(image, moves)
    if _happens(rng, how.noise):
        sigma = np.float32(rng.uniform(*how.noise_sigma))
        image = pixels.speckled(image, sigma * rng.standard_normal(image.shape, np.float32))
    return image


def _saved(image: Image, how: Augmentation, rng: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    if _happens(rng, how.shrink):
        least = min(1.0, how.shrink_least / min(height, width))
        factor = max(rng.uniform(*how.shrink_factor), least)
        size = (round(width * factor), round(height * factor))
        image = pixels.resized(image, size, pixels.SHRINKING[rng.integers(3)])
    if _happens(rng, how.webp):
        image = pixels.as_webp(image, _whole(rng, how.webp_quality))
    if _happens(rng, how.jpeg):
        quality = _whole(rng, how.jpeg_quality)
        subsampling = pixels.SUBSAMPLING[int(_happens(rng, how.jpeg_full_chroma))]
        right, down = rng.integers(8, size=2).tolist()
        image = pixels.as_jpeg(image, quality, subsampling, (right, down))
    if image.shape[:2] != (height, width):
        image = pixels.resized(image, (width, height), pixels.ENLARGING[rng.integers(2)])
    return image


def _covered(image: Image, how: Augmentation, rng: np.random.Generator) -> Image:
    if not _happens(rng, how.cutout):
        return image
    image = image.copy()
    height, width = image.shape[:2]
    for _ in range(_whole(rng, how.cutout_count)):
        share = rng.uniform(*how.cutout_side, 2)
        size = np.maximum(1, np.rint(share * (height, width))).astype(int)
        top, left = (rng.random(2) * ((height, width) - size + 1)).astype(int)
        image[top : top + size[0], left : left + size[1]] = 0
    return image


def augmenter(view: int, seed: int) -> Callable[[Image, str], Image]:
    """A function of (picture, content hash): the same picture changes the same way each time."""

    def change(image: Image, sha256: str) -> Image:
        return augment(image, np.random.default_rng([seed, view, int(sha256[:16], 16)]))

    return change


def augment(image: Image, rng: np.random.Generator) -> Image:
    """A mirrored, shrunk, blurred, lightened and recompressed copy, each by chance.

    Args:
        image: RGB uint8 ``(H, W, 3)``.
        rng: Where chance comes from.
    """
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
    if rng.random() < 0.7:
        factor = max(rng.uniform(0.4, 1.0), min(1.0, _LEAST_SIDE / min(height, width)))
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        image = _uint8(cv2.resize(image, size, interpolation=_FILTERS[rng.integers(3)]))
    if rng.random() < 0.3:
        image = _uint8(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.2)))
    if rng.random() < 0.3:
        gain, offset = rng.uniform(0.8, 1.2), rng.uniform(-20, 20)
        image = np.clip(image * gain + offset, 0, 255).astype(np.uint8)
    if rng.random() < 0.9:
        image = _recompressed(image, int(rng.integers(40, 98)))
    return image


def _recompressed(image: Image, quality: int) -> Image:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return _uint8(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def _uint8(image: cv2.typing.MatLike) -> Image:
    return np.asarray(image, np.uint8)
