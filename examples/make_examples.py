"""Makes the pictures in ``examples/images`` from one public-domain photo.

The photo is NASA's portrait of the astronaut Eileen Collins, as scikit-image ships it. Two
manipulated versions are made of it, both by simple means that anybody can read here:

* ``astronaut_blended.jpg``: the face is cut out, warped, recoloured and blended back along a soft
  mask, as face-swap tools do with the face of somebody else.
* ``astronaut_enlarged_eyes.jpg``: the eyes are enlarged by a local warp, as beauty filters do.

Run: ``python examples/make_examples.py`` (needs scikit-image, a development dependency).
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from skimage.data import astronaut

from unmask.faces import largest
from unmask.faces.yunet import YuNet
from unmask.types import Face, Image

FOLDER = Path(__file__).parent / "images"


def main() -> None:
    """Write the three pictures."""
    photo = np.asarray(astronaut(), np.uint8)
    face = largest(YuNet().find(photo))
    if face is None:
        raise SystemExit("no face was found in the photo; is scikit-image's data complete?")
    FOLDER.mkdir(exist_ok=True)
    save(photo, "astronaut.jpg")
    save(blended(photo, face), "astronaut_blended.jpg")
    save(enlarged_eyes(photo, face), "astronaut_enlarged_eyes.jpg")


def blended(photo: Image, face: Face) -> Image:
    """The face warped, recoloured, softened, and blended back along an elliptic mask."""
    height, width = photo.shape[:2]
    center = face.landmarks.mean(axis=0)
    eye_distance = float(np.linalg.norm(face.landmarks[1] - face.landmarks[0]))
    matrix = cv2.getRotationMatrix2D((float(center[0]), float(center[1])), angle=4, scale=1.06)
    warped = cv2.warpAffine(photo, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
    warped = cv2.GaussianBlur(warped, (0, 0), 1.0)
    recoloured = np.clip(warped * np.array([1.06, 0.98, 0.92]) + 4, 0, 255)
    mask = np.zeros((height, width), np.float32)
    axes = (int(1.05 * eye_distance), int(1.35 * eye_distance))
    middle = (int(center[0]), int(center[1]))
    cv2.ellipse(mask, middle, axes, angle=0, startAngle=0, endAngle=360, color=1.0, thickness=-1)
    mask = cv2.GaussianBlur(mask, (0, 0), eye_distance / 8)[..., None]
    return np.asarray(mask * recoloured + (1 - mask) * photo, np.uint8)


def enlarged_eyes(photo: Image, face: Face, strength: float = 0.35) -> Image:
    """Both eyes enlarged by drawing source positions towards the centre of each eye."""
    rows, columns = np.mgrid[: photo.shape[0], : photo.shape[1]].astype(np.float32)
    eye_distance = float(np.linalg.norm(face.landmarks[1] - face.landmarks[0]))
    x, y = columns.copy(), rows.copy()
    for eye in face.landmarks[:2]:
        dx, dy = columns - eye[0], rows - eye[1]
        pull = strength * _bump(np.hypot(dx, dy) / (0.5 * eye_distance))
        x -= pull * dx
        y -= pull * dy
    return np.asarray(cv2.remap(photo, x, y, cv2.INTER_CUBIC), np.uint8)


def _bump(radius: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """1 at the centre, falling smoothly to 0 at radius 1."""
    return np.where(radius < 1, (1 - radius**2) ** 2, 0).astype(np.float32)


def save(image: Image, name: str) -> None:
    """Write one picture the way a phone would: JPEG of good quality."""
    PillowImage.fromarray(image).save(FOLDER / name, "JPEG", quality=92)
    print(f"wrote {FOLDER / name}")


if __name__ == "__main__":
    main()
