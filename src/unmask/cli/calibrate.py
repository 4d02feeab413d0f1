"""``unmask calibrate``: temperature and thresholds of a detector from labelled data."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unmask.cli import options
from unmask.cli.progress import progress
from unmask.errors import ConfigError
from unmask.files import one_line, valid_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from unmask.evaluate.recalibration import Method, Recalibration
    from unmask.models.detector import Detector
    from unmask.pipeline import Pipeline
    from unmask.types import Sample

__all__ = ["calibrate"]

_LONGEST_NAME = 200


def calibrate(
    detector: Annotated[
        str, typer.Argument(metavar="DETECTOR", help="Built-in name, detector folder, or Hub id.")
    ],
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="Folders with real/ and fake/, or real/ alone; manifests; data sets (.json).",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="New detector folder.")
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Change the folder DETECTOR itself.")
    ] = False,
    fpr: Annotated[
        list[float] | None,
        typer.Option(help="Target false-positive rate; repeat, default one first: 0.05, 0.01."),
    ] = None,
    method: Annotated[
        Literal["temperature", "platt", "none"] | None,
        typer.Option(help="Map to P(fake); default: temperature, or none without fakes."),
    ] = None,
    split: options.Split = "all",
    name: Annotated[
        str | None, typer.Option(help="Of the data; default: split and data sets.")
    ] = None,
    shift: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Unlabelled pictures from where it will be used: correct P(fake) for their "
            "share of fakes; repeat.",
        ),
    ] = None,
    root: options.Root = None,
    compression: options.Compression = None,
    frames: options.Frames = None,
    label: options.Label = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Store the new map even where P(fake) gets no better by it."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the cross-validation.")] = 0,
    json_text: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout, not the table.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the detector in the output folder.")
    ] = False,
    faces: options.Faces = "auto",
    finder: options.Finder = None,
    landmark_model: options.LandmarkModel = None,
    batch_size: options.BatchSize = 16,
    workers: options.Workers = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    revision: options.Revision = None,
    offline: options.Offline = False,
    base: options.Base = None,
) -> None:
    """Fit P(fake) and the thresholds of a detector to data of your own.

    Of a detector of faces that learnt from whole pictures too, --faces none fits those of whole
    pictures and leaves those of faces as they are.

    Example: unmask calibrate mine/ data/ -o calibrated/ --fpr 0.01
    """
    from unmask.labelled import read_listing
    from unmask.models.detector import load
    from unmask.pipeline import Options, Pipeline

    if faces == "none" and finder is not None:
        raise ConfigError("--faces none looks for no face, so there is no --finder to choose")
    labels = options.labels(label or [])
    _check_name(name)
    place = _place(
        detector, output, in_place=in_place, overwrite=overwrite, revision=revision, offline=offline
    )
    listing = read_listing(
        data, split=split, compression=compression, frames=frames, root=root or (), labels=labels
    )
    samples = listing.samples
    targets = tuple(fpr or (0.05, 0.01))
    _check_labels(samples, targets)
    others = _unlabelled(shift or [])
    loaded = load(
        detector, revision=revision, offline=offline, base=base, device=device, dtype=dtype
    )
    whole = faces == "none" and loaded.whole_pictures is not None
    _check_bias(loaded, method, shift=bool(others))
    given = Options(
        faces=faces,
        face=options.face_spec(loaded, finder),
        landmark_model=landmark_model,
        batch_size=batch_size,
        workers=workers,
    )
    job = _Job(
        pipeline=Pipeline(loaded, given),
        samples=samples,
        others=others,
        source=name or _named(samples, split),
        targets=targets,
        method=method,
        seed=seed,
        force=force,
        whole_pictures=whole,
    )
    found = _found(job)
    _write(place, job, found)
    if listing.without_frames:
        sys.stderr.write(f"not counted: {len(listing.without_frames)} videos without any frame\n")
    _tell(found, place, json_text=json_text, whole_pictures=whole)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the detector is, and where the new one goes."""

    folder: Path
    output: Path
    overwrite: bool


@dataclass(frozen=True, slots=True)
class _Job:
    """What is scored, and what is fitted to the scores."""

    pipeline: Pipeline
    samples: Sequence[Sample]
    others: Sequence[Sample]
    source: str
    targets: tuple[float, ...]
    method: Method | None
    seed: int
    force: bool
    whole_pictures: bool
    """Whether it is how a detector of faces reads those that is fitted."""


def _place(
    detector: str,
    output: Path | None,
    *,
    in_place: bool,
    overwrite: bool,
    revision: str | None,
    offline: bool,
) -> _Place:
    """The two folders, before any work.

    Raises:
        ConfigError: no output or two, or a detector that cannot be changed.
        OutputError: something that is no detector is in the way, or ``overwrite`` is not set.
    """
    from unmask.models.builtin import BUILTINS
    from unmask.models.checkpoint import check_free
    from unmask.models.detector import locate
    from unmask.models.recalibrate import is_detector_folder
    from unmask.report import make_folder

    if (output is not None) == in_place:
        raise ConfigError("give either -o DIR for a new detector folder, or --in-place")
    located = locate(detector, revision=revision, offline=offline)
    if not is_detector_folder(located.folder):
        raise ConfigError(
            f"{detector} is no detector folder, so it has no place for a calibration; make one of "
            "it by `unmask convert` first"
        )
    folder = located.folder.resolve()
    if output is None:
        if detector in BUILTINS or located.hub_id is not None:
            raise ConfigError(f"{detector} is never changed in place; give a new folder by -o DIR")
        check_free(folder, overwrite=True)
        return _Place(folder, folder, overwrite=True)
    new = output.resolve()
    if new.is_relative_to(folder) or folder.is_relative_to(new):
        raise ConfigError(
            f"the output {output} and the detector {detector} are the same or one lies in the "
            "other; give another folder, or --in-place"
        )
    check_free(output, overwrite=overwrite)
    make_folder(new.parent)
    return _Place(folder, new, overwrite)


def _check_name(name: str | None) -> None:
    """Nothing, if the name of the data can stand on one line of a card and of every result."""
    if name is None:
        return
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise ConfigError(
            f"--name is {name[:_LONGEST_NAME]!r}; one line of 1 to {_LONGEST_NAME} visible "
            "characters was expected"
        )


def _check_labels(samples: Sequence[Sample], targets: tuple[float, ...]) -> None:
    """Nothing, if there may be enough reals for all targets; what gets a score is checked later."""
    from unmask.evaluate.thresholds import check_enough

    reals = [sample for sample in samples if sample.label == 0]
    n_files = len({os.path.abspath(sample.path) for sample in reals})  # noqa: PTH100 (links stay)
    check_enough(n_files, targets, n_groups=len({sample.group for sample in reals}))


def _check_bias(detector: Detector, method: Method | None, *, shift: bool) -> None:
    """Nothing, unless a bias is asked for that would move what is to stay as it is."""
    from unmask.models.recalibrate import NO_BIAS

    if detector.whole_pictures is not None and (shift or method == "platt"):
        asked = "--shift" if shift else "--method platt"
        raise ConfigError(
            f"{asked} changes the bias of the head, by which {detector.ref.id} reads faces and "
            f"whole pictures; {NO_BIAS}"
        )


def _unlabelled(paths: list[str]) -> list[Sample]:
    from unmask.sources import read_sources

    return list(read_sources(paths)) if paths else []


def _named(samples: Sequence[Sample], split: str) -> str:
    """What thresholds say they come from: the data sets, and the split where one was chosen."""
    names = one_line(", ".join(dict.fromkeys(sample.dataset for sample in samples)))
    return names if split == "all" else f"{split} split of {names}"


def _found(job: _Job) -> Recalibration:
    """Score everything, and fit."""
    from unmask.evaluate.recalibration import recalibrate
    from unmask.evaluate.table import from_results

    with progress("scoring", len(job.samples)) as advance:
        results = []
        for result in job.pipeline(job.samples):
            results.append(result)
            advance()
    return recalibrate(
        from_results(results, job.samples),
        job.pipeline.reading.temperature,
        source=job.source,
        method=job.method,
        target_fprs=job.targets,
        unlabelled=_logits(job) if job.others else None,
        seed=job.seed,
        force=job.force,
    )


def _logits(job: _Job) -> npt.NDArray[np.float64]:
    """Of the unlabelled pictures, as far as they have one."""
    import numpy as np

    logits = []
    with progress("scoring, unlabelled", len(job.others)) as advance:
        for result in job.pipeline(job.others):
            if result.logit is not None:
                logits.append(result.logit)
            advance()
    return np.array(logits, np.float64)


def _write(place: _Place, job: _Job, found: Recalibration) -> None:
    from unmask.evaluate.recalibration_text import card_section
    from unmask.models.recalibrate import write_recalibrated
    from unmask.versions import versions

    command = valid_text(shlex.join(["unmask", *sys.argv[1:]]))
    write_recalibrated(
        place.folder,
        place.output,
        temperature=found.after.temperature,
        points=found.points,
        record={
            **found.record(),
            "dtype": str(job.pipeline.detector.dtype).removeprefix("torch."),
            "versions": versions(),
        },
        section=card_section(found, command, whole_pictures=job.whole_pictures),
        bias=found.after.bias,
        whole_pictures=job.whole_pictures,
        overwrite=place.overwrite,
    )


def _tell(found: Recalibration, place: _Place, *, json_text: bool, whole_pictures: bool) -> None:
    from dataclasses import asdict

    from unmask.cli.streams import say
    from unmask.evaluate.recalibration_text import to_text

    if json_text:
        values = {
            **found.record(),
            "temperature": found.after.temperature,
            "operating_points": [asdict(outcome) for outcome in found.outcomes],
            "notes": list(found.notes),
            "output": str(place.output),
        }
        say(json.dumps(values, indent=2, ensure_ascii=False), go_on=True)
    else:
        say(_plain(to_text(found)), go_on=True)
        if found.points[1:]:
            folder, other = shlex.quote(str(place.output)), found.points[1].name
            how = " --faces none" if whole_pictures else ""
            line = f"another point: unmask scan PATH -d {folder}{how} --operating-point {other}"
            say(one_line(line), go_on=True)
    if found.not_scored:
        lost = ", ".join(f"{count} {status}" for status, count in found.not_scored.items())
        sys.stderr.write(f"not scored, and not counted: {lost}\n")
    if found.method != found.fitted.method:
        sys.stderr.write("warning: the map to P(fake) stays as it was; the notes say why\n")
    sys.stderr.write(f"wrote {one_line(str(place.output))}\n")


def _plain(text: str) -> str:
    """The text with nothing in its lines that a terminal would act on."""
    return "\n".join(map(one_line, text.split("\n")))
