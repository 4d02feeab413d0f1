"""Two forwards side by side on a CPU, so that what prepares their pictures holds up neither."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import TypeVar

import torch

from unmask.flow import ordered

__all__ = ["LANES", "side_by_side"]

T = TypeVar("T")
R = TypeVar("R")

LANES = 2
"""More would keep more activations at once."""


def side_by_side(
    compute: Callable[[T], R], batches: Iterable[T], device: torch.device
) -> Generator[R, None, None]:
    """``compute`` of each batch, in order; on a CPU of two batches at a time.

    Each takes half of torch's threads. One forward on all of them waits at the end of every
    operator for its slowest thread, and stands still whenever a thread that decodes has one of the
    cores: on two cores a ViT-S/14 in bfloat16 computes the features of files at 0.86 of the rate of
    its bare forward that way, and at 1.03 of it side by side (``benchmarks/features.py``).

    Args:
        compute: Called from other threads, so it sets what torch keeps per thread (inference mode,
            autocast) itself.
        batches: Consumed in the calling thread, no more than one ahead of what is computed.
        device: Where it computes. Other devices than a CPU are given one batch after the other.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads < LANES:
        yield from map(compute, batches)
        return
    own = threading.local()

    def work(batch: T) -> R:
        if not hasattr(own, "ready"):  # it empties caches, so not each time
            torch.set_num_threads(threads // LANES)
            own.ready = True
        return compute(batch)

    try:
        with closing(ordered(work, batches, LANES, LANES + 1)) as computed:
            yield from computed
    finally:
        torch.set_num_threads(threads)  # new threads would get the number of the last call
