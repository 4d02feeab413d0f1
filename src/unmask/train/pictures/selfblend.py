"""Pseudo-fakes from reals alone: a face blended onto itself, with slight mismatches.

After Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images" (CVPR 2022): what a face
swap leaves behind is a boundary, and colours, sharpness and landmarks that do not quite fit. All of
these arise when a picture is changed a little and blended with its unchanged self under a mask of
the face. Own implementation; where it departs from the paper, the fields below say so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import cv2
import numpy as np
import numpy.typing as npt

from unmask.errors import ConfigError, FaceError
from unmask.faces.align import similarity, template
from unmask.train.pictures import pixel_changes as pixels
from unmask.train.pictures.masks import Mask, Range, bent, blended, softened, within_picture
from unmask.types import Image

__all__ = ["SelfBlendSpec", "self_blended"]

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SelfBlendSpec:
    """How far the two copies of a face may differ, and what their mask looks like.

    What is drawn is drawn evenly from the ranges. Lengths are shares of the mask's size, the square
    root of its area, so that faces of any resolution are treated alike.

    Raises:
        ConfigError: If a value is out of its range.
    """

    # Colour, always
    shift: float = 12.0
    """At most so many levels of 255, added to each of R, G and B; a third of it is the same for
    all three."""
    hue: float = 5.0
    """At most so many degrees about the grey axis."""
    saturation: float = 0.2
    """Saturation is scaled by 1 plus or minus at most this."""
    contrast: float = 0.1
    """Contrast, likewise."""

    # Frequency
    soften: float = 0.5
    """How often the copy is shrunk and enlarged again; else it is sharpened."""
    soften_factor: Range = (0.35, 0.8)
    """By which factor it is shrunk."""
    sharpen_amount: Range = (0.2, 0.8)
    """Of the unsharp mask."""

    # Place
    zoom: float = 0.04
    """The copy is scaled by 1 plus or minus at most this."""
    move: float = 0.04
    """It moves at most this far to the side, and half as far up or down."""
    turn: float = 2.0
    """It turns by at most so many degrees; 0 in the paper."""

    # Mask
    part: float = 0.25
    """How often it is eyes, nose or mouth in place of the whole face, where that is large enough;
    0 in the paper."""
    no_forehead: float = 0.25
    """Of whole faces, how often it ends at the eyebrows."""
    deform: float = 0.06
    """How far its outline is bent, as the standard deviation of a smooth random field."""
    grow: Range = (-0.12, 0.06)
    """By how much it is widened before its edge is softened, or narrowed (below 0)."""
    feather: Range = (0.01, 0.06)
    """Sigma of the Gaussian that softens its edge."""
    ratios: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)
    """What the mask is multiplied by; one of these."""

    # Which copy
    outside: float = 0.0
    """How often colour and frequency change outside the face in place of inside. Half in the
    paper, where the unblended real is changed likewise. At 0 a picture is itself outside of the
    mask, so that nothing there tells it from a real one."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        for field in fields(self):
            low, high = _LIMITS.get(field.name, (0.0, 1.0))
            value = getattr(self, field.name)
            ends = value if isinstance(value, tuple) else (value,)
            ordered = list(ends) == sorted(ends)
            if not (ends and ordered and low <= ends[0] and ends[-1] <= high):
                raise ConfigError(
                    f"self-blending: {field.name} is {value}; it must be within {low:g} to "
                    f"{high:g}" + (", the smaller number first" if isinstance(value, tuple) else "")
                )


_LIMITS: Mapping[str, Range] = {
    "shift": (0, 255),
    "hue": (0, 180),
    "soften_factor": (0.05, 1),
    "sharpen_amount": (0, 10),
    "zoom": (0, 0.5),
    "turn": (0, 180),
    "deform": (0, 0.5),
    "grow": (-0.2, 0.5),
    "feather": (0.001, 0.5),
    "ratios": (0.01, 1),
}
"""Of what is neither a probability nor a share."""

_FACE = ((56.0, 66.5), (41.0, 50.0))
_BARE_FACE = ((56.0, 77.5), (41.0, 39.0))
_PARTS = (
    ((56.0, 50.0), (35.0, 13.0)),  # eyes and eyebrows
    ((56.0, 67.0), (13.0, 17.0)),  # nose
    ((56.0, 92.0), (19.0, 9.0)),  # mouth
)
"""Centre and half axes of ellipses around a face, without its forehead, and around its parts, in
the template of alignment at 112 pixels and scale 1. Measured as the median of dlib's 81 points on
123 aligned photos."""

_WITHOUT_FOREHEAD = 68
"""Points of iBUG 300-W: jaw 0-16, eyebrows 17-26, nose 27-35, eyes 36-47, mouth 48-67."""
_PART_POINTS = ((*range(17, 27), *range(36, 48)), tuple(range(27, 36)), tuple(range(48, 68)))
_PART_MARGIN = 1.4
"""The hull of a part's points, widened about its middle: they lie on its outline."""

_LEAST_AREA = 48
"""Pixels; a smaller mask would be an edge without an inside."""


def self_blended(
    image: Image,
    landmarks: npt.ArrayLike,
    rng: np.random.Generator,
    spec: SelfBlendSpec | None = None,
) -> tuple[Image, Mask]:
    """The picture with its face blended onto itself, and how much of each pixel was blended in.

    Args:
        image: RGB uint8 ``(H, W, 3)``; it is not altered.
        landmarks: ``(5, 2)`` eye, eye, nose, mouth, mouth (the face is an ellipse about them), or
            ``(68, 2)`` or ``(81, 2)`` of dlib (the face is their convex hull), in pixels. Some may
            lie beyond the picture's edge, as foreheads do.
        rng: Where chance comes from.
        spec: How much; None is the default.

    Returns:
        The blended picture, and its mask ``(H, W)`` float32 in 0..1, with at least one pixel above
        0. Where the mask is 0 the picture is as it was (unless ``spec.outside`` is above 0).

    Raises:
        FaceError: If there are other than 5, 68 or 81 points, if most of them lie outside of the
            picture, or if they enclose fewer than 48 pixels of it.
    """
    how = SelfBlendSpec() if spec is None else spec
    points = _checked(landmarks, image)
    target = image
    hull, size = _hull(points, image, how, rng)
    if rng.random() < how.outside:
        source, target = image, _mismatched(image, how, rng)
    else:
        source = _mismatched(image, how, rng)
    source = _moved(source, hull, size, how, rng)
    formed = within_picture(bent(hull, size, how.deform, how.grow, rng), image, size)
    mask = softened(formed, size, how.feather, rng)
    mask *= np.float32(rng.choice(how.ratios))
    return blended(source, target, mask), mask


def _checked(landmarks: npt.ArrayLike, image: Image) -> Points:
    points = np.asarray(landmarks, np.float64)
    if points.shape not in ((5, 2), (68, 2), (81, 2)) or not np.isfinite(points).all():
        raise FaceError(
            f"landmarks of shape {points.shape} cannot outline a face: expected finite (x, y) of "
            "5 points, or of dlib's 68 or 81."
        )
    height, width = image.shape[:2]
    inside = ((points >= 0) & (points <= (width, height))).all(1)
    if 2 * inside.sum() < len(points):
        raise FaceError(
            f"{len(points) - inside.sum()} of {len(points)} landmarks lie outside of the picture "
            f"of {width} x {height} pixels. Expected landmarks in pixels of this picture."
        )
    return points


def _hull(
    points: Points, image: Image, how: SelfBlendSpec, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], float]:
    """A drawn region of the face, 0 or 1 ``(H, W)``, and its size in pixels."""
    part = int(rng.integers(3)) if rng.random() < how.part else None
    bare = rng.random() < how.no_forehead
    for region in (part, None):  # a part of a small face may be too small
        if len(points) == 5:
            outline = _ellipse(points, region, bare, rng)
        else:
            outline = _of(points, region, bare)
        hull = np.zeros(image.shape[:2], np.uint8)
        corners = cv2.convexHull(np.rint(outline).astype(np.int32))
        cv2.fillConvexPoly(hull, corners, (1,))
        area = cv2.countNonZero(hull)
        if area >= _LEAST_AREA:
            return hull, math.sqrt(area)
    raise FaceError(
        f"the landmarks enclose {area} pixels of the picture; at least {_LEAST_AREA} are needed to "
        "blend a face onto itself."
    )


def _ellipse(points: Points, part: int | None, bare: bool, rng: np.random.Generator) -> Points:
    """``(36, 2)`` around the five points, its axes drawn a little longer or shorter."""
    centre, axes = _PARTS[part] if part is not None else _BARE_FACE if bare else _FACE
    angles = np.arange(36) * (2 * np.pi / 36)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    own = np.array(centre) + circle * axes * rng.uniform(0.9, 1.1, 2)
    matrix = similarity(template(112, 1.0), points)
    return np.asarray(own @ matrix[:, :2].T + matrix[:, 2], np.float64)


def _of(points: Points, part: int | None, bare: bool) -> Points:
    if part is not None:
        own = points[list(_PART_POINTS[part])]
        middle = own.mean(0)
        return np.asarray(middle + _PART_MARGIN * (own - middle), np.float64)
    return points[:_WITHOUT_FOREHEAD] if bare else points


def _mismatched(image: Image, how: SelfBlendSpec, rng: np.random.Generator) -> Image:
    """The picture in slightly other colours, and softer or sharper."""
    common = rng.uniform(-how.shift, how.shift) / 3
    red, green, blue = (common + rng.uniform(-how.shift, how.shift, 3) * 2 / 3).tolist()
    matrix = pixels.colour_matrix(
        hue=rng.uniform(-how.hue, how.hue),
        saturation=1 + rng.uniform(-how.saturation, how.saturation),
        contrast=1 + rng.uniform(-how.contrast, how.contrast),
        offset=(red, green, blue),
    )
    image = pixels.recoloured(image, matrix)
    if rng.random() >= how.soften:
        return pixels.sharpened(image, rng.uniform(*how.sharpen_amount))
    height, width = image.shape[:2]
    factor = rng.uniform(*how.soften_factor)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    image = pixels.resized(image, size, pixels.SHRINKING[rng.integers(3)])
    return pixels.resized(image, (width, height), pixels.ENLARGING[rng.integers(2)])


def _moved(
    image: Image,
    hull: npt.NDArray[np.uint8],
    size: float,
    how: SelfBlendSpec,
    rng: np.random.Generator,
) -> Image:
    """The picture turned and scaled about the middle of the face, and shifted."""
    x, y, width, height = cv2.boundingRect(hull)
    matrix = cv2.getRotationMatrix2D(
        (x + width / 2, y + height / 2),
        rng.uniform(-how.turn, how.turn),
        1 + rng.uniform(-how.zoom, how.zoom),
    )
    move = size * how.move * rng.uniform(-1, 1, 2) * (1.0, 0.5)
    shifted = np.asarray(matrix, np.float64)
    shifted[:, 2] += move
    return pixels.placed(image, shifted)
