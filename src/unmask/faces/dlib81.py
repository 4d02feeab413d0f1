"""Faces as the reference finds them: dlib's frontal detector and its 81-point landmarks.

Slow (see ``benchmarks/README.md``); for crops equal to those that released detectors were
trained on. The YuNet finder is the default.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import dlib
import numpy as np
import numpy.typing as npt

from unmask.errors import LandmarkFileError
from unmask.faces import by_area
from unmask.fetch import cache_root, landmarks_path
from unmask.types import Face, Image

__all__ = ["POINTS", "Dlib81"]

POINTS = (37, 44, 30, 49, 55)
"""Which of the points, counted from 0, stand for eye, eye, nose, mouth, mouth. 49 and 55 are not
the corners of the mouth (those are 48 and 54), but training data were cut with these, so
"correcting" them would move every crop away from what released detectors know."""

_POINT_COUNTS = (68, 81)
"""The 81 points are the usual 68 (iBUG 300-W numbering) and 13 on the forehead."""

_UPSAMPLE = 1
"""How often the picture is doubled before the search; the reference's value. Finds faces from
about 40 pixels."""


class Dlib81:
    """Frontal HOG detector, then the landmark predictor, both on RGB.

    Boxes have exclusive right and bottom edges, so that width times height is dlib's. Confidence
    is the detector's score: above 0, without a bound, about 1 for a clear face.

    Args:
        landmark_model: A dlib file with 68 or 81 points; ``None`` is where
            ``unmask fetch landmarks`` puts it.

    Raises:
        LandmarkFileError: The file is missing, is no dlib file, or has other points.
    """

    name = "dlib81"

    def __init__(self, landmark_model: Path | None = None) -> None:
        path = landmarks_path() if landmark_model is None else landmark_model
        self._predictor = _load(path)
        self._detector = dlib.get_frontal_face_detector()

    def find(self, image: Image) -> list[Face]:
        """All frontal faces, largest box first; equal ones in dlib's order."""
        pixels = np.ascontiguousarray(image)
        boxes, scores, _ = self._detector.run(pixels, _UPSAMPLE, 0.0)
        return by_area(
            [
                Face(
                    box_xyxy=(
                        float(box.left()),
                        float(box.top()),
                        float(box.right() + 1),
                        float(box.bottom() + 1),
                    ),
                    landmarks=self._landmarks(pixels, box),
                    confidence=float(score),
                )
                for box, score in zip(boxes, scores, strict=True)
            ]
        )

    def _landmarks(self, pixels: Image, box: dlib.rectangle) -> npt.NDArray[np.float32]:
        shape = self._predictor(pixels, box)
        points = [(shape.part(index).x, shape.part(index).y) for index in POINTS]
        return np.array(points, np.float32)


def _load(path: Path) -> dlib.shape_predictor:
    if not path.is_file():
        raise LandmarkFileError(
            f"no landmark file at {path}. Expected dlib's shape_predictor_81_face_landmarks.dat; "
            "run 'unmask fetch landmarks', or give your copy with --landmark-model."
        )
    state = path.stat()
    return _read(path, state.st_size, state.st_mtime_ns)


def _remedy(path: Path) -> str:
    """What to do about a file that is no landmark file; only our own is there to be removed."""
    if path.is_relative_to(cache_root()):
        return "Remove it and run 'unmask fetch landmarks'."
    return "Give another one, or none to use the one that 'unmask fetch landmarks' gets."


@lru_cache(maxsize=2)
def _read(path: Path, _size: int, _mtime_ns: int) -> dlib.shape_predictor:
    """The predictor, read once per process while the file stays as it is.

    Reading takes most of a second. dlib documents that one predictor may be asked from several
    threads at once, so all finders share it.
    """
    try:
        predictor = dlib.shape_predictor(str(path))
    except RuntimeError as error:
        raise LandmarkFileError(
            f"{path} is not a dlib landmark file, or a damaged one ({error}). {_remedy(path)}"
        ) from error
    blank = np.zeros((64, 64, 3), np.uint8)
    count = predictor(blank, dlib.rectangle(8, 8, 55, 55)).num_parts
    if count not in _POINT_COUNTS:
        raise LandmarkFileError(
            f"the landmark file {path} has {count} points. Expected 68 or 81, numbered as in "
            "iBUG 300-W; 'unmask fetch landmarks' gets the right one."
        )
    return predictor
