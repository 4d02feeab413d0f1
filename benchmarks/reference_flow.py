"""The one-picture-at-a-time flow of the original scripts, to measure ``unmask`` against.

Written anew from a description of its behaviour. Per picture: ``cv2.imread``, dlib's frontal
detector on the doubled picture, the largest face, the landmark predictor, a least-squares
similarity to the five-point template, ``cv2.warpAffine`` to 224, detector and landmarks once more
on the crop (their result is used by nobody), ``cv2.resize``, CLIP normalisation, and one forward
of ``CLIPVisionModel`` in float32 with a linear head. Nothing is batched, no thread is started.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import dlib
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import CLIPVisionModel

__all__ = ["Answer", "Reference", "cut_face", "umeyama"]

SIZE = 224
SCALE = 1.3
FIVE = (37, 44, 30, 49, 55)
"""Of the 81 landmarks: eye, eye, nose, mouth, mouth, as the scripts count them."""
BASE = (
    (30.2946, 51.6963),
    (65.5318, 51.5014),
    (48.0252, 71.7366),
    (33.5493, 92.3655),
    (62.7299, 92.2041),
)
MEAN = np.array((0.48145466, 0.4578275, 0.40821073), np.float32)
STD = np.array((0.26862954, 0.26130258, 0.27577711), np.float32)

Pixels = npt.NDArray[Any]
"""``(H, W, 3)`` uint8; OpenCV's functions state no element type."""


@dataclass(frozen=True, slots=True)
class Answer:
    """P(fake) of one picture, and whether a face was cut out for it."""

    p_fake: float
    aligned: bool


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What the scripts load once: tower, head, detector and landmark predictor."""

    tower: CLIPVisionModel
    head: nn.Linear
    """Two outputs: real, fake."""
    find: Callable[[Pixels, int], list[dlib.rectangle]]
    landmarks: dlib.shape_predictor
    second_look: bool = True
    """The scripts search the crop again, and use nothing of it."""

    @classmethod
    def load(
        cls, tower: Path, head: nn.Linear, landmark_model: Path, *, second_look: bool = True
    ) -> Reference:
        """From a folder with a CLIP vision tower and dlib's file of 81 points."""
        model = CLIPVisionModel.from_pretrained(tower, dtype=torch.float32).eval()
        finder = dlib.get_frontal_face_detector()
        return cls(model, head, finder, dlib.shape_predictor(str(landmark_model)), second_look)

    def __call__(self, path: Path) -> Answer:
        """The answer for one picture; without a face, the whole picture squashed."""
        bgr = cv2.imread(str(path))
        if bgr is None:
            raise ValueError(f"{path}: cv2 cannot read it")
        crop = self._crop(bgr)
        image = bgr if crop is None else crop
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        small = cv2.resize(rgb, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        pixels = (small.astype(np.float32) / 255 - MEAN) / STD  # (224, 224, 3)
        batch = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())
        with torch.no_grad():
            logits = self.head(self.tower(pixel_values=batch).pooler_output)  # (1, 2)
        return Answer(float(torch.softmax(logits, dim=1)[0, 1]), crop is not None)

    def _crop(self, bgr: Pixels) -> Pixels | None:
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        boxes = self.find(rgb, 1)
        if not boxes:
            return None
        box = max(boxes, key=lambda each: each.width() * each.height())
        crop = cv2.cvtColor(cut_face(rgb, self._five(rgb, box)), cv2.COLOR_RGB2BGR)
        if self.second_look:
            for again in self.find(crop, 1)[:1]:
                self._five(crop, again)
        return crop

    def _five(self, image: Pixels, box: dlib.rectangle) -> npt.NDArray[np.float32]:
        shape = self.landmarks(image, box)
        return np.array([(shape.part(i).x, shape.part(i).y) for i in FIVE], np.float32)


def cut_face(rgb: Pixels, five: npt.NDArray[np.float32]) -> Pixels:
    """The face turned upright, 224 x 224, black where the crop leaves the picture."""
    target = (np.array(BASE, np.float32) + np.array((8, 0), np.float32)) * (SIZE / 112)
    target = (target + SIZE * (SCALE - 1) / 2) / SCALE
    return cv2.warpAffine(rgb, umeyama(five, target), (SIZE, SIZE))


def umeyama(src: npt.ArrayLike, dst: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The ``(2, 3)`` similarity nearest to ``src -> dst``: Umeyama (PAMI 1991), equations 38-43."""
    x, y = np.asarray(src, np.float64), np.asarray(dst, np.float64)
    x_mean, y_mean = x.mean(0), y.mean(0)
    u, d, vh = np.linalg.svd((y - y_mean).T @ (x - x_mean) / len(x))
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vh))])  # no reflection
    rotation = u @ np.diag(signs) @ vh
    scale = (d * signs).sum() / ((x - x_mean) ** 2).sum(1).mean()
    return np.column_stack([scale * rotation, y_mean - scale * rotation @ x_mean])
