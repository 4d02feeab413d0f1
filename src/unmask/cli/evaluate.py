"""``unmask evaluate``: labelled data in, a table with intervals and a report out."""

from __future__ import annotations

import math
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast, get_args

import typer

from unmask.cli import options
from unmask.errors import ConfigError
from unmask.files import one_line, valid_text

if TYPE_CHECKING:
    from unmask.evaluate.evaluation import Evaluation
    from unmask.evaluate.gate import Gate
    from unmask.evaluate.videos import How

__all__ = ["evaluate"]

_NOT_SCORED = 1
_GATE_FAILED = 3


def evaluate(
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA...", help="Folders with real/ and fake/, manifests, data sets (.json)."
        ),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector", "-d", help="Built-in name, detector folder, or Hub id; default: builtin."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder; default: evaluation/DETECTOR-DATA."),
    ] = None,
    scores: Annotated[
        list[Path] | None,
        typer.Option(help="scores.parquet of an evaluation: report without the model; repeat."),
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Two detectors, or their scores.parquet; A is reported."),
    ] = None,
    split: options.Split = "all",
    root: options.Root = None,
    compression: options.Compression = None,
    frames: options.Frames = None,
    label: options.Label = None,
    video_folders: Annotated[
        bool, typer.Option("--video-folders", help="The pictures of one folder are one video.")
    ] = False,
    join: Annotated[
        list[str] | None,
        typer.Option(help="A+B: measure data sets of one class each as one; repeat."),
    ] = None,
    protocol: Annotated[
        Literal["unmask", "deepfakebench"],
        typer.Option(help="deepfakebench: numbers as published tables have them."),
    ] = "unmask",
    video_aggregation: Annotated[
        str, typer.Option(help="From frames to videos: mean, median, max, top-k or top-k:5.")
    ] = "mean",
    threshold: Annotated[
        str | None, typer.Option(help="A fixed P(fake); default: the detector's own.")
    ] = None,
    operating_point: options.OperatingPoint = None,
    missing: Annotated[
        Literal["exclude", "as-real", "as-0.5"], typer.Option(help="Items without a score.")
    ] = "exclude",
    slice_by: Annotated[
        list[str] | None,
        typer.Option("--slice", help="Column to slice by, beside the usual ones; repeat."),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(help="Exit code 3 where it holds: 'fpr@source>0.1', 'auc@mean<0.8'; repeat."),
    ] = None,
    perturb: Annotated[
        str | None,
        typer.Option(help="Also score altered pictures: jpeg,resize@2,blur@1-3 or all."),
    ] = None,
    bootstraps: Annotated[
        int, typer.Option(min=0, help="Resamples of whole groups; 0: no intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples.")] = 0,
    thumbnails: Annotated[
        bool, typer.Option(help="Show the most confident errors in the report.")
    ] = True,
    json_text: Annotated[
        bool, typer.Option("--json", help="report.json on stdout, not the table.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
    faces: options.Faces = "auto",
    finder: options.Finder = None,
    landmark_model: options.LandmarkModel = None,
    min_face_px: Annotated[float, typer.Option(help="Smaller faces are not scored.")] = 32,
    batch_size: options.BatchSize = 16,
    workers: options.Workers = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    revision: options.Revision = None,
    offline: options.Offline = False,
    base: options.Base = None,
    fake_label: options.FakeLabels = None,
    allow_untrained: Annotated[
        bool,
        typer.Option("--allow-untrained", help="Measure an untrained head; stamped on the report."),
    ] = False,
) -> None:
    """Measure how good a detector is, how sure that is, and where it fails.

    Example: unmask evaluate data/ -d mine/ --fail-if 'fpr@source>0.1'
    """
    from unmask.cli.evaluate_request import Loading, Reading, Run, parse_joins, wanted_of
    from unmask.cli.evaluate_run import evaluated
    from unmask.evaluate.gate import parse_gate
    from unmask.evaluate.robustness import parse_cells
    from unmask.evaluate.summary import Choices

    gates = [parse_gate(text) for text in fail_if or ()]
    fixed = _fixed(threshold)
    _check_threshold(threshold, operating_point, video_aggregation, protocol)
    for option, asked in (("--perturb", perturb), ("--compare", compare)):
        if asked is not None and protocol == "deepfakebench":
            raise ConfigError(f"{option} is measured by the protocol unmask only; leave one out")
    how, k = _aggregation(video_aggregation)
    run = Run(
        wanted=wanted_of(data or [], scores or [], detector, compare),
        reading=Reading(
            data=tuple(data or ()),
            split=split,
            root=tuple(root or ()),
            compression=compression,
            frames=frames,
            labels=options.labels(label or []),
            video_folders=video_folders,
        ),
        loading=Loading(
            point=operating_point if fixed is None else fixed,
            faces=faces,
            finder=finder,
            landmark_model=landmark_model,
            min_face_px=min_face_px,
            batch_size=batch_size,
            workers=workers,
            revision=revision,
            offline=offline,
            base=base,
            fake_labels=tuple(fake_label or ()),
            allow_untrained=allow_untrained,
            device=device,
            dtype=dtype,
        ),
        choices=Choices(
            protocol=protocol,
            how=how,
            k=k,
            missing=missing,
            bootstraps=bootstraps,
            seed=seed,
            joins=parse_joins(join or ()),
            columns=tuple(slice_by or ()),
        ),
        gates=tuple(gates),
        command=valid_text(shlex.join(["unmask", *sys.argv[1:]])),
        cells=parse_cells(perturb) if perturb is not None else (),
    )
    evaluation, folder = evaluated(run, output, overwrite=overwrite, thumbnails=thumbnails)
    raise typer.Exit(_told(evaluation, gates, folder, json_text=json_text))


def _check_threshold(
    threshold: str | None, point: str | None, aggregation: str, protocol: str
) -> None:
    if threshold is not None and point is not None:
        raise ConfigError("--threshold and --operating-point contradict each other; give one")
    if protocol == "deepfakebench" and (threshold or point or aggregation != "mean"):
        raise ConfigError(
            "the protocol deepfakebench has a threshold and an aggregation of its own; leave out "
            "--threshold, --operating-point and --video-aggregation"
        )


def _fixed(threshold: str | None) -> float | None:
    """The threshold as a number."""
    if threshold is None:
        return None
    try:
        number = float(threshold)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise ConfigError(
            f"--threshold is {threshold!r}; a P(fake) from 0 to 1 was expected. A point of the "
            "detector is named by --operating-point. None is ever fitted to the data measured; "
            "`unmask calibrate` chooses one on other data."
        )
    return number


def _aggregation(text: str) -> tuple[How, int]:
    """How frames become a video, and k.

    >>> _aggregation("mean"), _aggregation("top-k:5")
    (('mean', 3), ('top-k', 5))
    """
    from unmask.evaluate.videos import How

    name, colon, count = text.partition(":")
    right = name in get_args(How) and (
        not colon or (name == "top-k" and count.isdecimal() and int(count) > 0)
    )
    if not right:
        raise ConfigError(
            f"--video-aggregation is {text!r}; expected mean, median, max, top-k or top-k:5"
        )
    return cast("How", name), int(count or 3)


def _told(evaluation: Evaluation, gates: Sequence[Gate], folder: Path, *, json_text: bool) -> int:
    """Print the evaluation and what the gates found; the exit code."""
    from unmask.cli.evaluate_table import to_text
    from unmask.cli.streams import say
    from unmask.evaluate.gate import judge
    from unmask.evaluate.report_json import write_json

    say(write_json(evaluation).rstrip("\n") if json_text else to_text(evaluation), go_on=True)
    lost = Counter(status for _, status, _ in evaluation.missing)
    if lost:
        said = ", ".join(f"{count} {status}" for status, count in lost.most_common())
        sys.stderr.write(f"not scored: {one_line(said)}\n")
    sys.stderr.write(f"wrote {one_line(str(folder))}\n")
    outcomes = judge(gates, evaluation)
    for each in outcomes:
        word = "fail" if each.failed else "pass"
        sys.stderr.write(f"{word}: {one_line(f'{each.gate.text}: {each.message}')}\n")
    if any(each.failed for each in outcomes):
        return _GATE_FAILED
    return _NOT_SCORED if lost else 0
