"""Lists of samples with what is known of them: CSV with a header, or JSON lines."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from unmask.errors import ManifestError, MissingSource, near_names
from unmask.files import replacing
from unmask.types import Label, Sample

__all__ = ["COLUMNS", "MANIFEST_SUFFIXES", "read_manifest", "write_manifest"]

COLUMNS = ("path", "label", "dataset", "generator", "group", "video", "split")
"""The columns that are read; ``path`` is required. Others may stand beside them."""

MANIFEST_SUFFIXES = frozenset({".csv", ".jsonl"})

_LABELS: Mapping[str, Label] = {"real": 0, "0": 0, "fake": 1, "1": 1, "": None}
_NAMES: Mapping[Label, str] = {0: "real", 1: "fake", None: ""}

_NEAR = 0.8
"""Likeness (``difflib`` ratio) from which an unknown column is taken for a misspelt one: ``lable``
has 0.8 to ``label``, ``video_id`` 0.77 to ``video``."""


def read_manifest(path: Path) -> Iterator[Sample]:
    """The samples of a manifest, row by row; relative paths start at the manifest's folder.

    Raises:
        MissingSource: No such file.
        ManifestError: A row or column that is not understood; names file and line.
    """
    kind = path.suffix.lower()
    if kind not in MANIFEST_SUFFIXES:
        raise ManifestError(
            f"{path}: suffix {path.suffix!r}. Expected a manifest named .csv or .jsonl; rename it."
        )
    with _opened(path) as file:
        rows = _csv_rows(file, path) if kind == ".csv" else _json_rows(file, path)
        for line, row in rows:
            yield _sample(row, path, line)


def write_manifest(samples: Iterable[Sample], path: Path) -> None:
    """Writes a manifest that :func:`read_manifest` gives back, CSV or JSON lines by the suffix.

    Paths below the manifest's folder are written relative to it, others absolute. The file
    appears whole or not at all.

    Raises:
        ManifestError: Another suffix, or a path that CSV (UTF-8) cannot hold.
    """
    kind = path.suffix.lower()
    if kind not in MANIFEST_SUFFIXES:
        raise ManifestError(f"{path}: suffix {path.suffix!r}. Expected .csv or .jsonl.")
    rows = (_row(sample, path.parent) for sample in samples)
    try:
        with replacing(path) as file:
            if kind == ".csv":
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            else:
                file.writelines(json.dumps(row) + "\n" for row in rows)
    except UnicodeEncodeError as error:
        raise ManifestError(
            f"{path}: the path {error.object!r} is not Unicode text, which CSV needs. "
            "Write the manifest as .jsonl."
        ) from error


def _row(sample: Sample, folder: Path) -> dict[str, str]:
    base, absolute = folder.absolute(), sample.path.absolute()
    inside = absolute.is_relative_to(base)
    return {
        "path": absolute.relative_to(base).as_posix() if inside else str(absolute),
        "label": _NAMES[sample.label],
        "dataset": sample.dataset,
        "generator": sample.generator,
        "group": sample.group,
        "video": sample.video,
        "split": sample.split,
    }


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except FileNotFoundError as error:
        raise MissingSource(f"{path}: no such manifest. Expected a .csv or .jsonl file.") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error}. Expected a text file.") from error
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path}: not UTF-8 text (byte {error.object[error.start]:#04x}: {error.reason}). "
            "Save the manifest as UTF-8."
        ) from error


def _csv_rows(file: IO[str], path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    reader = csv.reader(file, strict=True)
    header: list[str] | None = None
    try:
        for fields in reader:
            if not fields:  # an empty line
                continue
            if header is None:
                header = [field.strip() for field in fields]
                _check_columns(header, path, reader.line_num)
            elif len(fields) != len(header):
                raise ManifestError(
                    f"{path}, line {reader.line_num}: {len(fields)} fields. Expected "
                    f"{len(header)} as in the header; quote fields that contain commas."
                )
            else:
                yield reader.line_num, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise ManifestError(
            f"{path}, line {reader.line_num}: not CSV: {error}. Check the quotes."
        ) from error
    if header is None:
        raise ManifestError(
            f"{path}: the file is empty. Expected a header with at least the column 'path'."
        )


def _json_rows(file: IO[str], path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    checked: set[tuple[str, ...]] = set()
    line = 0
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            pairs = json.loads(text, object_pairs_hook=lambda pairs: _Pairs(pairs))
        except (ValueError, RecursionError) as error:
            raise ManifestError(
                f"{path}, line {line}: not JSON: {error}. Expected one object per line."
            ) from error
        if not isinstance(pairs, _Pairs):
            raise ManifestError(
                f"{path}, line {line}: {text.strip()[:40]}. Expected an object like "
                '{"path": "a.jpg", "label": "real"}.'
            )
        columns = tuple(key for key, _ in pairs)
        if columns not in checked:
            _check_columns(columns, path, line)
            checked = {*checked, columns} if len(checked) < 100 else {columns}
        yield line, dict(pairs)
    if line == 0:
        raise ManifestError(f"{path}: the file is empty. Expected one JSON object per line.")


class _Pairs(list[tuple[str, object]]):
    """The members of a JSON object in order, repeated keys included."""


def _check_columns(columns: Sequence[str], path: Path, line: int) -> None:
    where = f"{path}, line {line}"
    for column in columns:
        if columns.count(column) > 1:
            raise ManifestError(f"{where}: column {column!r} twice. Keep one of them.")
        missing = [name for name in COLUMNS if name not in columns]
        near = difflib.get_close_matches(column.strip().lower(), missing, n=1, cutoff=_NEAR)
        if column not in COLUMNS and near:
            raise ManifestError(
                f"{where}: unknown column {column!r}. {near_names(column.lower(), near)} "
                "Rename it, or drop it if it means something else."
            )
    if "path" not in columns:
        raise ManifestError(
            f"{where}: no column 'path' among {', '.join(map(repr, columns)) or 'none'}. "
            f"Expected {', '.join(COLUMNS)}, separated by commas in CSV; only 'path' is required."
        )


def _sample(row: Mapping[str, object], manifest: Path, line: int) -> Sample:
    values = {name: _text(row.get(name), name, manifest, line) for name in COLUMNS}
    if not values["path"]:
        raise ManifestError(f"{manifest}, line {line}: the path is empty. Expected a file name.")
    media = manifest.parent / values["path"]
    label = values["label"].strip().lower()
    if label not in _LABELS:
        raise ManifestError(
            f"{manifest}, line {line}: label {values['label']!r}. "
            "Expected real or 0, fake or 1, or nothing where it is unknown."
        )
    return Sample(
        source=str(media),
        path=media,
        label=_LABELS[label],
        dataset=values["dataset"],
        generator=values["generator"],
        group=values["group"],
        video=values["video"],
        split=values["split"],
    )


def _text(value: object, column: str, path: Path, line: int) -> str:
    """A cell as text: JSON may have numbers (identities, labels) and null."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and column != "path":
        return str(value)
    raise ManifestError(
        f"{path}, line {line}: {column} is {json.dumps(value)[:40]}. Expected text."
    )
