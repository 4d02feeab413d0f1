"""From a crop to the tensor that a tower takes: resize on uint8, then one fused normalisation.

One :class:`Preprocess` belongs to each detector and travels in its folder. No torch here; the
arrays go into the tower in ``models``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from unmask.errors import ConfigError
from unmask.processor_config import (
    CLIP_MEAN,
    CLIP_STD,
    Interpolation,
    ResizeRule,
    Triple,
    integer,
    read_processor_config,
    triple,
)
from unmask.types import Image

__all__ = ["Interpolation", "Preprocess", "ResizeRule"]

_PILLOW: Mapping[Interpolation, PillowImage.Resampling] = {
    "bilinear": PillowImage.Resampling.BILINEAR,
    "bicubic": PillowImage.Resampling.BICUBIC,
    "lanczos": PillowImage.Resampling.LANCZOS,
    "nearest": PillowImage.Resampling.NEAREST,
}

# A picture whose shorter side is a pixel or two would be scaled to gigabytes, then cut.
_WHOLE_PX = 64_000_000


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How one detector turns an RGB uint8 image into its ``(3, height, width)`` input.

    Args:
        height: Of the result, in pixels.
        width: Of the result, in pixels.
        resize: ``squash`` brings both sides to ``height`` x ``width``; ``shortest_edge`` scales
            the shorter side to ``shortest_edge`` and cuts the centre; ``none`` only cuts the
            centre. Where the picture is smaller than the cut, zeros surround it.
        interpolation: Pillow's filter of that name, with antialiasing (``nearest`` has none), or
            ``cv2_linear``: OpenCV's ``INTER_LINEAR`` without antialiasing, the path that
            published Effort weights were trained for.
        mean: Subtracted per channel R, G, B from values in 0..1.
        std: Divided by afterwards.
        shortest_edge: In pixels; only with ``resize="shortest_edge"``.

    Raises:
        ConfigError: On values that contradict each other or are not known.
    """

    height: int
    width: int
    resize_rule: ResizeRule = "squash"
    interpolation: Interpolation = "bicubic"
    mean: Triple = CLIP_MEAN
    std: Triple = CLIP_STD
    shortest_edge: int | None = None

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ConfigError(f"preprocess: size {self.height}x{self.width} must be positive")
        if self.resize_rule not in get_args(ResizeRule):
            raise ConfigError(
                f"preprocess: resize_rule {self.resize_rule!r} is not one of {get_args(ResizeRule)}"
            )
        if self.interpolation not in get_args(Interpolation):
            raise ConfigError(
                f"preprocess: interpolation {self.interpolation!r} is not one of "
                f"{get_args(Interpolation)}"
            )
        if (self.shortest_edge is not None) != (self.resize_rule == "shortest_edge"):
            raise ConfigError(
                f"preprocess: shortest_edge is {self.shortest_edge} with resize_rule "
                f"{self.resize_rule!r}; it is needed with 'shortest_edge' and only there"
            )
        if self.shortest_edge is not None and self.shortest_edge < 1:
            raise ConfigError(f"preprocess: shortest_edge {self.shortest_edge} must be positive")
        _check_triple("mean", self.mean)
        _check_triple("std", self.std)
        if min(self.std) <= 0:
            raise ConfigError(f"preprocess: std {self.std} must be positive")

    @classmethod
    def openai_clip(cls, size: int = 224) -> Self:
        """The processor published with OpenAI's CLIP: shortest edge, bicubic, centre crop."""
        return cls(size, size, "shortest_edge", "bicubic", CLIP_MEAN, CLIP_STD, size)

    @classmethod
    def effort(cls, size: int = 224) -> Self:
        """The path of the published Effort scripts: OpenCV squash, CLIP's mean and std."""
        return cls(size, size, "squash", "cv2_linear", CLIP_MEAN, CLIP_STD)

    @classmethod
    def from_processor_config(cls, config: Mapping[str, object]) -> Self:
        """What a ``preprocessor_config.json`` (or ``processor_config.json``) of the Hub means.

        Raises:
            ConfigError: Names the key and value that is not understood.
        """
        steps = read_processor_config(config)
        return cls(
            steps.height,
            steps.width,
            steps.resize_rule,
            steps.interpolation,
            steps.mean,
            steps.std,
            steps.shortest_edge,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """The inverse of :meth:`to_dict`.

        Raises:
            ConfigError: On missing or unknown keys, or values of the wrong kind.
        """
        known = set(cls.__dataclass_fields__)
        if set(values) != known:
            raise ConfigError(
                f"preprocess: keys {sorted(values)} given, exactly {sorted(known)} expected"
            )
        given = dict(values)
        edge = given["shortest_edge"]
        return cls(
            height=integer("height", given["height"]),
            width=integer("width", given["width"]),
            resize_rule=given["resize_rule"],  # type: ignore[arg-type]  # checked by __post_init__
            interpolation=given["interpolation"],  # type: ignore[arg-type]  # as above
            mean=triple("mean", given["mean"]),
            std=triple("std", given["std"]),
            shortest_edge=None if edge is None else integer("shortest_edge", edge),
        )

    def to_dict(self) -> dict[str, object]:
        """All fields, ready for JSON."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def to_processor_config(self) -> dict[str, object]:
        """A ``preprocessor_config.json`` with which transformers does the same.

        ``cv2_linear`` has no counterpart there: Pillow's bilinear is written, which is the same
        on a crop that already has the detector's size and differs where it must be resized.
        """
        code = 2 if self.interpolation == "cv2_linear" else int(_PILLOW[self.interpolation])
        size: dict[str, int] = {"height": self.height, "width": self.width}
        if self.shortest_edge is not None:
            size = {"shortest_edge": self.shortest_edge}
        return {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": self.resize_rule != "none",
            "size": size,
            "resample": code,
            "do_center_crop": self.resize_rule != "squash",
            "crop_size": {"height": self.height, "width": self.width},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }

    def resize(self, image: Image) -> Image:
        """The picture at the size of the input, uint8 ``(height, width, 3)``."""
        if self.resize_rule == "squash":
            return self._scaled(image, self.height, self.width)
        height, width = image.shape[:2]
        if self.shortest_edge is not None:
            height, width = _keep_aspect(height, width, self.shortest_edge)
        return self._centre(image, height, width)

    def normalize(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """``(B, 3, height, width)`` float32 from uint8 ``(B, height, width, 3)``."""
        batch, height, width, _ = images.shape
        pixels = np.empty((batch, 3, height, width), dtype=np.float32)
        for channel, (scale, shift) in enumerate(self.factors()):
            plane = pixels[:, channel]
            np.multiply(images[..., channel], np.float32(scale), out=plane)
            plane -= np.float32(shift)
        return pixels

    def factors(self) -> list[tuple[float, float]]:
        """For R, G and B what levels of 0 to 255 are multiplied by, and what is taken off then."""
        pairs = zip(self.mean, self.std, strict=True)
        return [(1 / (255 * std), mean / std) for mean, std in pairs]

    def __call__(self, image: Image) -> npt.NDArray[np.float32]:
        """``(3, height, width)`` float32 from an RGB uint8 image of any size."""
        pixels: npt.NDArray[np.float32] = self.normalize(self.resize(image)[None])[0]
        return pixels

    def describe(self) -> str:
        """One line for reports, from which the input can be made again."""
        rule = self.resize_rule if self.shortest_edge is None else f"edge {self.shortest_edge}"
        how = "centre crop" if rule == "none" else f"{rule} {self.interpolation}"
        mean = ",".join(f"{value:g}" for value in self.mean)
        std = ",".join(f"{value:g}" for value in self.std)
        return f"{self.height}x{self.width} {how} mean {mean} std {std}"

    def _scaled(self, image: Image, height: int, width: int) -> Image:
        if self.interpolation == "cv2_linear":
            import cv2

            size = (width, height)
            return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        picture = PillowImage.fromarray(image)
        return np.asarray(picture.resize((width, height), _PILLOW[self.interpolation]))

    def _centre(self, image: Image, height: int, width: int) -> Image:
        """The centre of ``image`` scaled to ``height`` x ``width``."""
        top, rows, above = _cut(height, self.height)
        left, columns, before = _cut(width, self.width)
        if (height, width) == image.shape[:2]:
            part = image[top : top + rows, left : left + columns]
        elif height * width <= _WHOLE_PX:
            scaled = self._scaled(image, height, width)
            part = scaled[top : top + rows, left : left + columns]
        else:
            # Only the centre of a picture of extreme aspect, cut out before it is scaled. The cut
            # falls on whole source pixels, so the result is not quite that of the whole picture.
            y, x = image.shape[0] / height, image.shape[1] / width
            first, last = math.floor(top * y), math.ceil((top + rows) * y)
            start, stop = math.floor(left * x), math.ceil((left + columns) * x)
            part = self._scaled(image[first:last, start:stop], rows, columns)
        if part.shape[:2] == (self.height, self.width):
            return part
        whole = np.zeros((self.height, self.width, 3), dtype=np.uint8)
        whole[above : above + rows, before : before + columns] = part
        return whole


def _keep_aspect(height: int, width: int, edge: int) -> tuple[int, int]:
    """Height and width with the shorter one at ``edge``; rounds down, as transformers does."""
    short, long = sorted((height, width))
    scaled = int(edge * long / short)
    return (scaled, edge) if width <= height else (edge, scaled)


def _cut(have: int, want: int) -> tuple[int, int, int]:
    """Start and length of the centre of ``have`` pixels, and where it begins in ``want``."""
    if have >= want:
        return (have - want) // 2, want, 0
    return 0, have, math.ceil((want - have) / 2)


def _check_triple(key: str, value: Triple) -> None:
    if len(value) != 3 or not all(math.isfinite(number) for number in value):
        raise ConfigError(f"preprocess: {key} {value} must be three finite numbers")
