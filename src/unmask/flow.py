"""Threads that prepare samples while somebody else computes: bounded, and in order."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Generic, TypeVar

from unmask.faces import FaceFinder
from unmask.prepare import Memory, Prepared, Stage, prepare
from unmask.types import Sample

__all__ = ["UntilError", "batches", "grouped", "ordered", "prepare_all"]

T = TypeVar("T")
R = TypeVar("R")


class UntilError(Generic[T]):
    """Items that end where their source fails, so that those before it are finished first."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[T]:
        """The items before the error."""
        try:
            yield from self._items
        except Exception as error:  # noqa: BLE001 (kept, and raised by check)
            self._error = error

    def check(self) -> None:
        """Raise the error of the source, if there was one."""
        if self._error is not None:
            raise self._error


def prepare_all(
    samples: Iterable[Sample],
    stage: Stage,
    *,
    workers: int | None,
    waiting: int,
    memory: Memory | None = None,
) -> Generator[Prepared, None, None]:
    """Each sample prepared, in order.

    Args:
        samples: Consumed no faster than the results are taken, but for ``waiting``.
        stage: What is done to each.
        workers: Threads; None is one per core, 0 works in the calling thread.
        waiting: How many prepared samples may wait to be taken.
        memory: See :func:`unmask.prepare.prepare`.
    """
    own = threading.local()  # finders must not be shared between threads

    def work(sample: Sample) -> Prepared:
        if not hasattr(own, "finder"):
            own.finder = stage.new_finder()
        finder: FaceFinder | None = own.finder
        return prepare(sample, finder, stage, memory)

    rest = iter(samples)
    first = list(islice(rest, 2))
    if workers is None:
        workers = os.cpu_count() or 1
    if workers == 0 or len(first) < 2:  # one picture needs no worker
        yield from map(work, chain(first, rest))
    else:
        yield from ordered(work, chain(first, rest), workers, 2 * workers + waiting)


def batches(ready: Iterable[Prepared], size: int) -> Iterator[list[Prepared]]:
    """Groups with at least ``size`` crops; pictures without crops do not hold the others up."""
    batch: list[Prepared] = []
    crops = 0
    for prepared in ready:
        batch.append(prepared)
        crops += len(prepared.pixels)
        if crops >= size or len(batch) >= 4 * size:
            yield batch
            batch, crops = [], 0
    if batch:
        yield batch


def grouped(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items in a row; the last one may be shorter."""
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group


def ordered(
    function: Callable[[T], R], items: Iterable[T], workers: int, window: int
) -> Generator[R, None, None]:
    """``map`` by threads: same order, at most ``window`` results begun and not yet taken."""
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="unmask-prepare")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            while waiting and (len(waiting) >= window or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
