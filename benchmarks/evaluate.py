"""How long a report takes from scores: drawn scores, all intervals and curves, all three files.

    python benchmarks/evaluate.py --scores 100000 --bootstraps 1000

Four data sets of equal size, two of them of videos with ten frames; five generators; one group in
nine holds two videos or pictures. No picture is read, so there are no thumbnails.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unmask.cli.evaluate_outputs import write_reports
from unmask.evaluate.calibration import sigmoid
from unmask.evaluate.summary import Choices, summarise, threshold_of
from unmask.evaluate.table import Meta, Scores, texts
from unmask.evaluate.table_file import read_scores, write_scores
from unmask.types import OperatingPoint

DATASETS = ("alpha", "beta", "gamma", "delta")
WITH_VIDEOS = frozenset({"alpha", "beta"})
GENERATORS = 5
FRAMES = 10


def table(count: int, *, seed: int = 0) -> Scores:
    """A table of drawn scores; reals and fakes overlap."""
    generator = np.random.default_rng(seed)
    number = np.arange(count)
    dataset = np.array(DATASETS, object)[number * len(DATASETS) // count]
    unit = np.where(np.isin(dataset.astype(str), list(WITH_VIDEOS)), number // FRAMES, number)
    label = (unit % 2).astype(np.int8)
    logit = generator.normal(1.7 * (label - 0.5)) + 0.5 * generator.normal(size=count)
    video = [
        f"{name}/{each}" if name in WITH_VIDEOS else ""
        for name, each in zip(dataset, unit, strict=True)
    ]
    made = [f"g{each % GENERATORS}" if fake else "" for each, fake in zip(unit, label, strict=True)]
    point = OperatingPoint("fpr5", fake_at=0.8, real_below=0.3, source="drawn")
    return Scores(
        source=texts(f"data/{name}/{each}.jpg" for name, each in zip(dataset, number, strict=True)),
        dataset=dataset,
        generator=texts(made),
        group=texts(
            f"{name}/{each // 10 * 10}" if each % 10 < 2 else f"{name}/{each}"
            for name, each in zip(dataset, unit, strict=True)
        ),
        video=texts(video),
        split=texts(["test"] * count),
        label=label,
        status=texts(["ok"] * count),
        p_fake=sigmoid(logit),
        logit=logit,
        reasons=texts([""] * count),
        messages=texts([""] * count),
        sha256=texts(f"{each:064x}" for each in number),
        elapsed_ms=np.full(count, 20.0),
        extra={
            "face_px": generator.uniform(32, 400, count),
            "sharpness": generator.gamma(2, 60, count),
            "jpeg_quality": generator.integers(60, 100, count).astype(np.float64),
            "format": texts(np.array(["jpeg", "png"])[generator.integers(0, 2, count)].tolist()),
        },
        meta=Meta(detector="drawn", detector_sha256="0" * 64, operating_point=point),
    )


def measured(count: int, bootstraps: int, folder: Path) -> dict[str, tuple[float, float]]:
    """Seconds on the clock, and of processors, by step."""
    found: dict[str, tuple[float, float]] = {}
    clock, cpu = time.perf_counter(), time.process_time()

    def step(name: str) -> None:
        nonlocal clock, cpu
        now, used = time.perf_counter(), time.process_time()
        found[name] = (now - clock, used - cpu)
        clock, cpu = now, used

    path = folder / "scores.parquet"
    write_scores(path, table(count))
    step("draw and write scores")
    scores = read_scores(path)
    step("read scores")
    evaluation = summarise(scores, threshold_of(scores.meta), Choices(bootstraps=bootstraps))
    step("measure")
    write_reports(folder, evaluation)
    step("write report")
    return found


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--scores", type=int, default=100_000)
    parser.add_argument("--bootstraps", type=int, default=1000)
    return parser.parse_args(argv)


def main() -> None:
    given = parse()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(given.scores, given.bootstraps, Path(folder))
    print("| step | s | CPU s |\n|---|---|---|")
    for name, (clock, cpu) in found.items():
        print(f"| {name} | {clock:.1f} | {cpu:.1f} |")
    timed = [value for name, value in found.items() if name != "draw and write scores"]
    total = [sum(each) for each in zip(*timed, strict=True)]
    print(f"| report from scores | {total[0]:.1f} | {total[1]:.1f} |")


if __name__ == "__main__":
    main()
