"""How training crops are altered: every knob, and presets by name.

What they do is in :mod:`unmask.train.pictures.augment`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from unmask.errors import ConfigError, near_names

__all__ = ["PRESETS", "Augmentation", "Range", "parse_augmentation"]

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How often each change happens (0 to 1), and how strong it is; by default none does.

    Changes come in the order of these fields: where the face lies, its colours, the camera, and
    how the picture was saved. What is drawn is drawn evenly from the ranges. Lengths are in pixels
    of the crop.

    Raises:
        ConfigError: If a value is out of its range.
    """

    # Where the face lies
    flip: float = 0.0
    """How often left and right change places."""
    affine: float = 0.0
    """How often the picture is turned, scaled and shifted."""
    rotation: float = 0.0
    """By at most so many degrees, either way."""
    zoom: Range = (1.0, 1.0)
    """By a factor."""
    shift: float = 0.0
    """By at most this share of the side, along each axis."""

    # Colours
    tone: float = 0.0
    """How often brightness and contrast change."""
    brightness: float = 0.0
    """By at most this share of 255, either way."""
    contrast: float = 0.0
    """By a factor of 1 plus or minus at most this."""
    gamma: float = 0.0
    """How often the levels (of 0 to 1) are raised to a power."""
    gamma_power: Range = (0.8, 1.2)
    """Which one."""
    colour: float = 0.0
    """How often hue, saturation and brightness change."""
    hue: float = 0.0
    """By at most so many degrees about the grey axis, either way."""
    saturation: float = 0.0
    """By a factor of 1 plus or minus at most this."""
    value: float = 0.0
    """By at most this share of 255, either way."""
    grayscale: float = 0.0
    """How often the colours go."""
    shuffle: float = 0.0
    """How often red, green and blue change places."""
    clahe: float = 0.0
    """How often the luma is equalised in 8 x 8 tiles (CLAHE)."""
    clahe_limit: Range = (1.0, 4.0)
    """Its clip limit."""

    # The camera
    blur: float = 0.0
    """How often it is out of focus (Gaussian)."""
    blur_sigma: Range = (0.3, 1.5)
    """Sigma in pixels."""
    motion: float = 0.0
    """How often it moved, along a line in any direction."""
    motion_length: Range = (3, 7)
    """Length of the line in whole pixels."""
    glass: float = 0.0
    """How often it looks through rough glass, which makes pixels change places."""
    glass_reach: int = 4
    """How far at most, along each axis."""
    noise: float = 0.0
    """How often it is grainy (Gaussian, each channel its own)."""
    noise_sigma: Range = (1.0, 8.0)
    """Sigma in levels of 255."""

    # How it was saved
    shrink: float = 0.0
    """How often it is saved smaller, and enlarged again when it is used, filters drawn."""
    shrink_factor: Range = (0.4, 1.0)
    """By which factor."""
    shrink_least: int = 80
    """No side gets shorter than this by shrinking."""
    webp: float = 0.0
    """How often it is saved as WebP."""
    webp_quality: Range = (40, 95)
    """With which quality."""
    jpeg: float = 0.0
    """How often it is saved as JPEG (after WebP, where it is both)."""
    jpeg_quality: Range = (40, 97)
    """With which quality."""
    jpeg_full_chroma: float = 0.3
    """How often a JPEG keeps colours at the whole resolution (4:4:4, else 4:2:0)."""

    # On top of it
    cutout: float = 0.0
    """How often rectangles are blackened."""
    cutout_count: Range = (1, 3)
    """How many."""
    cutout_side: Range = (0.1, 0.3)
    """Their sides, as shares of the picture's."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        for field in fields(self):
            low, high = _LIMITS.get(field.name, (0.0, 1.0))
            value = getattr(self, field.name)
            ends = value if isinstance(value, tuple) else (value, value)
            if not low <= ends[0] <= ends[1] <= high:
                first = ", the smaller number first" if isinstance(value, tuple) else ""
                raise ConfigError(
                    f"augmentation: {field.name} is {_said(value)}; it must be within "
                    f"{low:g} to {high:g}{first}"
                )


_LIMITS: Mapping[str, Range] = {
    "rotation": (0, 180),
    "zoom": (0.1, 10),
    "gamma_power": (0.1, 10),
    "hue": (0, 180),
    "clahe_limit": (0.1, 100),
    "blur_sigma": (0.1, 20),
    "motion_length": (2, 99),
    "glass_reach": (1, 50),
    "noise_sigma": (0, 255),
    "shrink_factor": (0.01, 1),
    "shrink_least": (8, 10_000),
    "webp_quality": (1, 100),
    "jpeg_quality": (1, 100),
    "cutout_count": (1, 100),
    "cutout_side": (0.001, 1),
}
"""Of what is neither a probability nor a share."""

_STANDARD = Augmentation(
    flip=0.5,
    affine=0.5,
    rotation=10,
    zoom=(0.9, 1.1),
    shift=0.05,
    tone=0.3,
    brightness=0.15,
    contrast=0.2,
    colour=0.3,
    hue=8,
    saturation=0.3,
    value=0.05,
    grayscale=0.03,
    blur=0.2,
    motion=0.05,
    noise=0.1,
    shrink=0.6,
    webp=0.05,
    jpeg=0.8,
)

PRESETS: Mapping[str, Augmentation] = {
    "none": Augmentation(),
    # What `augment` does to the altered copies of a probe, here brought back to size.
    "probe": Augmentation(
        flip=0.5,
        shrink=0.7,
        blur=0.3,
        blur_sigma=(0.3, 1.2),
        tone=0.3,
        brightness=20 / 255,
        contrast=0.2,
        jpeg=0.9,
        jpeg_full_chroma=0.0,
    ),
    "standard": _STANDARD,
    "strong": replace(
        _STANDARD,
        affine=0.8,
        rotation=15,
        zoom=(0.8, 1.2),
        tone=0.5,
        brightness=0.2,
        contrast=0.3,
        gamma=0.2,
        colour=0.5,
        hue=15,
        saturation=0.5,
        grayscale=0.1,
        blur=0.3,
        blur_sigma=(0.3, 2.5),
        motion=0.1,
        motion_length=(3, 11),
        noise=0.2,
        noise_sigma=(1, 12),
        shrink=0.8,
        shrink_factor=(0.25, 1),
        shrink_least=56,
        webp=0.1,
        webp_quality=(20, 95),
        jpeg=0.9,
        jpeg_quality=(25, 97),
        cutout=0.2,
    ),
    # The released code of YZY-stack/Effort-AIGI-Detection: its hard-coded probabilities, and the
    # ranges that albumentations had by default. Hue and saturation turn and scale colours here;
    # there they are added in HSV (20 of 180 steps are 40 degrees, 30 of 255 about three tenths).
    "effort": Augmentation(
        flip=0.5,
        tone=0.5,
        brightness=0.2,
        contrast=0.2,
        colour=0.3,
        hue=40,
        saturation=0.3,
        value=20 / 255,
        jpeg=0.1,
        jpeg_quality=(40, 100),
        jpeg_full_chroma=0.0,
        noise=0.1,
        noise_sigma=(10**0.5, 50**0.5),
        motion=0.1,
        clahe=0.1,
        shuffle=0.1,
        cutout=0.1,
        cutout_count=(8, 8),
        cutout_side=(8 / 256, 8 / 256),
        gamma=0.3,
        glass=0.3,
    ),
    # GenD (Yermakov et al., arXiv:2508.06248). What is given there without a probability always
    # happens, and its kernel of 7 goes with torchvision's sigmas.
    "gend": Augmentation(
        flip=0.5,
        affine=1.0,
        rotation=10,
        shift=0.1,
        zoom=(0.9, 1.1),
        blur=0.1,
        blur_sigma=(0.1, 2.0),
        tone=1.0,
        brightness=0.1,
        contrast=0.1,
        jpeg=1.0,
        jpeg_quality=(40, 100),
        jpeg_full_chroma=0.0,
    ),
}
"""By name, what a setting may ask for."""


def parse_augmentation(text: str) -> Augmentation:
    """A preset by its name, with changes where they follow: ``standard, jpeg=0.9, zoom=0.8-1.2``.

    >>> parse_augmentation("none, shrink=0.5, shrink_factor=0.5-1").shrink_factor
    (0.5, 1.0)

    Raises:
        ConfigError: If a name is unknown (near names are offered), or a value cannot be.
    """
    name, *changes = re.split(r"[,\s]+", text.strip())
    if name not in PRESETS:
        raise ConfigError(f"augmentation is {name!r}. {near_names(name, PRESETS)}")
    known = {field.name for field in fields(Augmentation)}
    values: dict[str, float | Range] = {}
    for change in changes:
        knob, _, value = change.partition("=")
        if knob not in known:
            raise ConfigError(f"augmentation: {knob!r} is not known. {near_names(knob, known)}")
        values[knob] = _number_or_range(knob, value)
    return replace(PRESETS[name], **values)  # type: ignore[arg-type]  # by name


def _number_or_range(knob: str, text: str) -> float | Range:
    now = getattr(PRESETS["none"], knob)
    try:
        numbers = tuple(float(part) for part in re.split(r"(?<=\d)-", text))
    except ValueError:
        numbers = ()
    if isinstance(now, tuple):
        if len(numbers) in (1, 2):
            return numbers[0], numbers[-1]
        raise ConfigError(f"augmentation: {knob} is {text!r}; a range such as 0.5-1 was expected")
    if len(numbers) == 1 and (not isinstance(now, int) or numbers[0].is_integer()):
        return int(numbers[0]) if isinstance(now, int) else numbers[0]
    raise ConfigError(f"augmentation: {knob} is {text!r}; a number such as {now:g} was expected")


def _said(value: float | Range) -> str:
    return f"{value[0]:g}-{value[1]:g}" if isinstance(value, tuple) else f"{value:g}"
