"""How well a detector does on the validation part of a manifest, through the product's own flow.

    python benchmarks/validate.py DATA/manifest.csv --detector builtin

Per data set: AUC (a video counts once, by the mean logit of its frames), how many pictures show
no face, and the verdicts at the default operating point. Data sets of one class are joined: AUC,
and the recall at 5 % false positives. ``--jpeg 60`` re-encodes every picture first.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from unmask.errors import SourceError
from unmask.images import read_frame
from unmask.models.detector import load
from unmask.pipeline import Options, Pipeline
from unmask.sources import read_sources
from unmask.train.data import unit
from unmask.train.probe import validate
from unmask.types import Result, Sample, Verdict

VERDICTS: tuple[Verdict, ...] = ("real", "inconclusive", "fake")
COLUMNS = ("source", "dataset", "unit", "label", "status", "verdict", "p_fake", "logit")


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table."""

    name: str
    pictures: int
    n_real: int
    n_fake: int
    """What counts once: videos where there are any, else pictures; only what was scored."""
    by_video: bool
    auc: float
    recall_at_fpr5: float | None
    """Only where data sets of one class are joined."""
    no_face: float
    """Share of the pictures; likewise below."""
    verdicts: dict[str, tuple[float, float, float]]
    """By true class (real, fake): shares called real, inconclusive, fake; of those scored."""


def table(samples: Sequence[Sample], results: Sequence[Result]) -> list[Line]:
    """A line per data set with both classes, then one for all others together."""
    labels: dict[str, set[int | None]] = {}
    for sample in samples:
        labels.setdefault(sample.dataset, set()).add(sample.label)
    groups: list[tuple[str, ...]] = [(name,) for name in sorted(labels) if len(labels[name]) == 2]
    alone = tuple(name for name in sorted(labels) if len(labels[name]) == 1)
    if len(set().union(*(labels[name] for name in alone))) == 2:
        groups.append(alone)
    pairs = list(zip(samples, results, strict=True))
    return [_line(group, [pair for pair in pairs if pair[0].dataset in group]) for group in groups]


def _line(group: tuple[str, ...], pairs: Sequence[tuple[Sample, Result]]) -> Line:
    scored = [(sample, result) for sample, result in pairs if result.logit is not None]
    samples = [sample for sample, _ in scored]
    found = validate(logits_of([result for _, result in scored]), samples)
    (row,) = found.rows
    verdicts = {}
    for label, truth in enumerate(("real", "fake")):
        called = [result.verdict for sample, result in scored if sample.label == label]
        shares = [called.count(verdict) / len(called) for verdict in VERDICTS]
        verdicts[truth] = (shares[0], shares[1], shares[2])
    return Line(
        name=" + ".join(group) or "data",
        pictures=len(pairs),
        n_real=row.n_real,
        n_fake=row.n_fake,
        by_video=row.by_video,
        auc=row.auc,
        recall_at_fpr5=found.recall_at_fpr5 if len(group) > 1 else None,
        no_face=sum(result.status == "no_face" for _, result in pairs) / len(pairs),
        verdicts=verdicts,
    )


def logits_of(results: Iterable[Result]) -> npt.NDArray[np.float64]:
    """Their logits, all of which must be there."""
    return np.array([result.logit for result in results], np.float64)


def re_encoded(samples: Sequence[Sample], folder: Path, quality: int) -> list[Sample]:
    """The same samples with their pictures as JPEG; what cannot be read stays as it is."""
    changed = []
    for index, sample in enumerate(samples):
        try:
            image = read_frame(sample.path)[0].image
        except SourceError:
            changed.append(sample)
            continue
        path = folder / f"{index}.jpg"
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
        changed.append(replace(sample, path=path))
    return changed


def report(lines: Sequence[Line], recall: float) -> None:
    """Markdown."""
    print("| data set | pictures | real | fake | unit | AUC | recall at 5 % FPR | no face ", end="")
    print("| real called real / ? / fake | fake called real / ? / fake |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for line in lines:
        kept = "" if line.recall_at_fpr5 is None else f"{line.recall_at_fpr5:.3f}"
        shares = [
            " / ".join(f"{share:.2f}" for share in line.verdicts[truth])
            for truth in ("real", "fake")
        ]
        print(
            f"| {line.name} | {line.pictures} | {line.n_real} | {line.n_fake} "
            f"| {'video' if line.by_video else 'picture'} | {line.auc:.3f} | {kept} "
            f"| {line.no_face:.1%} | {shares[0]} | {shares[1]} |"
        )
    mean = float(np.mean([line.auc for line in lines]))
    print(
        f"\nMean AUC {mean:.3f}; recall at 5 % FPR over everything, data sets alike, {recall:.3f}."
    )


def write_scores(samples: Sequence[Sample], results: Sequence[Result], path: Path) -> None:
    """One row per picture."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(
            ("source", "dataset", "unit", "label", "status", "verdict", "p_fake", "logit")
        )
        for sample, result in zip(samples, results, strict=True):
            about = (sample.source, sample.dataset, unit(sample), sample.label)
            rows.writerow((*about, result.status, result.verdict, result.p_fake, result.logit))


def run(given: argparse.Namespace, folder: Path) -> None:
    """Everything between the command line and the table."""
    samples = [
        sample
        for sample in read_sources(given.manifests)
        if sample.split == given.split and sample.label is not None
    ]
    if given.limit:
        samples = samples[:: max(1, len(samples) // given.limit)]
    if not samples:
        raise SystemExit(f"no labelled sample of the split {given.split!r} in {given.manifests}")
    detector = load(given.detector, allow_untrained=given.allow_untrained, dtype=given.dtype)
    pipeline = Pipeline(detector, Options(faces=given.faces, workers=given.workers))
    pictures = re_encoded(samples, folder, given.jpeg) if given.jpeg else samples
    results = list(pipeline(pictures))
    print(f"{detector.ref.id} ({detector.ref.sha256[:12]}), {detector.dtype}, split {given.split}")
    print(f"{pipeline.describe()}; JPEG quality {given.jpeg or 'as it is'}\n")
    scored = [index for index, result in enumerate(results) if result.logit is not None]
    overall = validate(
        logits_of([results[index] for index in scored]), [samples[index] for index in scored]
    )
    report(table(samples, results), overall.recall_at_fpr5)
    if given.output:
        write_scores(samples, results, given.output)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("manifests", nargs="+", help="with the columns path,label,dataset,split")
    parser.add_argument("--detector", default="builtin")
    parser.add_argument("--split", default="val")
    parser.add_argument("--faces", choices=("auto", "largest", "all", "none"), default="largest")
    parser.add_argument("--jpeg", type=int, default=0, help="re-encode at this quality first")
    parser.add_argument("--limit", type=int, default=0, help="about so many, evenly spread")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--workers", type=int, help="one per core")
    parser.add_argument("--allow-untrained", action="store_true", help="also bare towers")
    parser.add_argument("-o", "--output", type=Path, help="CSV with a row per picture")
    return parser.parse_args(argv)


def main() -> None:
    given = parse()
    with tempfile.TemporaryDirectory() as folder:
        run(given, Path(folder))


if __name__ == "__main__":
    main()
