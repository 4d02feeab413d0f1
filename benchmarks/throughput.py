"""How many images per second a scan makes, how much memory it takes, and where the time goes.

    python benchmarks/throughput.py PATH... --detector builtin

The scan runs through :class:`unmask.pipeline.Pipeline` in this process, without an output file.
The stages' functions are replaced by ones that add up their thread's CPU time. Libraries compute
with threads of their own too; on Linux those are told apart by when they came to be, torch's by
the end of a forward before the scan, OpenCV's afterwards. Elsewhere their time is in the rest.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from unittest import mock

import numpy as np

from unmask.faces import FaceFinder, make_finder
from unmask.models.detector import Detector, load
from unmask.pipeline import Options, Pipeline
from unmask.preprocess import Preprocess
from unmask.sources import read_sources
from unmask.types import Face, Image

STAGES = (
    ("unmask.prepare.read_bytes", "read and hash"),
    ("unmask.prepare.sha256", "read and hash"),
    ("unmask.prepare.decode", "decode"),
    ("unmask.prepare.crop_face", "align"),
    ("unmask.preprocess.Preprocess.resize", "resize"),
    ("unmask.preprocess.Preprocess.normalize", "normalise"),
    ("unmask.models.detector.Detector.logits", "tower and head"),
)
NAMES = ("read and hash", "decode", "find faces", "align", "resize", "normalise", "tower and head")


P = ParamSpec("P")
R = TypeVar("R")


class Clock:
    """CPU seconds per stage, added up by the thread that works on it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: Counter[str] = Counter()
        self._inner = threading.local()

    def timed(self, stage: str, function: Callable[P, R]) -> Callable[P, R]:
        """The function, its CPU time counted; time in a timed function within it is not."""

        @wraps(function)
        def work(*args: P.args, **kwargs: P.kwargs) -> R:
            outer = getattr(self._inner, "seconds", 0.0)
            self._inner.seconds = 0.0
            started = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.thread_time() - started
                with self._lock:
                    self._seconds[stage] += spent - self._inner.seconds
                self._inner.seconds = outer + spent

        return work

    def seconds(self) -> dict[str, float]:
        """Per stage, in the order of the flow."""
        return {name: self._seconds[name] for name in NAMES}


class TimedFinder:
    """A finder whose time counts as ``find faces``."""

    def __init__(self, finder: FaceFinder, clock: Clock) -> None:
        self.name = finder.name
        self._find = clock.timed("find faces", finder.find)

    def find(self, image: Image) -> list[Face]:
        """As the finder's own, timed."""
        return self._find(image)


@contextmanager
def watched(clock: Clock) -> Iterator[None]:
    """Within it, the stages' functions tell the clock."""

    def finder(name: str, *, landmark_model: Path | None = None) -> FaceFinder:
        return TimedFinder(make_finder(name, landmark_model=landmark_model), clock)

    patches = [mock.patch("unmask.prepare.make_finder", finder)]
    for target, stage in STAGES:
        module, _, name = target.rpartition(".")
        owner = {"Preprocess": Preprocess, "Detector": Detector}.get(module.rpartition(".")[2])
        original: Any = getattr(owner or sys.modules[module], name)
        patches.append(mock.patch(target, clock.timed(stage, original)))
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in reversed(patches):
            patch.stop()


def thread_seconds() -> dict[int, float]:
    """CPU seconds of each living thread of this process; empty where the system is not Linux."""
    if sys.platform != "linux":
        return {}
    tick = os.sysconf("SC_CLK_TCK")
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            fields = (task / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
        found[int(task.name)] = (int(fields[11]) + int(fields[12])) / tick
    return found


@dataclass(frozen=True, slots=True)
class Measured:
    """One scan."""

    statuses: Mapping[str, int]
    faces: int
    seconds: float
    cpu: Mapping[str, float]
    """CPU seconds per stage; with ``rest`` they add up to the process's."""
    peak_mib: float


def measure(paths: Sequence[str], detector: Detector, options: Options, limit: int) -> Measured:
    """Scan everything once."""
    clock = Clock()
    size = detector.preprocess
    detector.logits(np.zeros((options.batch_size, size.height, size.width, 3), np.uint8))
    towers = set(thread_seconds())
    statuses: Counter[str] = Counter()
    faces = 0
    with watched(clock):
        pipeline = Pipeline(detector, options)
        started, cpu_started, before = time.perf_counter(), time.process_time(), thread_seconds()
        for result in pipeline(islice(read_sources(paths), limit or None)):
            statuses[result.status] += 1
            faces += sum(face.logit is not None for face in result.faces)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    shares = clock.seconds()
    ours = {thread.native_id for thread in threading.enumerate()}
    for thread, total in thread_seconds().items():  # the workers have ended by now
        if thread not in ours:
            stage = "tower and head" if thread in towers else "find faces"
            shares[stage] += total - before.get(thread, 0.0)
    shares["rest"] = cpu - sum(shares.values())
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    return Measured(statuses, faces, seconds, shares, peak)


def report(measured: Measured) -> None:
    """Markdown: the numbers, then a row per stage."""
    images = sum(measured.statuses.values())
    total = sum(measured.cpu.values())
    print(f"{images} files in {measured.seconds:.1f} s: {images / measured.seconds:.1f} images/s, ")
    print(f"{measured.faces} faces scored, peak memory {measured.peak_mib:.0f} MiB, ")
    print(f"{total / measured.seconds:.2f} cores busy, load {os.getloadavg()[0]:.1f}")
    print(", ".join(f"{count} {status}" for status, count in sorted(measured.statuses.items())))
    print("\n| stage | CPU s | share | CPU ms per file |")
    print("|---|---|---|---|")
    for stage, seconds in measured.cpu.items():
        each = 1000 * seconds / images
        print(f"| {stage} | {seconds:.1f} | {seconds / total:.1%} | {each:.2f} |")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("paths", nargs="+", help="whatever 'unmask scan' takes")
    parser.add_argument("--detector", default="builtin")
    parser.add_argument("--allow-untrained", action="store_true", help="also bare towers")
    parser.add_argument("--faces", choices=("auto", "largest", "all", "none"), default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", type=int, help="one per core")
    parser.add_argument("--limit", type=int, default=0, help="only the first N files")
    return parser.parse_args(argv)


def main() -> None:
    given = parse()
    detector = load(
        given.detector, allow_untrained=given.allow_untrained, device="cpu", dtype=given.dtype
    )
    options = Options(faces=given.faces, batch_size=given.batch_size, workers=given.workers)
    report(measure(given.paths, detector, options, given.limit))


if __name__ == "__main__":
    main()
