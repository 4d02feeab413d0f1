"""``unmask scan``: score images, folders, manifests or a list on standard input."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from unmask.cli import options
from unmask.cli.progress import progress
from unmask.errors import ConfigError, SourceError
from unmask.files import one_line

if TYPE_CHECKING:
    from unmask.ledger import Ledger
    from unmask.pipeline import Pipeline
    from unmask.types import Result, Sample

__all__ = ["scan"]


def scan(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...", help="Images, folders, globs, .csv/.jsonl manifests, - for stdin."
        ),
    ],
    detector: options.Detector = "builtin",
    output: Annotated[
        list[Path] | None,
        typer.Option("--output", "-o", help="File to write: .jsonl .csv .json .txt .html; repeat."),
    ] = None,
    json_lines: Annotated[
        bool, typer.Option("--json", help="One JSON document per input on stdout.")
    ] = False,
    table: Annotated[
        bool | None,
        typer.Option("--table/--no-table", help="Print a line per input (default: if no output)."),
    ] = None,
    faces: Annotated[
        Literal["auto", "largest", "all", "none"],
        typer.Option(help="Which faces to score; auto follows the detector."),
    ] = "auto",
    no_face: Annotated[
        Literal["report", "whole-picture"],
        typer.Option(help="Where no face is found: say so, or score the whole picture instead."),
    ] = "report",
    finder: options.Finder = None,
    landmark_model: options.LandmarkModel = None,
    threshold: Annotated[
        str | None,
        typer.Option(help="A fixed P(fake), or as --operating-point; default: the detector's own."),
    ] = None,
    operating_point: options.OperatingPoint = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the scan that wrote this output.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
    recursive: Annotated[bool, typer.Option(help="Enter sub-folders.")] = True,
    min_face_px: Annotated[
        float, typer.Option(help="Faces smaller than this are listed, not scored.")
    ] = 32,
    max_faces: Annotated[int, typer.Option(help="Faces scored per picture, largest first.")] = 32,
    max_pixels: Annotated[int, typer.Option(help="Larger pictures are refused.")] = 64_000_000,
    max_bytes: Annotated[int, typer.Option(help="Larger files are refused.")] = 268_435_456,
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
        typer.Option("--allow-untrained", help="Score with an untrained head; stamped on results."),
    ] = False,
) -> None:
    """Score images: per face a probability, a verdict and the reasons.

    Example: unmask scan photos/ -o scores.csv -o report.html
    """
    from unmask.cli.outputs import check_outputs, locked
    from unmask.images import Limits
    from unmask.models.detector import load
    from unmask.pipeline import Options, Pipeline

    point = options.operating_point(threshold, operating_point)
    if json_lines and table:
        raise ConfigError("--json and --table both print on stdout; give one of them")
    if faces == "none" and finder is not None:
        raise ConfigError("--faces none looks for no face, so there is no --finder to choose")
    outputs = output or []
    check_outputs(outputs, inputs, resume=resume, overwrite=overwrite)
    with locked(outputs):
        # Once more: another scan may have ended between the first look and the lock.
        check_outputs(outputs, inputs, resume=resume, overwrite=overwrite)
        samples, total = _listed(inputs, recursive=recursive)
        loaded = load(
            detector,
            revision=revision,
            offline=offline,
            allow_untrained=allow_untrained,
            base=base,
            fake_labels=fake_label or (),
            device=device,
            dtype=dtype,
        )
        pipeline = Pipeline(
            loaded,
            Options(
                faces=faces,
                face=options.face_spec(loaded, finder),
                landmark_model=landmark_model,
                no_face="report" if no_face == "report" else "whole_picture",
                limits=Limits(max_bytes=max_bytes, max_pixels=max_pixels),
                max_faces=max_faces,
                min_face_px=min_face_px,
                operating_point=point,
                batch_size=batch_size,
                workers=workers,
            ),
        )
        show = table if table is not None else not outputs and not json_lines
        job = _Job(pipeline, samples, total, outputs, table=show, json_lines=json_lines)
        counts = _finished(job, overwrite=overwrite)
    raise typer.Exit(_close(counts, outputs))


@dataclass(frozen=True, slots=True)
class _Job:
    """What is scanned, and where it is told."""

    pipeline: Pipeline
    samples: Iterator[Sample]
    total: int | None
    outputs: list[Path]
    table: bool
    json_lines: bool


def _listed(inputs: list[str], *, recursive: bool) -> tuple[Iterator[Sample], int | None]:
    """The samples, and how many where somebody watches; a misspelt input is an error by now."""
    from unmask.sources import read_sources

    if "-" in inputs:
        if sys.stdin is None:
            raise ConfigError("- reads names from standard input, which is closed")
        if isinstance(sys.stdin, TextIOWrapper):  # names need not be utf-8
            sys.stdin.reconfigure(errors="surrogateescape")
    counted = "-" not in inputs and sys.stderr.isatty()
    total = sum(1 for _ in read_sources(inputs, recursive=recursive)) if counted else None
    return read_sources(inputs, recursive=recursive), total


def _finished(job: _Job, *, overwrite: bool) -> Counter[str]:
    """Run the job; what was counted until its end or its interruption.

    Raises:
        SourceError: a list that is wrong further down; what stands before it is kept.
    """
    from unmask.cli.outputs import remove
    from unmask.cli.streams import terminable

    counts: Counter[str] = Counter()
    with terminable():
        try:
            first = list(islice(job.samples, 1))  # an empty list is an error by now
            if overwrite:
                remove(job.outputs)
            _run(replace(job, samples=chain(first, job.samples)), counts)
        except KeyboardInterrupt:  # out here a second one, while outputs are closed, is no other
            counts["interrupted"] = 1
        except SourceError as error:
            from unmask.types import Status

            kept = sum(counts[status] for status in get_args(Status))
            if not (kept and job.outputs):
                raise
            raise SourceError(
                f"{error} The {kept} results before it are kept; once it is put right, the same "
                "command with --resume goes on."
            ) from error
    return counts


def _run(job: _Job, counts: Counter[str]) -> None:
    """Scan, write and print all samples; ``counts`` is right whenever this ends."""
    from unmask.cli.outputs import saving, writing
    from unmask.cli.streams import say
    from unmask.ledger import Ledger, ledger_path
    from unmask.report import TABLE_HEADER, table_row, to_json

    if job.json_lines and isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # as JSON is, whatever the terminal's is
    go_on = bool(job.outputs)
    with ExitStack() as stack:
        ledger = None
        if job.outputs:
            ledger = Ledger(ledger_path(job.outputs[0]), job.pipeline.settings())
            stack.enter_context(ledger)
            with saving():
                ledger.record_outputs(job.outputs)
        writers = [stack.enter_context(writing(path)) for path in job.outputs]
        advance = stack.enter_context(progress("scanning", job.total))
        if job.table:
            say(TABLE_HEADER, go_on=go_on)
        for result in _remembered(job.pipeline, job.samples, ledger):
            counts.update([result.status, *([result.verdict] if result.status == "ok" else [])])
            with saving():
                for writer in writers:
                    writer.write(result)
            if job.json_lines:
                say(to_json(result), go_on=go_on)
            if job.table:
                say(table_row(result), go_on=go_on)
            advance()


def _remembered(
    pipeline: Pipeline, samples: Iterable[Sample], ledger: Ledger | None
) -> Iterator[Result]:
    """The pipeline's results, each in the ledger before anything else sees it."""
    from unmask.cli.outputs import saving

    underway: deque[Sample] = deque()

    def taken() -> Iterator[Sample]:
        for sample in samples:
            underway.append(sample)
            yield sample

    for result in pipeline(taken(), memory=ledger):
        sample = underway.popleft()
        if ledger is not None:
            with saving():
                ledger.add(sample, result)
        yield result


def _close(counts: Counter[str], outputs: list[Path]) -> int:
    """Print the sum on stderr; the exit code."""
    scored, real, fake = counts["ok"], counts["real"], counts["fake"]
    statuses = ("no_face", "low_quality", "unreadable", "unsupported")
    failed = {status: counts[status] for status in statuses if counts[status]}
    line = f"{scored} scored: {fake} fake, {real} real, {counts['inconclusive']} inconclusive"
    if failed:
        line += "; not scored: " + ", ".join(f"{n} {status}" for status, n in failed.items())
    sys.stderr.write(line + "\n")
    for path in filter(Path.exists, outputs):  # one may be missing after a second Ctrl-C
        sys.stderr.write(f"wrote {one_line(str(path))}\n")
    if counts["interrupted"]:
        again = "; the same command with --resume goes on" if outputs else ""
        sys.stderr.write(f"interrupted{again}\n")
        return 130
    return 1 if failed else 0
