"""Where a training computes: one device or several processes, and how they agree."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from unmask._device import choose_device
from unmask.errors import ConfigError
from unmask.train.batches import Share
from unmask.train.config import TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["deterministic", "everyone", "new_place", "reseed", "share_of", "stop_asked"]

_TIMEOUT = timedelta(days=2)
"""How long processes wait for the first one, which cuts the crops of all."""


def new_place(device: str = "auto") -> Accelerator:
    """The device of this process, and its connection to the others that a launcher started.

    Args:
        device: As :func:`unmask._device.choose_device` takes it. With several processes each has
            the GPU of its number.

    Raises:
        ConfigError: If the device is not known or not there.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs

    where = choose_device(device)
    if where.type == "cuda" and where.index is not None:
        torch.cuda.set_device(where)
    return Accelerator(
        cpu=where.type == "cpu",
        mixed_precision="no",  # the model casts for itself, so that its head stays float32
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_TIMEOUT)],
    )


def share_of(place: Accelerator, config: TrainConfig) -> Share:
    """The part of each step that this process computes.

    Raises:
        ConfigError: If a step cannot be divided evenly.
    """
    parts = place.num_processes * config.accumulation
    if config.batch_size % parts:
        raise ConfigError(
            f"a batch_size of {config.batch_size} is not divided evenly by {place.num_processes} "
            f"processes times an accumulation of {config.accumulation}; change one of them"
        )
    return Share(place.process_index, place.num_processes)


def everyone(place: Accelerator, values: Tensor) -> Tensor:
    """The values ``(b, ...)`` of all processes, ``(W * b, ...)``; the gradient of its own flows."""
    if place.num_processes == 1:
        return values
    parts = list(place.gather(values.detach()).split(len(values)))
    parts[place.process_index] = values
    return torch.cat(parts)


def reseed(seed: int, step: int, process: int) -> None:
    """Set torch's generators for a step (dropout), the same ones in every attempt."""
    sequence = np.random.SeedSequence([seed, step, process])
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]) >> 1)


@contextmanager
def deterministic(device: torch.device, wanted: bool) -> Iterator[None]:
    """Sums in the same order each time while the block runs; on a CPU they are anyway."""
    if device.type != "cuda" or not wanted:
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    # Interpolated position grids have no such backward: told by a warning.
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
            yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextmanager
def stop_asked() -> Iterator[Callable[[], bool]]:
    """A function that tells whether Ctrl-C or SIGTERM came; a second one interrupts at once.

    Only in the main thread, the one that signals reach; elsewhere nothing is changed.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def ask(number: int, _frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
