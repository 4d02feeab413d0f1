"""One distribution of size and compression for the pictures of every source.

Fakes of one source against reals of another differ in resolution and compression before they
differ in forgery, and a detector takes what is easiest. Here each picture is brought down to a size
that all sources have, and saved once more, with size, sharpness and quality drawn from the same
ranges for all: little of the source's own detail and traces is left beside them. For whole data
sets on disk there is ``unmask equalize``.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from unmask.errors import ConfigError
from unmask.train.pictures import pixel_changes as pixels
from unmask.types import Image

__all__ = ["EqualiseSpec", "equalise"]


@dataclass(frozen=True, slots=True)
class EqualiseSpec:
    """What size and compression every picture gets; all drawn evenly.

    Raises:
        ConfigError: If a value is out of its range.
    """

    sides: tuple[int, int] = (80, 128)
    """Least and greatest short side in pixels that a picture is brought down to; a smaller one
    stays. It equalises sources whose pictures are at least the lower number: the crops of
    low-resolution videos (about 100 to 180 pixels, enlarged to the input) decide it."""
    blur: tuple[float, float] = (0.0, 1.2)
    """Least and greatest sigma of a Gaussian blur at that size. Shrunk alike, the picture of a
    sharp source is still the sharper one; drawn sharpness covers the difference."""
    qualities: tuple[int, int] = (50, 92)
    """Least and greatest JPEG quality."""
    full_chroma: float = 0.5
    """How often the JPEG keeps colours at the whole resolution (4:4:4, else 4:2:0)."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        for name, values, low, high in (
            ("sides", self.sides, 16, 8192),
            ("blur", self.blur, 0, 20),
            ("qualities", self.qualities, 1, 100),
            ("full_chroma", (self.full_chroma, self.full_chroma), 0, 1),
        ):
            if not low <= values[0] <= values[1] <= high:
                said = values[0] if name == "full_chroma" else f"{values[0]} to {values[1]}"
                raise ConfigError(
                    f"equalising: {name} is {said}; it must be within {low} to {high}"
                )


def equalise(image: Image, rng: np.random.Generator, spec: EqualiseSpec | None = None) -> Image:
    """The picture at its size, with the detail and the traces of one drawn size and one drawn JPEG.

    It is shrunk by averaging, blurred, saved with its blocks at a drawn place, and enlarged again
    by a drawn filter.

    Args:
        image: RGB uint8 ``(H, W, 3)``; it is not altered.
        rng: Where chance comes from. It is drawn from alike whatever the picture is.
        spec: The ranges; None is the default.
    """
    how = EqualiseSpec() if spec is None else spec
    height, width = image.shape[:2]
    side = int(rng.integers(how.sides[0], how.sides[1] + 1))
    sigma = float(rng.uniform(*how.blur))
    quality = int(rng.integers(how.qualities[0], how.qualities[1] + 1))
    subsampling = pixels.SUBSAMPLING[int(rng.random() < how.full_chroma)]
    right, down = rng.integers(8, size=2).tolist()
    filter_ = pixels.ENLARGING[rng.integers(2)]
    factor = min(1.0, side / min(height, width))
    size = (round(width * factor), round(height * factor))
    small = pixels.resized(image, size, cv2.INTER_AREA)
    if sigma > 0:
        small = pixels.softened(small, sigma)
    saved = pixels.as_jpeg(small, quality, subsampling, (right, down))
    return pixels.resized(saved, (width, height), filter_)
