"""How fast a probe's features are computed, beside the bare forward of the tower.

    python benchmarks/features.py DATA --backbone FOLDER [--dtype bfloat16] [--pictures N]

*bare* is the tower on random tensors of the same shape in the same batches. *files* is what
``unmask train --recipe probe`` does with pictures it has not seen: read, hash, decode, find and
align the largest face, scale, normalise, forward, store. *crops* begins from the cached crops that
every other recipe keeps, as the start of a head and each evaluation do. They take turns in one
process, pass by pass over the same pictures; a share is that of the same round. CPU time is that
of all threads, and what a rate comes to where other programs use the cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import torch

from unmask.images import Limits
from unmask.models.backbone import extract
from unmask.prepare import Stage
from unmask.preprocess import Preprocess
from unmask.sources import read_sources
from unmask.train.crops import Crops, crops_of
from unmask.train.features import Tower, features_of, hashes_of
from unmask.train.start import over_crops
from unmask.train.towers import load_tower
from unmask.types import FaceSpec, Sample


def stage_of(preprocess: Preprocess) -> Stage:
    """The face stage that a probe tries first."""
    face = FaceSpec(scale=1.3, size=preprocess.height, antialias=True)
    return Stage("largest", face, preprocess, Limits(), max_faces=1, min_face_px=32.0)


def spread(samples: Sequence[Sample], number: int) -> list[Sample]:
    """So many of them, evenly over the list."""
    number = min(number, len(samples))
    return [samples[index * len(samples) // number] for index in range(number)]


def bare(tower: Tower, names: Sequence[str], preprocess: Preprocess, number: int) -> None:
    """The tower on as many random pictures."""
    size = tower.batch_size
    pixels = torch.randn(size, 3, preprocess.height, preprocess.width, dtype=tower.dtype)
    with torch.inference_mode():
        for start in range(0, number, size):
            extract(tower.model, pixels[: min(size, number - start)], names)


def cropped(tower: Tower, names: Sequence[str], preprocess: Preprocess, crops: Crops) -> None:
    """The features of cached crops."""
    over_crops(
        crops,
        lambda pixels: extract(tower.model, pixels.to(tower.dtype), names),
        preprocess,
        device=tower.device,
        batch_size=tower.batch_size,
        workers=os.cpu_count() or 1 if tower.workers is None else tower.workers,
    )


def passes(
    tower: Tower, names: Sequence[str], stage: Stage, samples: Sequence[Sample], folder: Path
) -> dict[str, Callable[[], int]]:
    """What takes turns: each computes all pictures once and says how many that were."""
    crops = crops_of(samples, hashes_of(samples, tower.workers), stage, cache=folder)
    fresh: Iterator[Path] = (folder / f"features-{number}" for number in count())

    def of_files() -> int:
        return len(features_of(crops.samples, names, tower, stage, cache=next(fresh)).samples)

    def of_crops() -> int:
        cropped(tower, names, stage.preprocess, crops)
        return len(crops.samples)

    def of_noise() -> int:
        bare(tower, names, stage.preprocess, len(crops.samples))
        return len(crops.samples)

    return {"bare": of_noise, "files": of_files, "crops": of_crops}


def measure(ways: dict[str, Callable[[], int]], rounds: int) -> None:
    """Markdown; a first round that is not counted warms up."""
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            started, spent = time.perf_counter(), time.process_time()
            pictures = way()
            took, used = time.perf_counter() - started, time.process_time() - spent
            if number:
                wall[name].append(pictures / took)
                cpu[name].append(1000 * used / pictures)
    print("| way | pictures/s | share of bare | CPU ms per picture | share of bare |")
    print("|---|---|---|---|---|")
    for name in ways:
        cells = [f"{statistics.median(wall[name]):.1f}", shares(wall[name], wall["bare"])]
        cells += [f"{statistics.median(cpu[name]):.1f}", shares(cpu["bare"], cpu[name])]
        print("|", " | ".join((name, *cells)), "|")


def shares(own: Sequence[float], others: Sequence[float]) -> str:
    """Median, least and most of the ratios of the same round."""
    ratios = [one / other for one, other in zip(own, others, strict=True)]
    return f"{statistics.median(ratios):.1%} [{min(ratios):.1%}, {max(ratios):.1%}]"


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", nargs="+", help="whatever 'unmask scan' takes")
    parser.add_argument("--backbone", default="builtin")
    parser.add_argument("--feature", nargs="+", default=["mean@6", "mean@12"])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, help="one per core")
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args(argv)


def main() -> None:
    given = parse()
    tower, preprocess, source = load_tower(
        given.backbone,
        features=given.feature,
        revision=None,
        offline=True,
        device="cpu",
        dtype=given.dtype,
        batch_size=given.batch_size,
        workers=given.workers,
    )
    samples = spread(list(read_sources(given.data)), given.pictures)
    print(f"{source.id}, {given.dtype}, {len(samples)} pictures in batches of {given.batch_size}")
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory() as folder:
        ways = passes(tower, given.feature, stage_of(preprocess), samples, Path(folder))
        measure(ways, given.rounds)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
