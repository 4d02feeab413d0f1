"""``unmask scan``: score images, folders, manifests or a list on standard input."""

from __future__ import annotations

import sqlite3
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unmask.cli import options
from unmask.cli.progress import progress
from unmask.errors import ConfigError, OutputError
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
    finder: Annotated[
        str | None, typer.Option(help="yunet or dlib81; default: the detector's own.")
    ] = None,
    landmark_model: options.LandmarkModel = None,
    threshold: Annotated[
        str | None,
        typer.Option(help="Operating point of the detector by name, or a fixed P(fake)."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the scan that wrote this output.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
    recursive: Annotated[bool, typer.Option(help="Enter sub-folders.")] = True,
    min_face_px: Annotated[
        float, typer.Option(help="Faces smaller than this are listed, not scored.")
    ] = 32,
    max_faces: Annotated[int, typer.Option(help="Faces scored per picture, largest first.")] = 32,
    max_pixels: Annotated[int, typer.Option(help="Larger pictures are refused.")] = 100_000_000,
    max_bytes: Annotated[int, typer.Option(help="Larger files are refused.")] = 268_435_456,
    batch_size: options.BatchSize = 16,
    workers: options.Workers = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    revision: options.Revision = None,
    offline: options.Offline = False,
    allow_untrained: Annotated[
        bool,
        typer.Option("--allow-untrained", help="Score with an untrained head; stamped on results."),
    ] = False,
) -> None:
    """Score images: per face a probability, a verdict and the reasons.

    Example: unmask scan photos/ -o scores.csv -o report.html
    """
    from unmask.images import Limits
    from unmask.models.detector import load
    from unmask.pipeline import Options, Pipeline

    outputs = output or []
    _check_outputs(outputs, resume=resume, overwrite=overwrite)
    samples, total = _listed(inputs, recursive=recursive)
    loaded = load(
        detector,
        revision=revision,
        offline=offline,
        allow_untrained=allow_untrained,
        device=device,
        dtype=dtype,
    )
    pipeline = Pipeline(
        loaded,
        Options(
            faces=faces,
            face=options.face_spec(loaded, finder),
            landmark_model=landmark_model,
            limits=Limits(max_bytes=max_bytes, max_pixels=max_pixels),
            max_faces=max_faces,
            min_face_px=min_face_px,
            operating_point=options.operating_point(threshold),
            batch_size=batch_size,
            workers=workers,
        ),
    )
    show = table if table is not None else not outputs and not json_lines
    if overwrite:
        _remove(outputs)
    counts = _run(pipeline, samples, total, outputs, table=show, json_lines=json_lines)
    raise typer.Exit(_close(counts, outputs))


def _check_outputs(outputs: list[Path], *, resume: bool, overwrite: bool) -> None:
    """Nothing, if the outputs may be written: before any work, and before anything is removed."""
    from unmask.ledger import ledger_path
    from unmask.report import FORMATS, check_format, make_folder

    if resume and overwrite:
        raise ConfigError("--resume and --overwrite contradict each other; give one of them")
    if resume and not outputs:
        raise ConfigError("--resume needs the output of the scan to go on with: -o FILE")
    if len(set(outputs)) < len(outputs):
        raise ConfigError("an output is given twice; give each -o FILE once")
    for path in outputs:
        check_format(path)
        make_folder(path.parent)
        if path.is_dir():
            raise OutputError(f"{path} is a folder; give the name of a file in it")
        left = [each for each in (path, ledger_path(path)) if each.exists()]
        if left and not (resume or overwrite):
            raise OutputError(
                f"{left[0]} exists. Go on with it by --resume, replace it by --overwrite, or give "
                f"another output (formats: {', '.join(FORMATS)})."
            )
    if resume and outputs[0].exists() and not ledger_path(outputs[0]).exists():
        raise OutputError(
            f"{outputs[0]} has no ledger beside it ({ledger_path(outputs[0]).name}), so no scan "
            "can go on with it. Give the first output of that scan first, or --overwrite."
        )


def _remove(outputs: list[Path]) -> None:
    from unmask.ledger import ledger_files

    for path in outputs:
        for each in (path, *ledger_files(path)):
            each.unlink(missing_ok=True)


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


def _run(
    pipeline: Pipeline,
    samples: Iterable[Sample],
    total: int | None,
    outputs: list[Path],
    *,
    table: bool,
    json_lines: bool,
) -> Counter[str]:
    from unmask.ledger import Ledger, ledger_path
    from unmask.report import TABLE_HEADER, open_writer, table_row, to_json

    counts: Counter[str] = Counter()
    if json_lines and isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # as JSON is, whatever the terminal's is
    with ExitStack() as stack:
        ledger = None
        if outputs:
            ledger = Ledger(ledger_path(outputs[0]), pipeline.settings())
            stack.enter_context(ledger)
        writers = [stack.enter_context(closing(open_writer(path))) for path in outputs]
        advance = stack.enter_context(progress("scanning", total))
        if table:
            typer.echo(TABLE_HEADER)
        try:
            for result in _remembered(pipeline, samples, ledger):
                counts.update([result.status, *([result.verdict] if result.status == "ok" else [])])
                with _saving():
                    for writer in writers:
                        writer.write(result)
                if json_lines:
                    typer.echo(to_json(result))
                if table:
                    typer.echo(table_row(result))
                advance()
        except KeyboardInterrupt:
            counts["interrupted"] = 1
    return counts


def _remembered(
    pipeline: Pipeline, samples: Iterable[Sample], ledger: Ledger | None
) -> Iterator[Result]:
    """The pipeline's results, each in the ledger before anything else sees it."""
    underway: deque[Sample] = deque()

    def taken() -> Iterator[Sample]:
        for sample in samples:
            underway.append(sample)
            yield sample

    for result in pipeline(taken(), memory=ledger):
        sample = underway.popleft()
        if ledger is not None:
            with _saving():
                ledger.add(sample, result)
        yield result


@contextmanager
def _saving() -> Iterator[None]:
    """A full or vanished disk is an error that says how to go on, not a traceback."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise OutputError(
            f"the output can no longer be written ({error}). Make room or give another output; "
            "the same command with --resume goes on from what the ledger holds."
        ) from error


def _close(counts: Counter[str], outputs: list[Path]) -> int:
    """Print the sum on stderr; the exit code."""
    scored, real, fake = counts["ok"], counts["real"], counts["fake"]
    statuses = ("no_face", "low_quality", "unreadable", "unsupported")
    failed = {status: counts[status] for status in statuses if counts[status]}
    line = f"{scored} scored: {fake} fake, {real} real, {counts['inconclusive']} inconclusive"
    if failed:
        line += "; not scored: " + ", ".join(f"{n} {status}" for status, n in failed.items())
    sys.stderr.write(line + "\n")
    for path in outputs:
        sys.stderr.write(f"wrote {one_line(str(path))}\n")
    if counts["interrupted"]:
        again = "; the same command with --resume goes on" if outputs else ""
        sys.stderr.write(f"interrupted{again}\n")
        return 130
    return 1 if failed else 0
