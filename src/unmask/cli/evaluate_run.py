"""The work of ``unmask evaluate``: score or read scores, measure, write."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from unmask.cli import options
from unmask.cli.evaluate_altered import forget_altered, say_passes, with_altered
from unmask.cli.evaluate_outputs import (
    ALTERED,
    COMPARED,
    SCORES,
    check_folder,
    default_folder,
    forget,
    new_folder,
    write_reports,
)
from unmask.cli.outputs import locked, saving
from unmask.cli.progress import stage
from unmask.cli.streams import terminable
from unmask.errors import ConfigError, near_names
from unmask.files import one_line

if TYPE_CHECKING:
    from unmask.cli.evaluate_request import Loading, Run, Wanted
    from unmask.evaluate.evaluation import Evaluation
    from unmask.evaluate.table import Meta, Scores
    from unmask.labelled import Listing
    from unmask.pipeline import Options, Pipeline

__all__ = ["evaluated"]


@dataclass(frozen=True, slots=True)
class _Scored:
    """The scores that are measured."""

    first: Scores
    second: Scores | None = None
    pipeline: Pipeline | None = None
    """That of the first; None where its scores were read."""


def evaluated(
    run: Run, output: Path | None, *, overwrite: bool, thumbnails: bool
) -> tuple[Evaluation, Path]:
    """The evaluation, and the folder it was written to."""
    wanted = run.wanted
    beside = wanted.tables[0].parent if wanted.tables else None
    folder = output or beside or default_folder(wanted.first, run.reading.data)
    check_folder(folder, overwrite=overwrite, sources=wanted.files())
    if not wanted.tables:
        _options(run.loading)  # a number out of its range is an error before anything is made
    started = time.perf_counter()
    listing = _listing(run)
    timing = {"reading": time.perf_counter() - started}
    with new_folder(folder), locked([folder / SCORES]), terminable():
        check_folder(folder, overwrite=overwrite, sources=wanted.files())
        if overwrite:
            forget(folder)
            if listing.samples:  # scores of altered pictures that are read are kept
                forget_altered(folder / ALTERED)
        if run.cells and not wanted.tables:
            say_passes(run.cells, len(listing.samples), folder / ALTERED)
        try:
            tables = _tables(run, listing, folder, timing)
            started = time.perf_counter()
            evaluation = _measured(run, tables, thumbnails=thumbnails)
            timing["measuring"] = time.perf_counter() - started
            if run.cells:
                started = time.perf_counter()
                evaluation = with_altered(
                    run, listing, tables.first, tables.pipeline, evaluation, folder, timing
                )
                timing["altered"] = time.perf_counter() - started
        except KeyboardInterrupt:
            sys.stderr.write("interrupted; the same command goes on from what is scored\n")
            raise typer.Exit(130) from None
        evaluation = replace(evaluation, timing=timing)
        _write(folder, evaluation, tables, wanted)
    return evaluation, folder


def _listing(run: Run) -> Listing:
    """What is scored; a misspelt name in a gate, slice or join is an error by now."""
    from unmask.labelled import Listing, read_listing

    asked = run.reading
    if not asked.data:
        return Listing([], [], 0)
    listing = read_listing(
        asked.data,
        split=asked.split,
        root=asked.root,
        compression=asked.compression,
        frames=asked.frames,
        labels=asked.labels,
        video_folders=asked.video_folders,
    )
    from unmask.evaluate.slices import COLUMNS

    samples = [*listing.samples, *listing.without_frames]
    listed = {name for sample in samples for name, _ in sample.columns}
    _check_names(
        run,
        datasets={sample.dataset for sample in samples},
        generators={sample.generator for sample in samples if sample.label == 1},
        columns={*COLUMNS, *listed},
    )
    return listing


def _check_names(run: Run, *, datasets: set[str], generators: set[str], columns: set[str]) -> None:
    """Nothing, if all data sets, generators and columns that the options name are there.

    Raises:
        ConfigError: names the ones that are near.
    """
    from unmask.evaluate.gate import check_scopes

    joined = {name for join in run.choices.joins for name in join}
    for name in sorted(joined - datasets):
        raise ConfigError(f"no data set {name!r} to join. {near_names(name, datasets)}")
    for column in run.choices.columns:
        if column not in columns:
            raise ConfigError(f"no column {column!r} to slice by. {near_names(column, columns)}")
    rows = {*(datasets - joined), *("+".join(each) for each in run.choices.joins), *generators}
    check_scopes(run.gates, rows - {""}, columns)


def _tables(run: Run, listing: Listing, folder: Path, timing: dict[str, float]) -> _Scored:
    """The scores to measure and those to compare with."""
    from unmask.evaluate.slices import available

    wanted = run.wanted
    # Whatever is wrong with either detector or table is an error before the first picture.
    second = _read([wanted.second_table]) if wanted.second_table else None
    pipeline = None if wanted.tables else _loaded(run, wanted.first, timing)
    other = None
    if wanted.second is not None and second is None:
        other = _loaded(run, wanted.second, timing)
    if pipeline is None:
        first = _read(wanted.tables)
        _check_point(first.meta, run.loading.point)
        _check_names(
            run,
            datasets=set(first.dataset.tolist()),
            generators=set(first.generator[first.label == 1].tolist()),
            columns=set(available(first)),
        )
    else:
        first = _scored(run, pipeline, listing, folder / SCORES, timing)
    if second is not None:
        _check_point(second.meta, run.loading.point)
    if other is not None:
        second = _scored(run, other, listing, folder / COMPARED, timing)
    return _Scored(first, second, pipeline)


def _read(paths: Sequence[Path]) -> Scores:
    from unmask.evaluate.repeats import put_together
    from unmask.evaluate.table_file import read_scores

    return put_together([read_scores(path) for path in paths], [str(path) for path in paths])


def _check_point(meta: Meta, asked: str | float | None) -> None:
    """Nothing, if the table was judged at the operating point that is asked for."""
    point = meta.operating_point
    if isinstance(asked, str) and (point is None or point.name != asked):
        there = "several" if point is None else repr(point.name)
        raise ConfigError(
            f"the scores were judged at the operating point {there}, not {asked!r}, and hold no "
            "other; give --threshold, or score the data again"
        )


def _scored(
    run: Run, pipeline: Pipeline, listing: Listing, path: Path, timing: dict[str, float]
) -> Scores:
    """The samples' scores by one detector, as far as they are remembered not made again."""
    from unmask.evaluate.repeats import REPEATED
    from unmask.evaluate.scoring import score
    from unmask.evaluate.table_file import write_scores
    from unmask.ledger import Ledger, ledger_path

    started = time.perf_counter()
    ledger = Ledger(ledger_path(path), pipeline.settings())
    with ledger:
        with saving():
            ledger.record_outputs([path])
        before = len(ledger)
        with stage(_what(run, path), len(listing.samples)) as advance:
            scores = score(
                listing.samples,
                pipeline,
                ledger=ledger,
                command=run.command,
                seed=run.choices.seed,
                advance=advance,
                without_frames=listing.without_frames,
            )
    settings = {**pipeline.settings(), **_reading(run)}
    if listing.repeated:
        settings[REPEATED] = listing.repeated
    scores = replace(scores, meta=replace(scores.meta, settings=settings))
    write_scores(path, scores)
    spent = time.perf_counter() - started
    timing["scoring"] = timing.get("scoring", 0.0) + spent
    if before:
        timing["resumed_from"] = timing.get("resumed_from", 0) + before
    elif path.name == SCORES:
        timing["items_per_s"] = len(listing.samples) / spent
    return scores


def _what(run: Run, path: Path) -> str:
    """What is scored now, by whom where there are two."""
    if run.wanted.second is None:
        return "scoring"
    return (
        f"scoring by {one_line(run.wanted.second if path.name == COMPARED else run.wanted.first)}"
    )


def _reading(run: Run) -> dict[str, object]:
    """How the samples are read, as JSON holds it."""
    values = asdict(replace(run.reading, labels=dict(run.reading.labels)))
    return {
        "reading": {
            name: list(each) if isinstance(each, tuple) else each for name, each in values.items()
        }
    }


def _loaded(run: Run, detector: str, timing: dict[str, float]) -> Pipeline:
    started = time.perf_counter()
    pipeline = _pipeline(run.loading, detector)
    timing["loading"] = timing.get("loading", 0.0) + time.perf_counter() - started
    return pipeline


def _pipeline(loading: Loading, detector: str) -> Pipeline:
    from unmask.models.detector import load
    from unmask.pipeline import Pipeline

    if loading.faces == "none" and loading.finder is not None:
        raise ConfigError("--faces none looks for no face, so there is no --finder to choose")
    loaded = load(
        detector,
        revision=loading.revision,
        offline=loading.offline,
        allow_untrained=loading.allow_untrained,
        base=loading.base,
        fake_labels=loading.fake_labels,
        device=loading.device,
        dtype=loading.dtype,
    )
    return Pipeline(
        loaded, replace(_options(loading), face=options.face_spec(loaded, loading.finder))
    )


def _options(loading: Loading) -> Options:
    """Those of the pipeline, but for the crop, which depends on the detector.

    Raises:
        ConfigError: a number out of its range.
    """
    from unmask.pipeline import Options

    return Options(
        faces=loading.faces,
        landmark_model=loading.landmark_model,
        min_face_px=loading.min_face_px,
        operating_point=loading.point,
        batch_size=loading.batch_size,
        workers=loading.workers,
    )


def _measured(run: Run, tables: _Scored, *, thumbnails: bool) -> Evaluation:
    from unmask.evaluate.compare import compare
    from unmask.evaluate.gate import sliced
    from unmask.evaluate.summary import joined_datasets, summarise, threshold_of
    from unmask.evaluate.thumbnail import thumbnail

    first, second, fixed = tables.first, tables.second, run.loading.point
    names = {*first.dataset.tolist(), *first.generator.tolist()}
    names |= {"+".join(each) for each in run.choices.joins}
    choices = replace(
        run.choices,
        columns=(*run.choices.columns, *sliced(run.gates, names)),
        settings={
            **first.meta.settings,
            **({} if tables.pipeline else {"scored by": first.meta.command}),
            "missing": run.choices.missing,
            "joins": ["+".join(each) for each in run.choices.joins],
        },
    )
    evaluation = summarise(
        first,
        threshold_of(first.meta, fixed if isinstance(fixed, float) else None),
        choices,
        command=run.command,
        thumbnail=thumbnail if thumbnails else None,
    )
    if second is None:
        return evaluation
    number = fixed if isinstance(fixed, float) else None
    found, notes = compare(
        joined_datasets(first, choices.joins),
        joined_datasets(second, choices.joins),
        _names(first, second, run.wanted),
        thresholds=(evaluation.threshold, threshold_of(second.meta, number)),
        how=choices.how,
        k=choices.k,
        n=choices.bootstraps,
        seed=choices.seed,
    )
    return replace(evaluation, comparisons=found, notes=(*evaluation.notes, *notes))


def _names(first: Scores, second: Scores, wanted: Wanted) -> tuple[str, str]:
    """What to call the two: the detectors, or what was given where they have one name."""
    one, other = first.meta.detector, second.meta.detector
    return (one, other) if one != other else (wanted.first, wanted.second or other)


def _write(folder: Path, evaluation: Evaluation, tables: _Scored, wanted: Wanted) -> None:
    from unmask.evaluate.table_file import write_scores

    given = {path.resolve() for path in wanted.files()}
    for name, table in ((SCORES, tables.first), (COMPARED, tables.second)):
        path = folder / name
        if path.resolve() in given:
            continue
        if table is not None:
            write_scores(path, table)
        else:
            path.unlink(missing_ok=True)  # of an evaluation that is being replaced
    write_reports(folder, evaluation)
    forget(folder)
