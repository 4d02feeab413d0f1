"""What pictures go through on their way to a detector, done on purpose and in known strength.

Seven kinds, five severities each. The table of parameters is :data:`PARAMETERS`; a change is named
``jpeg@3`` (kind and severity) or, where one number describes it, ``jpeg:60`` (kind and number).

=========== ================================== ===== ===== ===== ===== =====
kind        parameter                              1     2     3     4     5
=========== ================================== ===== ===== ===== ===== =====
jpeg        quality, 4:2:0                        90    75    60    40    20
webp        quality                               90    75    60    40    20
resize      factor of the sides, down and up    0.75   0.5  0.35  0.25 0.175
blur        sigma in pixels                      0.5     1   1.5     2     3
noise       sigma in grey levels of 255            2     4     8    12    20
screenshot  factor of the sides on the screen   0.95  0.85  0.75   0.6   0.5
social      longer side in pixels, twice        2048  1440  1080   720   480
=========== ================================== ===== ===== ===== ===== =====

With ``screenshot`` goes a strongest gamma of 1.05, 1.1, 1.15, 1.2, 1.3; with ``social`` a JPEG
quality of 85, 80, 75, 65, 55. The ranges cover what messengers and networks do to photos; qualities
75 and 60 and half the size are the severities most often reported for detectors.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageFilter

from unmask.errors import ConfigError, near_names
from unmask.types import Image

__all__ = [
    "KINDS",
    "PARAMETERS",
    "SEVERITIES",
    "Change",
    "PerturbationKind",
    "apply_change",
    "parse_change",
    "perturb",
]

PerturbationKind = Literal["jpeg", "webp", "resize", "blur", "noise", "screenshot", "social"]

KINDS: tuple[PerturbationKind, ...] = get_args(PerturbationKind)

SEVERITIES = (1, 2, 3, 4, 5)

PARAMETERS: Mapping[PerturbationKind, tuple[float, ...]] = {
    "jpeg": (90, 75, 60, 40, 20),
    "webp": (90, 75, 60, 40, 20),
    "resize": (0.75, 0.5, 0.35, 0.25, 0.175),
    "blur": (0.5, 1.0, 1.5, 2.0, 3.0),
    "noise": (2, 4, 8, 12, 20),
    "screenshot": (0.95, 0.85, 0.75, 0.6, 0.5),
    "social": (2048, 1440, 1080, 720, 480),
}
"""One number per severity, in the unit that the table of this module gives."""

_GAMMA = (1.05, 1.1, 1.15, 1.2, 1.3)
"""Of ``screenshot`` per severity: the drawn exponent lies between its inverse and itself."""

_SOCIAL_QUALITY = (85, 80, 75, 65, 55)

_RANGES: Mapping[PerturbationKind, tuple[float, float]] = {
    "jpeg": (1, 100),
    "webp": (0, 100),
    "resize": (0.01, 1.0),
    "blur": (0.0, 100.0),
    "noise": (0.0, 255.0),
}
"""Kinds that one number describes, and what it may be."""

_SUBSAMPLED = 2
"""Pillow's number for 4:2:0, half the chroma resolution on both axes."""


@dataclass(frozen=True, slots=True)
class Change:
    """One perturbation by its numbers. Made by :func:`parse_change`."""

    kind: PerturbationKind
    value: float
    """Of the table in this module: quality, factor, sigma or longer side."""
    second: float = 0.0
    """``screenshot``: strongest gamma; ``social``: JPEG quality; else unused."""


def perturb(image: Image, kind: PerturbationKind, severity: int, *, seed: int) -> Image:
    """A changed copy of the picture, RGB uint8 and of the same size ``(H, W, 3)``.

    What shrinks the picture (``resize``, ``screenshot``, ``social``) enlarges it again by a bicubic
    filter, so that boxes and crops still fit.

    Args:
        image: RGB uint8 ``(H, W, 3)``; it is not altered.
        kind: One of :data:`KINDS`.
        severity: 1 (mild) to 5 (strong).
        seed: Of ``noise`` and of the gamma of ``screenshot``; the other kinds draw nothing.

    Raises:
        ConfigError: another kind or severity.
    """
    return apply_change(image, _of_severity(kind, severity), seed=seed)


def parse_change(name: str) -> Change:
    """The change that a name stands for: ``jpeg:60``, ``resize:0.5``, ``social@3``.

    >>> parse_change("jpeg:60")
    Change(kind='jpeg', value=60.0, second=0.0)
    >>> parse_change("social@3")
    Change(kind='social', value=1080.0, second=75.0)

    Raises:
        ConfigError: another kind, or a number outside its range.
    """
    for mark in "@:":
        text, found, number = name.partition(mark)
        if found:
            break
    else:
        raise ConfigError(
            f"perturbation {name!r}: no strength. Expected a severity from 1 to 5 ({name}@3), or a "
            "number of the kind's own (jpeg:60)."
        )
    kind = _kind(text)
    try:
        value = float(number)
    except ValueError as error:
        raise ConfigError(
            f"perturbation {name!r}: {number!r} is no number. Expected {kind}{mark}NUMBER."
        ) from error
    if mark == "@":
        if value not in SEVERITIES:
            raise ConfigError(f"severity {number} of {kind}: expected a whole number from 1 to 5")
        return _of_severity(kind, int(value))
    if kind not in _RANGES:
        raise ConfigError(
            f"perturbation {name!r}: {kind} is more than one number; give a severity, {kind}@3"
        )
    low, high = _RANGES[kind]
    if not low <= value <= high:
        raise ConfigError(f"perturbation {name!r}: expected a number from {low:g} to {high:g}")
    return Change(kind, value)


def apply_change(image: Image, change: Change, *, seed: int) -> Image:
    """A changed copy of the picture, see :func:`perturb`.

    Raises:
        ConfigError: the picture is not RGB uint8 ``(H, W, 3)``.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ConfigError(
            f"a picture of shape {image.shape} and type {image.dtype}; expected RGB uint8 (H, W, 3)"
        )
    return _CHANGES[change.kind](image, change, np.random.default_rng(seed))


def _kind(text: str) -> PerturbationKind:
    for kind in KINDS:
        if kind == text:
            return kind
    raise ConfigError(f"perturbation {text!r} is not known. {near_names(text, KINDS)}")


def _of_severity(kind: PerturbationKind, severity: int) -> Change:
    kind = _kind(kind)
    if severity not in SEVERITIES:
        raise ConfigError(f"severity {severity} of {kind}: expected a whole number from 1 to 5")
    second = {"screenshot": _GAMMA, "social": _SOCIAL_QUALITY}.get(kind, (0.0,) * 5)
    return Change(kind, float(PARAMETERS[kind][severity - 1]), float(second[severity - 1]))


def _jpeg(image: Image, change: Change, _: np.random.Generator) -> Image:
    return _saved(image, "JPEG", quality=round(change.value), subsampling=_SUBSAMPLED)


def _webp(image: Image, change: Change, _: np.random.Generator) -> Image:
    return _saved(image, "WEBP", quality=round(change.value))


def _resize(image: Image, change: Change, _: np.random.Generator) -> Image:
    return _scaled(_shrunk(image, change.value), image.shape)


def _blur(image: Image, change: Change, _: np.random.Generator) -> Image:
    """Gaussian, as Pillow approximates it by three box filters on each axis."""
    blurred = PillowImage.fromarray(image).filter(ImageFilter.GaussianBlur(change.value))
    return np.array(blurred)


def _noise(image: Image, change: Change, rng: np.random.Generator) -> Image:
    """Normal, independent of pixel and channel; added in float and rounded once."""
    noisy = image + rng.normal(0.0, change.value, image.shape).astype(np.float32)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _screenshot(image: Image, change: Change, rng: np.random.Generator) -> Image:
    """Shown at another size, photographed from the screen with another gamma, saved as PNG.

    The gamma acts on 8-bit values and is rounded to 8 bits, so that levels merge or stay empty.
    PNG itself loses nothing, and no border is added, since the picture keeps its size.
    """
    shown = _shrunk(image, change.value)
    gamma = change.second ** rng.uniform(-1.0, 1.0)
    levels = np.rint(255.0 * (np.arange(256) / 255.0) ** gamma).astype(np.uint8)
    return _scaled(levels[shown], image.shape)


def _social(image: Image, change: Change, _: np.random.Generator) -> Image:
    """Uploaded twice: each time shrunk to the limit, if larger, and saved as JPEG with 4:2:0.

    The second time with a limit of nine tenths, so that the block grids do not fall together. A
    picture below the limits is compressed only.
    """
    posted = image
    for limit in (change.value, 0.9 * change.value):
        posted = _shrunk(posted, min(1.0, limit / max(posted.shape[:2])))
        posted = _saved(posted, "JPEG", quality=round(change.second), subsampling=_SUBSAMPLED)
    return _scaled(posted, image.shape)


_CHANGES: Mapping[PerturbationKind, Callable[[Image, Change, np.random.Generator], Image]] = {
    "jpeg": _jpeg,
    "webp": _webp,
    "resize": _resize,
    "blur": _blur,
    "noise": _noise,
    "screenshot": _screenshot,
    "social": _social,
}


def _saved(image: Image, kind: str, **options: object) -> Image:
    """What is left of a picture after it was saved and opened again."""
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, kind, **options)
    with PillowImage.open(buffer, formats=(kind,)) as picture:
        return np.array(picture.convert("RGB"))


def _shrunk(image: Image, factor: float) -> Image:
    """Smaller by ``factor`` on both sides, at least one pixel, smoothed as it shrinks."""
    height, width = image.shape[:2]
    return _scaled(image, (max(1, round(height * factor)), max(1, round(width * factor))))


def _scaled(image: Image, shape: tuple[int, ...]) -> Image:
    """The picture with the height and width of ``shape``, by a bicubic filter."""
    size = (shape[1], shape[0])
    if image.shape[1::-1] == size:
        return image.copy()
    return np.array(PillowImage.fromarray(image).resize(size, PillowImage.Resampling.BICUBIC))
