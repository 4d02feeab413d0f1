"""Pseudo-fakes from two reals: a face whose eyes, nose or mouth are another person's.

What a forger does in a picture editor: a part is cut out generously, laid where the other was,
matched in colour more or less well, and its edge is softened, or healed into the skin around it.
Own implementation of known steps: colours are moved by mean and deviation (Reinhard et al., "Color
Transfer between Images", 2001; here in CIELAB, of a ring about the part), and the healing brush is
Poisson blending (Pérez et al., "Poisson Image Editing", 2003; OpenCV's ``seamlessClone``).
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from unmask.errors import FaceError
from unmask.faces.align import similarity, template
from unmask.train.pictures.masks import Mask, Region, bent, blended, softened, within_picture
from unmask.types import Image

__all__ = ["composed"]

Points = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

_LEFT_EYE, _RIGHT_EYE, _NOSE, _MOUTH = range(4)
_OUTLINES = (
    ((0.0, -3.0), (19.0, 14.0)),  # an eye and its eyebrow
    ((0.0, -3.0), (19.0, 14.0)),
    ((0.0, -6.0), (14.0, 18.0)),  # the nose, about its tip
    ((0.0, 0.0), (20.0, 10.0)),  # the mouth, about the middle of its corners
)
"""Of each part an ellipse: its centre beside the landmark, and its half axes, in the template of
alignment at 112 pixels and scale 1. Those of nose and mouth are the median of dlib's outlines on
123 aligned photos; those of an eye are half of the one about both, which reaches over the nose."""
_AXES = (0.8, 1.3)
"""Each axis is drawn longer or shorter by a factor between these: parts are cut out generously."""

_BOTH_EYES, _ONE_EYE = 0.55, 0.2
"""How often both eyes are another person's, and how often one of them; else none is."""
_PART = 0.6
"""How often the nose is, and how often the mouth."""
_ONE_PIECE = 0.3
"""How often parts that are laid together are cut out as one piece, with the skin between them."""
_APART = 0.6
"""How often each part is laid by itself, where the other was; else all lie as in their own face."""
_SCALE = 0.05
"""Of a part laid by itself, the standard deviation of the mistake in its size."""
_PLACE = 0.03
"""Likewise in its place, as a share of the distance of the eyes."""
_HEALED = 0.4
"""How often the edge is healed by Poisson blending, else softened."""
_MATCHED = (0.0, 0.5, 0.8, 1.0, 1.0)
"""How far the mean colour is brought to that of the skin around; one of these."""
_DEVIATIONS = (0.6, 1.6)
"""The contrast is changed by a factor between these at most."""
_FEATHER = (0.05, 0.3)
"""Sigma of the softened edge, as a share of the size of the part."""
_DEFORM, _GROW = 0.05, (-0.03, 0.05)
"""As of :class:`unmask.train.pictures.selfblend.SelfBlendSpec`."""
_RING = 0.3
"""Width of the ring whose colours are compared, as a share of the size of the part."""
_LEAST_AREA = 24
"""Pixels; a smaller part is left as it is."""


def composed(
    image: Image,
    landmarks: npt.ArrayLike,
    donor: Image,
    donor_landmarks: npt.ArrayLike,
    rng: np.random.Generator,
) -> tuple[Image, Mask]:
    """The picture with parts of the donor's face, and how much of each pixel is the donor's.

    Args:
        image: RGB uint8 ``(H, W, 3)``; it is not altered.
        landmarks: ``(5, 2)`` eye, eye, nose, mouth, mouth, in pixels of ``image``.
        donor: RGB uint8 ``(h, w, 3)``, best a face that looks the same way.
        donor_landmarks: Likewise, in pixels of ``donor``.
        rng: Where chance comes from.

    Returns:
        The composite, and the mask ``(H, W)`` float32 in 0..1; somewhere it is above 0.5. Where it
        is 0 the picture is as it was, but in the bounding box of a healed part, whose surroundings
        are evened out a little.

    Raises:
        FaceError: If there are other than 5 finite landmarks, or no part of at least 24 pixels
            lies within the picture.
    """
    own, other = (_checked(points) for points in (landmarks, donor_landmarks))
    parts = _drawn(rng)
    apart = rng.random() < _APART
    healed = rng.random() < _HEALED
    strength, spread = float(rng.choice(_MATCHED)), rng.random()
    groups = [[part] for part in parts] if apart else [parts]
    result, mask = image, np.zeros(image.shape[:2], np.float32)
    for group in groups:
        laid = _laid(donor, other, own, group if apart else None, image.shape[:2], rng)
        outlined = _outlined(own, group, image.shape[:2], rng)
        size = math.sqrt(cv2.countNonZero(outlined))
        if size * size < _LEAST_AREA:
            continue
        region = within_picture(bent(outlined, size, _DEFORM, _GROW, rng), laid, size)
        soft = softened(region, size, _FEATHER, rng)
        laid = _matched(laid, result, region, size, strength, spread)
        if healed and (clear := _clear_of_edges(region)) is not None:
            soft = np.asarray(clear > 0, np.float32)  # now, for OpenCV turns the mask inside out
            # All of it is taken: what lies about the part is evened out with it, without a seam.
            cloned = cv2.seamlessClone(laid, result, clear, _middle(clear), cv2.NORMAL_CLONE)
            result = np.asarray(cloned, np.uint8)
        else:
            result = blended(laid, result, soft)
        mask = np.maximum(mask, soft)
    if result is image:
        raise FaceError(
            f"no part of the face covers {_LEAST_AREA} pixels of the picture of "
            f"{image.shape[1]} x {image.shape[0]}; it is too small to be composed, or its "
            "landmarks lie outside."
        )
    return result, mask


def _checked(landmarks: npt.ArrayLike) -> Points:
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise FaceError(
            f"landmarks of shape {points.shape} say not where eyes, nose and mouth are: expected "
            "5 finite points (x, y)."
        )
    return points


def _drawn(rng: np.random.Generator) -> list[int]:
    """Which parts are the donor's; at least one."""
    eyes, nose, mouth = rng.random(3)
    first = int(rng.integers(4))
    parts = []
    if eyes < _BOTH_EYES:
        parts = [_LEFT_EYE, _RIGHT_EYE]
    elif eyes < _BOTH_EYES + _ONE_EYE:
        parts = [first % 2]
    parts += [part for part, chance in ((_NOSE, nose), (_MOUTH, mouth)) if chance < _PART]
    return parts or [first]


def _centre(points: Points, part: int) -> Points:
    """The landmark of a part; of the mouth, the middle of its corners."""
    return np.asarray(points[3:].mean(0) if part == _MOUTH else points[part], np.float64)


def _laid(
    donor: Image,
    points: Points,
    onto: Points,
    parts: list[int] | None,
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> Image:
    """The donor's face laid over the other; where parts are given, so that these coincide."""
    matrix = similarity(points, onto)
    if parts is not None:
        place = np.mean([_centre(onto, part) for part in parts], 0)
        from_ = np.mean([_centre(points, part) for part in parts], 0)
        matrix[:, :2] *= 1 + _SCALE * float(np.clip(rng.standard_normal(), -3, 3))
        distance = float(np.linalg.norm(onto[0] - onto[1]))
        mistake = _PLACE * distance * rng.standard_normal(2)
        matrix[:, 2] = place + mistake - matrix[:, :2] @ from_
    laid = cv2.warpAffine(
        donor, matrix, (shape[1], shape[0]), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(laid, np.uint8)


def _outlined(
    points: Points, parts: list[int], shape: tuple[int, ...], rng: np.random.Generator
) -> Region:
    """The parts cut out of the face, 0 or 1 ``(H, W)``."""
    turn = similarity(template(112, 1.0), points)[:, :2]
    angles = np.arange(24) * (2 * np.pi / 24)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    outlines = []
    for part in parts:
        beside, axes = _OUTLINES[part]
        own = np.array(beside) + circle * axes * rng.uniform(*_AXES, 2)
        outlines.append(_centre(points, part) + own @ turn.T)
    if rng.random() < _ONE_PIECE:
        outlines = [np.concatenate(outlines)]
    region = np.zeros(shape, np.uint8)
    for outline in outlines:
        cv2.fillConvexPoly(region, cv2.convexHull(np.rint(outline).astype(np.int32)), (1,))
    return region


def _matched(
    laid: Image, onto: Image, region: Region, size: float, strength: float, spread: float
) -> Image:
    """The donor's face with the colours that the other has in a ring about the part."""
    side = 2 * max(1, round(_RING * size)) + 1
    around = cv2.dilate(region, np.ones((side, side), np.uint8))
    ring = (around > 127) & (region <= 127)
    if not ring.any():  # the part fills the picture
        return laid
    source, target = (
        cv2.cvtColor(each, cv2.COLOR_RGB2LAB).astype(np.float32) for each in (laid, onto)
    )
    means = [each[ring].mean(0) for each in (source, target)]
    deviations = [each[ring].std(0) + 1 for each in (source, target)]
    gain = np.clip((deviations[1] / deviations[0]) ** spread, *_DEVIATIONS)
    moved = (source - means[0]) * gain + means[0] + strength * (means[1] - means[0])
    rounded = np.clip(np.rint(moved), 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(rounded, cv2.COLOR_LAB2RGB), np.uint8)


def _clear_of_edges(region: Region) -> Region | None:
    """The part as 0 or 255, if no pixel of it lies at the picture's edge, where healing fails."""
    clear = np.where(region > 127, np.uint8(255), np.uint8(0))
    x, y, width, height = cv2.boundingRect(clear)
    inside = x > 1 and y > 1 and x + width < region.shape[1] - 1 and y + height < len(region) - 1
    return clear if inside and width > 2 and height > 2 else None


def _middle(region: Region) -> tuple[int, int]:
    """Where OpenCV has to be told that the middle of the region's bounding box belongs."""
    x, y, width, height = cv2.boundingRect(region)
    return x + width // 2, y + height // 2
