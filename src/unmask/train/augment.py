"""What happens to pictures on their way through the world, done to training pictures.

Each change is drawn alike for real and fake: a detector must not learn which source was saved in
which way. The ranges follow what sharing services do to a photo (shrink, recompress, filter).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from unmask.types import Image

__all__ = ["augment", "augmenter"]

_LEAST_SIDE = 80
"""Pixels; below it a face is no longer recognisable after shrinking."""

_FILTERS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


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
