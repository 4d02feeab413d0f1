"""Faces as YuNet finds them: the default finder, fast and with nothing to download.

The network is the OpenCV model zoo's face_detection_yunet_2023mar.onnx (MIT), package data.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources

import cv2
import numpy as np
import numpy.typing as npt

from unmask.errors import ConfigError
from unmask.faces import by_area
from unmask.types import Face, Image

__all__ = ["YuNet"]

_MODEL = "face_detection_yunet_2023mar.onnx"

_FIRST_SIDE = 640
"""Longer side of the picture at the first look. YuNet sees faces of about 10 to 300 pixels: here
1.6 % to 47 % of the longer side, for 13 ms on one core with a 16:9 picture."""

_SECOND_SIDE = 192
"""Longer side at the second look, at which a face that fills the picture is in range."""

_LARGE_FACE = 256
"""Faces with a longer side above this many pixels are the second look's: from about here on the
network misses faces, or is unsure of them."""

_NMS_IOU = 0.3
"""Boxes that share more than this part of their union are one face; OpenCV's default."""

_TOP_K = 5000
"""Candidates kept before that; OpenCV's default."""

_log_level = threading.Lock()


class YuNet:
    """YuNet at one or two scales.

    The picture is looked at with its longer side shrunk to 640 pixels (never enlarged). If a face
    could be larger there than 256 pixels, or nothing is found, it is looked at once more at 192
    pixels, or half the size of the first look if that is less. Of two boxes on one face the more
    confident stays.

    Boxes may reach beyond the picture: they are the network's estimate of the whole face.

    Args:
        min_confidence: Least confidence (0..1) of a face. Frontal and half-turned faces score
            above 0.85 on photos and video frames; heads from behind, ears and face-like objects
            reach 0.75. A wrong face costs more than a missed one, because it is scored.

    Raises:
        ConfigError: ``min_confidence`` outside of 0 to 1.
    """

    name = "yunet"

    def __init__(self, min_confidence: float = 0.8) -> None:
        if not 0 <= min_confidence <= 1:
            raise ConfigError(
                f"YuNet takes a least confidence of 0 to 1, not {min_confidence}; 0.8 is usual."
            )
        model = (resources.files("unmask.faces") / _MODEL).read_bytes()
        with _without_warnings():
            self._network = cv2.FaceDetectorYN.create(
                "onnx",
                np.frombuffer(model, np.uint8),
                np.empty(0, np.uint8),
                (_FIRST_SIDE, _FIRST_SIDE),
                min_confidence,
                _NMS_IOU,
                _TOP_K,
            )

    def find(self, image: Image) -> list[Face]:
        """All faces, largest box first; equal ones by confidence."""
        longer = max(image.shape[:2])
        first = min(_FIRST_SIDE, longer)
        rows = self._look(image, first)  # (N, 15)
        if first > _LARGE_FACE or not len(rows):
            again = self._look(image, max(1, min(_SECOND_SIDE, first // 2)))
            if len(rows):  # faces within its range are the first look's
                again = again[again[:, 2:4].max(1) > _LARGE_FACE * longer / first]
            rows = _distinct(np.concatenate([rows, again]))
        return by_area([_face(row) for row in rows])

    def _look(self, image: Image, side: int) -> npt.NDArray[np.float64]:
        """``(N, 15)``: x, y, width, height, five points, confidence; in pixels of ``image``."""
        height, width = image.shape[:2]
        if side < max(height, width):
            ratio = side / max(height, width)
            size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        else:
            size, small = (width, height), image
        self._network.setInputSize(size)
        found: object = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        if not isinstance(found, np.ndarray):  # None where there is no face
            return np.empty((0, 15))
        rows = np.asarray(found, np.float64)
        rows[:, 0:14:2] *= width / size[0]
        rows[:, 1:14:2] *= height / size[1]
        return rows


def _face(row: npt.NDArray[np.float64]) -> Face:
    x, y, width, height = row[:4].tolist()
    return Face(
        box_xyxy=(x, y, x + width, y + height),
        # The subject's right eye comes first, which is the one on the left of the picture.
        landmarks=row[4:14].reshape(5, 2).astype(np.float32),
        confidence=float(row[14]),
    )


def _distinct(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The rows without those that overlap a more confident one, most confident first."""
    kept: list[npt.NDArray[np.float64]] = []
    for row in rows[np.argsort(-rows[:, 14], kind="stable")]:
        if all(_overlap(row, other) <= _NMS_IOU for other in kept):
            kept.append(row)
    return np.array(kept).reshape(-1, 15)


def _overlap(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Intersection over union of two boxes given as x, y, width, height."""
    low = np.maximum(one[:2], other[:2])
    high = np.minimum(one[:2] + one[2:4], other[:2] + other[2:4])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    union = float(np.prod(one[2:4]) + np.prod(other[2:4])) - shared
    return shared / union if union > 0 else 0.0


@contextmanager
def _without_warnings() -> Iterator[None]:
    """No OpenCV warnings on standard error meanwhile.

    OpenCV 5 warns at each creation that its new engine takes no target, which nobody here sets.
    """
    logging = cv2.utils.logging
    with _log_level:
        before = logging.setLogLevel(logging.LOG_LEVEL_ERROR)
        try:
            yield
        finally:
            logging.setLogLevel(before)
