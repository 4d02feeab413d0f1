"""The scores of labelled data as columns.

One row for each scored medium, in the order in which the media were given; those that could not be
scored have a row too, with a status and without a score. Everything that is measured is computed
from this table, so a report can be made again without the model.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unmask.aggregate import strongest
from unmask.errors import ScoresError
from unmask.types import OperatingPoint, Result, Sample

__all__ = [
    "NO_FRAMES",
    "Meta",
    "Scores",
    "Texts",
    "by_dataset",
    "columns_of",
    "data_hash",
    "from_results",
    "joined",
    "rows_hash",
    "scored",
    "select",
    "texts",
    "with_columns",
    "with_unscored",
]

Texts = npt.NDArray[np.object_]
Numbers = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]
Column = npt.NDArray[Any]
"""Texts or numbers, ``(N,)``."""

NO_FRAMES = "no_frames"
"""Status of a video of which a list names no frame."""

_LISTED = "listed."
"""Before a manifest's column that has the name of one of ours."""


@dataclass(frozen=True, slots=True)
class Meta:
    """Where the scores come from."""

    detector: str = ""
    detector_sha256: str = ""
    trained: bool = True
    preprocessing: str = ""
    operating_point: OperatingPoint | None = None
    """The one that the detector judged by."""
    command: str = ""
    seed: int | None = None
    data_sha256: str = ""
    """:func:`data_hash` of all rows, also where a part was selected."""
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How the samples were read and scored, as JSON holds it; ``tables`` lists those of tables
    that differ."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Columns of equal length N; texts are arrays of Python strings, empty where not known."""

    source: Texts
    """What the item was called; the path of its file."""
    dataset: Texts
    generator: Texts
    group: Texts
    """Full identity of what is drawn as one when intervals are estimated."""
    video: Texts
    """Full identity of the video that a frame belongs to; empty for a picture by itself."""
    split: Texts
    label: Labels
    """0 real, 1 fake, -1 not known."""
    status: Texts
    p_fake: Numbers
    """0..1; nan where there is no score."""
    logit: Numbers
    reasons: Texts
    """Codes of the result's reasons, separated by ``;``."""
    messages: Texts
    """Their sentences, separated by `` | ``."""
    sha256: Texts
    """Of the file's bytes; empty where they could not be read."""
    elapsed_ms: Numbers
    extra: Mapping[str, Column] = field(default_factory=dict)
    """Further columns to slice by: ``face_px`` (shorter side of the box), ``sharpness``,
    ``face_confidence``, ``faces`` (how many), and those of the manifest as texts."""
    meta: Meta = field(default_factory=Meta)

    def __post_init__(self) -> None:
        """Refuse columns of different lengths, and further columns that have a name of ours."""
        for name, column in [*columns_of(self), *self.extra.items()]:
            if column.shape != (len(self.source),):
                raise ScoresError(
                    f"the column {name} has shape {column.shape}; expected ({len(self.source)},)"
                )
        taken = sorted(set(self.extra) & {name for name, _ in columns_of(self)})
        if taken:
            raise ScoresError(f"{taken[0]!r} is a column of every table; give yours another name")

    def __len__(self) -> int:
        """How many rows."""
        return len(self.source)


def columns_of(scores: Scores) -> list[tuple[str, Column]]:
    """The columns that every table has."""
    names = (each.name for each in dataclasses.fields(Scores))
    return [(name, getattr(scores, name)) for name in names if name not in {"extra", "meta"}]


def from_results(
    results: Iterable[Result],
    samples: Iterable[Sample],
    *,
    command: str = "",
    seed: int | None = None,
) -> Scores:
    """The table of one detector's results.

    Quality is that of the face whose score is the picture's (:func:`~unmask.aggregate.strongest`).

    Args:
        results: In the order of the samples, as :class:`~unmask.pipeline.Pipeline` gives them.
        samples: With data set, group and video as :func:`~unmask.labelled.read_labelled` sets them.
        command: What was called, for the record.
        seed: What randomness began with, for the record.

    Raises:
        ScoresError: no result; results and samples that do not belong together; results of
            several detectors or operating points.
    """
    listed, given = list(results), list(samples)
    if not listed or len(listed) != len(given):
        raise ScoresError(
            f"{len(listed)} results for {len(given)} samples; expected one for each, "
            "and one at least"
        )
    for result, sample in zip(listed, given, strict=True):
        if result.source != sample.source:
            raise ScoresError(
                f"the result of {result.source} stands where that of {sample.source} is expected"
            )
    scores = Scores(
        source=texts(sample.source for sample in given),
        dataset=texts(sample.dataset for sample in given),
        generator=texts(sample.generator for sample in given),
        group=texts(sample.group for sample in given),
        video=texts(sample.video for sample in given),
        split=texts(sample.split for sample in given),
        label=np.array([-1 if each.label is None else each.label for each in given], np.int8),
        status=texts(result.status for result in listed),
        p_fake=_numbers(result.p_fake for result in listed),
        logit=_numbers(result.logit for result in listed),
        reasons=texts(";".join(each.code for each in result.reasons) for result in listed),
        messages=texts(" | ".join(each.message for each in result.reasons) for result in listed),
        sha256=texts(result.sha256 or "" for result in listed),
        elapsed_ms=_numbers(result.elapsed_ms for result in listed),
        extra=_measured(listed),
        meta=_meta(listed, command, seed),
    )
    meta = replace(scores.meta, data_sha256=data_hash(scores))
    taken = {*scores.extra, *(name for name, _ in columns_of(scores))}
    return replace(with_columns(scores, _listed(given, taken)), meta=meta)


def texts(values: Iterable[str]) -> Texts:
    """A column of texts."""
    listed = list(values)
    column = np.empty(len(listed), object)
    column[:] = listed
    return column


def _numbers(values: Iterable[float | None]) -> Numbers:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _measured(results: Sequence[Result]) -> dict[str, Column]:
    tops = [strongest(result.faces) for result in results]
    qualities = [top.quality if top is not None else None for top in tops]
    return {
        "faces": _numbers(float(len(result.faces)) for result in results),
        "face_px": _numbers(each.size_px if each else None for each in qualities),
        "sharpness": _numbers(each.sharpness if each else None for each in qualities),
        "face_confidence": _numbers(each.confidence if each else None for each in qualities),
    }


def _meta(results: Sequence[Result], command: str, seed: int | None) -> Meta:
    first = results[0]
    for result in results:
        if (result.detector, result.operating_point) != (first.detector, first.operating_point):
            one, other = (
                f"{each.source} was scored by {each.detector.id} at {each.operating_point.name} "
                f"(fake from {each.operating_point.fake_at:.6g})"
                for each in (first, result)
            )
            raise ScoresError(f"{one}, {other}; expected one detector and one operating point")
    return Meta(
        detector=first.detector.id,
        detector_sha256=first.detector.sha256,
        trained=first.detector.trained,
        preprocessing=first.preprocessing,
        operating_point=first.operating_point,
        command=command,
        seed=seed,
        versions=dict(first.versions),
    )


def _listed(samples: Sequence[Sample], taken: set[str]) -> dict[str, Column]:
    """What manifests say beside what is known of every sample; empty where one says nothing."""
    columns: dict[str, Texts] = {}
    for row, sample in enumerate(samples):
        for name, value in sample.columns:
            if name not in columns:
                columns[name] = np.full(len(samples), "", object)
            columns[name][row] = value
    return {f"{_LISTED}{name}" if name in taken else name: each for name, each in columns.items()}


def select(scores: Scores, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Scores:
    """The rows of a mask, or of row numbers in their order.

    Raises:
        ScoresError: a mask of another length.
    """
    if rows.dtype == np.bool_ and rows.shape != (len(scores),):
        raise ScoresError(f"a mask of shape {rows.shape} for {len(scores)} rows")
    kept: dict[str, Any] = {name: column[rows] for name, column in columns_of(scores)}
    return replace(scores, **kept, extra={name: each[rows] for name, each in scores.extra.items()})


def by_dataset(scores: Scores) -> dict[str, Scores]:
    """Each data set's rows, data sets in the order of their first rows."""
    names = dict.fromkeys(scores.dataset.tolist())
    return {name: select(scores, scores.dataset == name) for name in names}


def scored(scores: Scores) -> npt.NDArray[np.bool_]:
    """``(N,)``: whether a row has a score."""
    return np.isfinite(scores.p_fake)


def with_columns(scores: Scores, columns: Mapping[str, Column]) -> Scores:
    """The table with further columns; one of the same name is replaced.

    Raises:
        ScoresError: a column of another length, or with the name of one of every table.
    """
    return replace(scores, extra={**scores.extra, **columns})


def with_unscored(
    scores: Scores, samples: Sequence[Sample], *, status: str, message: str
) -> Scores:
    """The table with a row for each of these samples, which nobody could score.

    Args:
        scores: Of the samples that could be read.
        samples: Such as videos of which a list names no frame.
        status: Why they have no score, in a word.
        message: The same in a sentence.
    """
    if not samples:
        return scores
    unknown = _numbers([None] * len(samples))
    rows = Scores(
        source=texts(sample.source for sample in samples),
        dataset=texts(sample.dataset for sample in samples),
        generator=texts(sample.generator for sample in samples),
        group=texts(sample.group for sample in samples),
        video=texts(sample.video for sample in samples),
        split=texts(sample.split for sample in samples),
        label=np.array([-1 if each.label is None else each.label for each in samples], np.int8),
        status=texts([status] * len(samples)),
        p_fake=unknown,
        logit=unknown,
        reasons=texts([status] * len(samples)),
        messages=texts([message] * len(samples)),
        sha256=texts([""] * len(samples)),
        elapsed_ms=np.zeros(len(samples)),
        meta=scores.meta,
    )
    apart = {name.removeprefix(_LISTED) for name in scores.extra if name.startswith(_LISTED)}
    taken = {*apart, *(name for name, _ in columns_of(scores))}
    return joined([scores, with_columns(rows, _listed(samples, taken))])


def joined(tables: Sequence[Scores]) -> Scores:
    """The rows of several tables of one detector, one after another.

    A further column that a table lacks is empty (texts) or nan (numbers) there. What was called
    and what randomness began with stay if they are the same everywhere.

    Raises:
        ScoresError: no table, different detectors, or a column of texts here and numbers there.
    """
    if not tables:
        raise ScoresError("no table to join; expected one at least")
    first = tables[0].meta
    for table in tables:
        if table.meta.detector_sha256 != first.detector_sha256:
            raise ScoresError(
                f"scores of {first.detector} and of {table.meta.detector}; expected one detector. "
                "Compare two by giving each its own table."
            )
    names = dict.fromkeys(name for table in tables for name in table.extra)
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(table, name) for table in tables])
        for name, _ in columns_of(tables[0])
    }
    whole = Scores(**columns, extra={name: _joined(tables, name) for name in names})
    commands = dict.fromkeys(table.meta.command for table in tables)
    seeds = {table.meta.seed for table in tables}
    points = {table.meta.operating_point for table in tables}
    meta = replace(
        first,
        command=" && ".join(commands),
        seed=first.seed if len(seeds) == 1 else None,
        operating_point=first.operating_point if len(points) == 1 else None,
        settings=_settings([table.meta.settings for table in tables]),
        data_sha256=data_hash(whole),
    )
    return replace(whole, meta=meta)


def _settings(parts: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    if all(each == parts[0] for each in parts):
        return parts[0]
    return {"tables": [dict(each) for each in parts]}


def _joined(tables: Sequence[Scores], name: str) -> Column:
    kinds = {table.extra[name].dtype.kind == "O" for table in tables if name in table.extra}
    if len(kinds) > 1:
        raise ScoresError(f"the column {name!r} holds texts in one table and numbers in another")
    missing = "" if True in kinds else np.nan
    kind = object if True in kinds else np.float64
    return np.concatenate(
        [table.extra.get(name, np.full(len(table), missing, kind)).astype(kind) for table in tables]
    )


def data_hash(scores: Scores) -> str:
    """SHA-256 of what was scored: content hashes with label and data set, in any order.

    Where the bytes could not be read, the item's name stands for them. Videos without frames are no
    part of it: there was nothing to score.
    """
    rows = zip(
        scores.sha256, scores.source, scores.label, scores.dataset, scores.status, strict=True
    )
    return rows_hash(
        (sha256, source, label, dataset)
        for sha256, source, label, dataset, status in rows
        if status != NO_FRAMES
    )


def rows_hash(rows: Iterable[tuple[str, str, int, str]]) -> str:
    """:func:`data_hash` of content hash, name, label (-1 unknown) and data set of each item."""
    lines = sorted(f"{sha or source}\t{label}\t{dataset}" for sha, source, label, dataset in rows)
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
