"""The original scripts' flow and ``unmask`` side by side: seconds, ratio, difference of scores.

    python benchmarks/compare.py PICTURES... --landmark-model LANDMARKS

Both run in this process on the same pictures and the same random CLIP tower with the same head,
in turns (A B C A B C ...), after a warm-up. Each turn of ``unmask`` starts its threads and finders
anew, as a scan does. Scenes are made of the given pictures first: JPEG, 1024 x 1024.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from reference_flow import Reference
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from unmask.images import read_frame
from unmask.models.detector import Detector, untrained_detector
from unmask.pipeline import Options, Pipeline
from unmask.preprocess import Preprocess
from unmask.sources import read_sources
from unmask.types import FaceSpec, Sample

SIZES = {
    "b16": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "patch_size": 16,
    },
    "tiny": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_size": 32,
    },
}
SPREAD = 2.0
"""Standard deviation of the logits over the pictures. A random head on a random tower gives nearly
the same score to all pictures, and a comparison of such scores would show no error."""

Flow = Callable[[], list[float]]


@dataclass(frozen=True, slots=True)
class Timing:
    """One flow over all rounds."""

    name: str
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    """Of all threads: what stays meaningful when other programs load the machine."""
    scores: tuple[float, ...]
    """P(fake) per picture, of the last round."""


def ratios(slow: Sequence[float], fast: Sequence[float]) -> tuple[float, float, float]:
    """Median, least and largest of the rounds' ratios ``slow / fast``."""
    each = [a / b for a, b in zip(slow, fast, strict=True)]
    return statistics.median(each), min(each), max(each)


def largest_difference(one: Sequence[float], other: Sequence[float]) -> float:
    """Of two lists of probabilities, picture by picture."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def interleaved(flows: dict[str, Flow], rounds: int) -> list[Timing]:
    """Every flow once per round, in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in flows}
    cpu: dict[str, list[float]] = {name: [] for name in flows}
    scores: dict[str, list[float]] = {}
    for number in range(1, rounds + 1):
        for name, flow in flows.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            scores[name] = flow()
            seconds[name].append(time.perf_counter() - started)
            cpu[name].append(time.process_time() - cpu_started)
        shown = ", ".join(f"{name} {spent[-1]:.2f} s" for name, spent in seconds.items())
        print(f"round {number}: {shown} (load {os.getloadavg()[0]:.1f})", flush=True)
    return [
        Timing(name, tuple(seconds[name]), tuple(cpu[name]), tuple(scores[name])) for name in flows
    ]


def make_scenes(samples: Sequence[Sample], folder: Path, count: int, side: int) -> list[Path]:
    """``count`` JPEG scenes, ``side`` x ``side``: each picture enlarged to fill, centre cut."""
    paths = []
    for index in range(count):
        image = read_frame(samples[index % len(samples)].path)[0].image
        height, width = image.shape[:2]
        # A repeated picture is enlarged a little more, so that no two scenes are the same bytes.
        ratio = side / min(height, width) * 1.02 ** (index // len(samples))
        size = (max(side, round(width * ratio)), max(side, round(height * ratio)))
        large = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        top, left = (large.shape[0] - side) // 2, (large.shape[1] - side) // 2
        scene = large[top : top + side, left : left + side]
        path = folder / f"scene_{index:04}.jpg"
        quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
        cv2.imwrite(str(path), cv2.cvtColor(scene, cv2.COLOR_RGB2BGR), quality)
        paths.append(path)
    return paths


def make_tower(folder: Path, size: str) -> None:
    """A random CLIP vision tower of that size, the same each time."""
    torch.manual_seed(0)
    CLIPVisionModel(CLIPVisionConfig(**SIZES[size])).save_pretrained(folder)


def spread_head(detector: Detector, paths: Sequence[Path]) -> nn.Linear:
    """The detector's head, changed so that the logits of these pictures have mean 0 and SPREAD.

    The pictures are taken whole here; crops of them give about the same spread.
    """
    images = np.stack([detector.preprocess.resize(read_frame(path)[0].image) for path in paths])
    logits = detector.logits(images)
    linear: nn.Linear = detector.model.head.linear
    with torch.no_grad():
        linear.weight.mul_(SPREAD / float(logits.std()))
        linear.bias[1] -= float(detector.logits(images).mean())
    return linear


def product(
    detector: Detector, finder: str, given: argparse.Namespace, paths: Sequence[Path]
) -> Flow:
    """``unmask`` with this finder, as a function without arguments."""
    options = Options(
        faces="largest",
        face=FaceSpec(finder=finder, scale=1.3, size=224),
        landmark_model=given.landmark_model if finder == "dlib81" else None,
        no_face="whole_picture",
        batch_size=given.batch_size,
        workers=given.workers,
    )
    pipeline = Pipeline(detector, options)
    usual = torch.get_num_threads()

    def flow() -> list[float]:
        torch.set_num_threads(given.torch_threads or usual)
        try:
            results = list(pipeline([Sample(source=str(path), path=path) for path in paths]))
        finally:
            torch.set_num_threads(usual)
        return [-1.0 if result.p_fake is None else result.p_fake for result in results]

    return flow


def report(timings: Sequence[Timing], images: int) -> None:
    """A table: every flow against the first one; the last column is of P(fake)."""
    base = timings[0]
    print("\n| flow | images/s | times as fast: median [least, most] | CPU s/image | max diff |")
    print("|---|---|---|---|---|")
    for timing in timings:
        rate = images / statistics.median(timing.seconds)
        median, least, most = ratios(base.seconds, timing.seconds)
        difference = largest_difference(base.scores, timing.scores)
        ratio = f"{median:.2f} [{least:.2f}, {most:.2f}]"
        cpu = statistics.median(timing.cpu_seconds) / images
        print(f"| {timing.name} | {rate:.2f} | {ratio} | {cpu:.3f} | {difference:.1e} |")
    low, high = min(base.scores), max(base.scores)
    print(f"\nP(fake) of the reference flow lies between {low:.3f} and {high:.3f}.")


def compare(arguments: argparse.Namespace, folder: Path) -> list[Timing]:
    """Everything between the command line and the table."""
    samples = list(read_sources(arguments.images))
    paths = make_scenes(samples, folder, arguments.count, arguments.side)
    make_tower(folder / "tower", arguments.size)
    detector = untrained_detector(
        folder / "tower", preprocess=Preprocess.effort(), device="cpu", dtype="float32"
    )
    head = spread_head(detector, paths[:32])
    names = ["dlib81", "yunet"] if arguments.finder == "both" else [arguments.finder]

    def flows(paths: Sequence[Path]) -> dict[str, Flow]:
        found: dict[str, Flow] = {"reference": lambda: [whole(path).p_fake for path in paths]}
        if arguments.without_second_look:
            found["reference, one look"] = lambda: [once(path).p_fake for path in paths]
        for name in names:
            found[f"unmask, {name}"] = product(detector, name, arguments, paths)
        return found

    whole = Reference.load(folder / "tower", head, arguments.landmark_model)
    once = Reference(whole.tower, head, whole.find, whole.landmarks, second_look=False)
    for warm_up in flows(paths[:3]).values():
        warm_up()
    return interleaved(flows(paths), arguments.rounds)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", nargs="+", help="pictures with one face, folders of them")
    parser.add_argument("--landmark-model", type=Path, required=True)
    parser.add_argument("--images", dest="count", type=int, default=48, help="scenes (48)")
    parser.add_argument("--side", type=int, default=1024, help="of a scene in pixels (1024)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--finder", choices=("dlib81", "yunet", "both"), default="both")
    parser.add_argument("--size", choices=tuple(SIZES), default="b16")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", type=int, help="of unmask (one per core)")
    parser.add_argument("--torch-threads", type=int, help="of unmask (torch's choice)")
    parser.add_argument(
        "--without-second-look",
        action="store_true",
        help="also time the reference without its second, unused detection",
    )
    return parser.parse_args(argv)


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        timings = compare(arguments, Path(folder))
    report(timings, arguments.count)


if __name__ == "__main__":
    main()
