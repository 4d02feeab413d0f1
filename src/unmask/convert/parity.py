"""The same pictures through the source and through the folder, and what came of it.

The pictures are made from a seed and prepared by the detector's own preprocessing; two tensors of
normal noise go past it, so that the comparison reaches values that no picture has.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unmask.convert.settings import digest
from unmask.errors import IncompatibleWeights
from unmask.models.checkpoint import WeightsDtype
from unmask.models.modeling import UnmaskForImageClassification
from unmask.models.published.imported import Kind
from unmask.preprocess import Preprocess
from unmask.types import Image

__all__ = [
    "FILE",
    "RELATIVE",
    "SCHEMA",
    "Parity",
    "ParityInput",
    "SavedAs",
    "compared",
    "largest_difference",
    "logits_of",
    "parity_inputs",
    "tolerance",
]

FILE = "parity.json"
SCHEMA = 1
SavedAs = Literal["merged", "adapter"]

_SEED = 20250711
RELATIVE: Mapping[tuple[SavedAs, WeightsDtype], float] = {
    ("merged", "float32"): 1e-5,
    ("merged", "float16"): 2e-2,
    ("adapter", "float32"): 1e-4,
}
"""Largest difference of logits, relative to the largest logit (1 at least). float32 leaves rounding
in another order of sums; float16 rounds each weight by up to 2^-11 of itself; an adapter takes the
frozen part of each layer from the base, where the publisher's own split was rounded to float32.
Measured with random weights of ViT-L/14's size: see benchmarks/README.md."""


@dataclass(frozen=True, slots=True)
class ParityInput:
    """One picture, and the logit that each side gave it."""

    name: str
    sha256: str
    """Of the prepared tensor, float32 little-endian ``(3, H, W)``."""
    original: float
    converted: float


@dataclass(frozen=True, slots=True)
class Parity:
    """What ``parity.json`` holds."""

    kind: Kind
    source: str
    files: Mapping[str, str]
    """SHA-256 of each weights file of the source, by its name."""
    base: str | None
    """Hub id of the base, or the name of its folder."""
    fake_labels: tuple[str, ...]
    saved_as: SavedAs
    weights_dtype: WeightsDtype
    weights_sha256: str
    """Of the weights file in the folder."""
    settings: Mapping[str, Any]
    """What the folder's ``config.json`` said that scores depend on."""
    inputs: tuple[ParityInput, ...]
    versions: Mapping[str, str]

    @property
    def largest(self) -> float:
        """The largest difference between the two logits of one picture."""
        original = [one.original for one in self.inputs]
        return largest_difference(original, [one.converted for one in self.inputs])

    @property
    def tolerance(self) -> float:
        """What it may be at most."""
        original = [one.original for one in self.inputs]
        return tolerance(original, self.saved_as, self.weights_dtype)

    @property
    def settings_sha256(self) -> str:
        """Of the settings, see :func:`unmask.convert.settings.digest`."""
        return digest(self.settings)

    @property
    def holds(self) -> bool:
        """Whether the folder computes what the source does."""
        return self.largest <= self.tolerance

    def summary(self) -> str:
        """One line for people."""
        return (
            f"largest difference of logits {self.largest:.2g} on {len(self.inputs)} inputs, "
            f"{self.tolerance:.2g} allowed"
        )

    def to_json(self) -> str:
        """The text of the file, with what follows from the rest."""
        values: dict[str, Any] = {"schema": SCHEMA} | asdict(self)
        values |= {"largest_difference": self.largest, "tolerance": self.tolerance}
        values["settings_sha256"] = self.settings_sha256
        return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def tolerance(original: Sequence[float], saved_as: SavedAs, weights_dtype: WeightsDtype) -> float:
    """The largest difference that is rounding: relative to the largest logit, 1 at least."""
    scale = max(1.0, *(abs(logit) for logit in original))
    return RELATIVE[saved_as, weights_dtype] * scale


def largest_difference(one: Sequence[float], other: Sequence[float]) -> float:
    """Infinite where a value is not finite, so that it never passes."""
    found = [abs(a - b) for a, b in zip(one, other, strict=True)]
    return max(found) if all(map(math.isfinite, found)) else math.inf


def parity_inputs(preprocess: Preprocess) -> dict[str, Tensor]:
    """``(3, H, W)`` float32 by name; the same ones for the same preprocessing.

    The hashes in a report tell whether they are: resizing may differ between versions of OpenCV.
    """
    rng = np.random.default_rng(_SEED)
    pictures = _pictures(rng)
    shape = (2, 3, preprocess.height, preprocess.width)
    noise = rng.standard_normal(shape, dtype=np.float32)
    inputs = {name: torch.from_numpy(preprocess(image)) for name, image in pictures.items()}
    return inputs | {f"normal noise {number}": torch.from_numpy(noise[number]) for number in (0, 1)}


def _pictures(rng: np.random.Generator) -> dict[str, Image]:
    """RGB uint8 pictures of several sizes: noise, smooth, sharp edges, none of it."""
    blocks = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    rows, columns = np.linspace(0, 255, 300)[:, None], np.linspace(0, 255, 200)[None]
    gradient = np.stack(np.broadcast_arrays(rows, columns, (rows + columns) / 2), axis=-1)
    return {
        "noise": rng.integers(0, 256, (240, 320, 3), dtype=np.uint8),
        "gradient": np.floor(gradient).astype(np.uint8),
        "blocks": blocks.repeat(32, axis=0).repeat(32, axis=1),
        "black": np.zeros((224, 224, 3), np.uint8),
    }


def compared(
    inputs: Mapping[str, Tensor], original: Sequence[float], converted: Sequence[float]
) -> tuple[ParityInput, ...]:
    """One row for each input."""
    rows = zip(inputs.items(), original, converted, strict=True)
    return tuple(ParityInput(name, _sha256(tensor), a, b) for (name, tensor), a, b in rows)


def _sha256(tensor: Tensor) -> str:
    array: npt.NDArray[np.float32] = np.ascontiguousarray(tensor.numpy().astype("<f4"))
    return hashlib.sha256(array.tobytes()).hexdigest()


def logits_of(
    compute: Callable[[Tensor], Tensor] | UnmaskForImageClassification,
    inputs: Mapping[str, Tensor],
    whose: str,
) -> list[float]:
    """The logit of each input, one at a time.

    Raises:
        IncompatibleWeights: If one is not finite.
    """
    forward = compute.logit if isinstance(compute, UnmaskForImageClassification) else compute
    with torch.inference_mode():
        logits = [float(forward(pixels[None]).reshape(())) for pixels in inputs.values()]
    wrong = [name for name, logit in zip(inputs, logits, strict=True) if not math.isfinite(logit)]
    if wrong:
        raise IncompatibleWeights(
            f"{whose} gives a logit that is not finite for {', '.join(wrong)}; its weights are "
            "damaged or of no use"
        )
    return logits
