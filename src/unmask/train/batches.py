"""From cached crops to the tensors of a step, made ahead by threads or processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unmask.errors import UnmaskError
from unmask.flow import grouped, ordered
from unmask.preprocess import Preprocess
from unmask.train.crops import Crops
from unmask.train.forge import Forge
from unmask.train.sampling import slot_rng
from unmask.types import Image

__all__ = [
    "Batch",
    "Batches",
    "Change",
    "Share",
    "by_processes",
    "crop_batches",
    "normalized",
    "tensor_batches",
]

Change = Callable[[Image, np.random.Generator], Image]
"""Given a picture and where chance comes from: the altered picture."""


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of every step a process computes: part ``number`` of ``count`` equal ones."""

    number: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A process's share of one step."""

    pixels: Tensor
    """``(b, 3, H, W)`` float32; of crops ``(b, H, W, 3)`` uint8, a quarter of the bytes to move."""
    labels: Tensor
    """``(b,)`` float32, 0 real and 1 fake."""
    preprocess: Preprocess | None = None
    """What makes the first of the second; None where they are float32."""

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Pixels, normalised, and labels on a device."""
        pixels, labels = (each.to(device, non_blocking=True) for each in (self.pixels, self.labels))
        return pixels if self.preprocess is None else normalized(pixels, self.preprocess), labels


Batches = Callable[[int, Share], Generator[Batch, None, None]]
"""Given the step to begin with and a share: the shares of that step and all after it, without
end."""


def normalized(images: Tensor, preprocess: Preprocess) -> Tensor:
    """:meth:`Preprocess.normalize` where the images are; on a CPU the same to the bit.

    Args:
        images: uint8 ``(b, H, W, 3)``.
        preprocess: Its mean and deviation are used.

    Returns:
        ``(b, 3, H, W)`` float32.
    """
    factors = torch.tensor(preprocess.factors(), dtype=torch.float32, device=images.device)
    scale, shift = factors.mT[:, :, None, None]
    planes = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return planes.mul_(scale).sub_(shift)


def by_processes(device: torch.device) -> bool:
    """Whether processes alter the crops for this device, in place of threads.

    Beside a CPU that computes, threads do well: it lets go of Python's lock for the most part. To
    feed a GPU, Python itself is busy all the time, and threads that need its lock between any two
    of their many short calls wait for it: nine of them altered 474 crops of 280 pixels per second
    beside an H100, which then waited for them.
    """
    return device.type == "cuda" and "fork" in multiprocessing.get_all_start_methods()


def crop_batches(
    crops: Crops,
    at: Callable[[int], int],
    forge: Forge,
    change: Change,
    preprocess: Preprocess,
    *,
    batch_size: int,
    seed: int,
    workers: int,
    processes: bool = False,
) -> Batches:
    """Batches of altered crops, the same ones however they are made.

    Args:
        crops: Of the training part.
        at: From the number of a slot to that of its crop; ``len(crops.samples) + i`` is crop ``i``
            made into a pseudo-fake. See :mod:`unmask.train.sampling`.
        forge: What makes pseudo-fakes.
        change: What is done to each crop, and to each pseudo-fake.
        preprocess: Of the detector.
        batch_size: Of a whole step.
        seed: Of the alterations.
        workers: Threads or processes; 0 works in the calling thread.
        processes: See :func:`by_processes`.
    """

    def one(slot: int) -> tuple[Image, int]:
        forged, index = divmod(at(slot), len(crops.samples))
        rng = slot_rng(seed, slot)
        image = change(forge(index, rng) if forged else crops[index].image, rng)
        if image.shape[:2] != (preprocess.height, preprocess.width):
            image = preprocess.resize(image)
        return image, 1 if forged else crops.samples[index].label or 0

    def batches(first: int, share: Share) -> Generator[Batch, None, None]:
        if processes and workers:
            for step in _loader(one, _steps(first, share, batch_size), workers):
                if isinstance(step, UnmaskError):
                    raise step
                yield Batch(*step, preprocess)
            return
        size = batch_size // share.count
        slots = chain.from_iterable(_steps(first, share, batch_size))
        with closing(_each(one, slots, workers, workers + 2 * size)) as ready:
            for group in grouped(ready, size):
                yield Batch(*_together(group), preprocess)

    return batches


Made = tuple[Tensor, Tensor] | UnmaskError


class _Shares(Dataset[Made]):
    """What torch's loader asks for the slots of a step; what is wrong is handed on as it is."""

    def __init__(self, one: Callable[[int], tuple[Image, int]]) -> None:
        self._one = one

    def __getitem__(self, slots: list[int]) -> Made:
        try:
            return _together([self._one(slot) for slot in slots])
        except UnmaskError as error:
            return error


def _loader(
    one: Callable[[int], tuple[Image, int]], steps: Iterator[list[int]], workers: int
) -> Iterator[Made]:
    """Each step made by one of the processes, in order, in page-locked memory.

    Ctrl-C is for the process that trains, which ends the others: they are begun with it blocked, so
    that there is no moment in which it reaches them.
    """
    loader = DataLoader(
        _Shares(one),
        batch_size=None,  # the sampler gives whole steps
        sampler=steps,
        num_workers=workers,
        collate_fn=_as_made,
        worker_init_fn=_begin_worker,
        multiprocessing_context="fork",
        pin_memory=torch.cuda.is_available(),
    )
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(_number: int) -> None:
    """One thread each."""
    cv2.setNumThreads(0)


def _as_made(made: Any) -> Any:  # noqa: ANN401  # torch expects a function of lists
    """In place of torch's own, which would make a list of the pair."""
    return made


def _together(group: list[tuple[Image, int]]) -> tuple[Tensor, Tensor]:
    pixels = torch.from_numpy(np.stack([image for image, _ in group]))
    return pixels, torch.tensor([label for _, label in group], dtype=torch.float32)


def tensor_batches(pixels: Tensor, labels: Tensor) -> Batches:
    """The same pictures in every step, as tensors: what a recorded training was given.

    Args:
        pixels: ``(B, 3, H, W)``, preprocessed.
        labels: ``(B,)`` of 0 and 1.
    """

    def batches(_first: int, share: Share) -> Generator[Batch, None, None]:
        own = Batch(
            pixels.chunk(share.count)[share.number],
            labels.chunk(share.count)[share.number].float(),
        )
        while True:
            yield own

    return batches


def _each(
    one: Callable[[int], tuple[Image, int]], slots: Iterator[int], workers: int, window: int
) -> Generator[tuple[Image, int], None, None]:
    """The result of each slot, in order; threads work ahead of what is taken."""
    yield from ordered(one, slots, workers, window) if workers else map(one, slots)


def _steps(first: int, share: Share, batch_size: int) -> Iterator[list[int]]:
    """The numbers of the slots of a share, step by step, without end."""
    size = batch_size // share.count
    for step in count(first):
        start = step * batch_size + share.number * size
        yield list(range(start, start + size))
