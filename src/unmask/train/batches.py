"""From cached crops to the tensors of a step, made ahead by threads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from unmask.flow import ordered
from unmask.preprocess import Preprocess
from unmask.train.crops import CachedCrop, Crops
from unmask.train.sampling import slot_rng
from unmask.types import Image

__all__ = ["Batch", "Batches", "Change", "Share", "crop_batches", "tensor_batches"]

T = TypeVar("T")
R = TypeVar("R")

Change = Callable[[CachedCrop, bool, np.random.Generator], Image]
"""Given a crop, whether it is to be blended with itself, and where chance comes from: the altered
picture."""


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of every step a process computes: part ``number`` of ``count`` equal ones."""

    number: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A process's share of one step."""

    pixels: Tensor
    """``(b, 3, H, W)`` float32."""
    labels: Tensor
    """``(b,)`` float32, 0 real and 1 fake."""


Batches = Callable[[int, Share], Iterator[Batch]]
"""Given the step to begin with and a share: the shares of that step and all after it, without
end."""


def crop_batches(
    crops: Crops,
    at: Callable[[int], int],
    change: Change,
    preprocess: Preprocess,
    *,
    batch_size: int,
    seed: int,
    workers: int,
) -> Batches:
    """Batches of altered crops.

    Args:
        crops: Of the training part.
        at: From the number of a slot to that of its crop; ``len(crops.samples) + i`` is crop ``i``
            blended with itself, which makes it a fake. See :mod:`unmask.train.sampling`.
        change: What is done to each crop.
        preprocess: Of the detector.
        batch_size: Of a whole step.
        seed: Of the alterations.
        workers: Threads; 0 works in the calling thread.
    """

    def one(slot: int) -> tuple[Image, int]:
        blended, index = divmod(at(slot), len(crops.samples))
        image = change(crops[index], bool(blended), slot_rng(seed, slot))
        if image.shape[:2] != (preprocess.height, preprocess.width):
            image = preprocess.resize(image)
        return image, 1 if blended else crops.samples[index].label or 0

    def batches(first: int, share: Share) -> Iterator[Batch]:
        size = batch_size // share.count
        slots = _slots(first, share, batch_size)
        with closing(_each(one, slots, workers, workers + 2 * size)) as ready:
            groups = iter(lambda: list(islice(ready, size)), [])
            # A thread of its own makes the next tensor while the last one is computed with.
            with closing(_each(together, groups, min(1, workers), 2)) as made:
                yield from made

    def together(group: list[tuple[Image, int]]) -> Batch:
        pixels = preprocess.normalize(np.stack([image for image, _ in group]))
        labels = torch.tensor([label for _, label in group], dtype=torch.float32)
        return Batch(torch.from_numpy(pixels), labels)

    return batches


def tensor_batches(pixels: Tensor, labels: Tensor) -> Batches:
    """The same pictures in every step, as tensors: what a recorded training was given.

    Args:
        pixels: ``(B, 3, H, W)``, preprocessed.
        labels: ``(B,)`` of 0 and 1.
    """

    def batches(_first: int, share: Share) -> Iterator[Batch]:
        own = Batch(
            pixels.chunk(share.count)[share.number],
            labels.chunk(share.count)[share.number].float(),
        )
        while True:
            yield own

    return batches


def _each(
    function: Callable[[T], R], items: Iterable[T], workers: int, window: int
) -> Generator[R, None, None]:
    """The result of each item, in order; threads work ahead of what is taken."""
    yield from ordered(function, items, workers, window) if workers else map(function, items)


def _slots(first: int, share: Share, batch_size: int) -> Iterator[int]:
    """The numbers of the slots of a share, without end."""
    size = batch_size // share.count
    step = first
    while True:
        start = step * batch_size + share.number * size
        yield from range(start, start + size)
        step += 1
