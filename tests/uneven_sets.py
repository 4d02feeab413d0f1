"""Labelled folders whose fakes differ from the reals in nothing but their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from tiny_detectors import noise_image

SIDE = 64


def write_uneven(folder: Path, n: int = 24) -> Path:
    """``real/*.jpg`` and ``fake/*.png``, pictures of one kind; fakes are a little larger."""
    for label, first in (("real", 0), ("fake", n)):
        (folder / label).mkdir(parents=True)
        side = SIDE + 16 * (label == "fake")
        for seed in range(first, first + n):
            picture = PillowImage.fromarray(noise_image(seed, (side, side)))
            if label == "real":
                picture.save(folder / label / f"img_{seed}.jpg", quality=75)
            else:
                picture.save(folder / label / f"{seed:05}.png")
    return folder


def write_even(folder: Path, n: int = 24) -> Path:
    """``real/`` and ``fake/`` with files of one kind and pictures of one kind."""
    for label, first in (("real", 0), ("fake", n)):
        (folder / label).mkdir(parents=True)
        for seed in range(first, first + n):
            picture = PillowImage.fromarray(noise_image(seed, (SIDE, SIDE)))
            name = np.random.default_rng(seed).integers(10**6)
            picture.save(folder / label / f"{name:06}.jpg", quality=75)
    return folder
