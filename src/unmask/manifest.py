"""Lists of samples with what is known of them: CSV with a header, JSON lines, Parquet."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from unmask.errors import ManifestError, MissingSource, near_names
from unmask.files import replacing
from unmask.labels import NO_NAMES
from unmask.types import Label, Sample

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "COLUMNS",
    "MANIFEST_SUFFIXES",
    "Row",
    "read_manifest",
    "read_rows",
    "sample_of",
    "write_manifest",
]

COLUMNS = ("path", "label", "dataset", "generator", "group", "video", "split")
"""The columns that mean something; ``path`` is required. Others are kept as they are."""

MANIFEST_SUFFIXES = frozenset({".csv", ".jsonl", ".parquet"})

Row = tuple[str, Mapping[str, object]]
"""Where it stands (``line 3``) and its cells by column."""

_WRITTEN = (".csv", ".jsonl")
_FILES = ("path", "file_name")

_LABELS: Mapping[str, Label] = {"real": 0, "0": 0, "fake": 1, "1": 1, "": None}
_NAMES: Mapping[Label, str] = {0: "real", 1: "fake", None: ""}

_NEAR = 0.8
"""Likeness (``difflib`` ratio) from which an unknown column is taken for a misspelt one: ``lable``
has 0.8 to ``label``, ``video_id`` 0.77 to ``video``."""


def read_manifest(path: Path, *, labels: Mapping[str, int] = NO_NAMES) -> Iterator[Sample]:
    """The samples of a manifest, row by row; relative paths start at the manifest's folder.

    Args:
        path: A ``.csv``, ``.jsonl`` or ``.parquet`` file.
        labels: What values of the column ``label`` mean, beside real, fake, 0 and 1.

    Raises:
        MissingSource: No such file.
        ManifestError: A row or column that is not understood; names file and line.
    """
    for where, row in read_rows(path):
        yield sample_of(row, path, where, labels=labels)


def read_rows(path: Path, *, key: str = "path") -> Iterator[Row]:
    """The rows of a table, with what stands for a misspelt column refused.

    Args:
        path: As :func:`read_manifest` takes it.
        key: The column that names the file.

    Raises:
        MissingSource: No such file.
        ManifestError: Not such a table, or a column that is not understood.
    """
    kind = path.suffix.lower()
    if kind not in MANIFEST_SUFFIXES:
        raise ManifestError(
            f"{path}: suffix {path.suffix!r}. Expected a manifest named .csv, .jsonl or .parquet; "
            "rename it."
        )
    if kind == ".parquet":
        yield from _parquet_rows(path, key)
        return
    with _opened(path) as file:
        yield from _csv_rows(file, path, key) if kind == ".csv" else _json_rows(file, path, key)


def write_manifest(samples: Iterable[Sample], path: Path) -> None:
    """Writes a manifest that :func:`read_manifest` gives back, CSV or JSON lines by the suffix.

    Paths below the manifest's folder are written relative to it, others absolute. The file
    appears whole or not at all.

    Raises:
        ManifestError: Another suffix, or a path that CSV (UTF-8) cannot hold.
    """
    kind = path.suffix.lower()
    if kind not in _WRITTEN:
        raise ManifestError(f"{path}: suffix {path.suffix!r}. Expected .csv or .jsonl.")
    rows = (_row(sample, path.parent) for sample in samples)
    try:
        with replacing(path) as file:
            if kind == ".csv":
                listed = list(rows)
                header = dict.fromkeys([*COLUMNS, *(name for row in listed for name in row)])
                writer = csv.DictWriter(file, list(header), lineterminator="\n")
                writer.writeheader()
                writer.writerows(listed)
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
        **dict(sample.columns),
    }


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except FileNotFoundError as error:
        raise MissingSource(f"{path}: no such manifest. Expected a table.") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error}. Expected a text file.") from error
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path}: not UTF-8 text (byte {error.object[error.start]:#04x}: {error.reason}). "
            "Save the manifest as UTF-8."
        ) from error


def _csv_rows(file: IO[str], path: Path, key: str) -> Iterator[Row]:
    reader = csv.reader(file, strict=True)
    header: list[str] | None = None
    try:
        for fields in reader:
            if not fields:  # an empty line
                continue
            if header is None:
                header = [field.strip() for field in fields]
                _check_columns(header, path, f"line {reader.line_num}", key)
            elif len(fields) != len(header):
                raise ManifestError(
                    f"{path}, line {reader.line_num}: {len(fields)} fields. Expected "
                    f"{len(header)} as in the header; quote fields that contain commas."
                )
            else:
                yield f"line {reader.line_num}", dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise ManifestError(
            f"{path}, line {reader.line_num}: not CSV: {error}. Check the quotes."
        ) from error
    if header is None:
        raise ManifestError(
            f"{path}: the file is empty. Expected a header with at least the column {key!r}."
        )


def _json_rows(file: IO[str], path: Path, key: str) -> Iterator[Row]:
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
            _check_columns(columns, path, f"line {line}", key)
            checked = {*checked, columns} if len(checked) < 100 else {columns}
        yield f"line {line}", dict(pairs)
    if line == 0:
        raise ManifestError(f"{path}: the file is empty. Expected one JSON object per line.")


class _Pairs(list[tuple[str, object]]):
    """The members of a JSON object in order, repeated keys included."""


def _parquet_rows(path: Path, key: str) -> Iterator[Row]:
    """Rows of a Parquet file; bytes and nested values of other columns stay unread."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise MissingSource(f"{path}: no such manifest. Expected a table.")
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            _check_columns(schema.names, path, "schema", key)
            wanted = [field.name for field in schema if field.name in COLUMNS or _is_plain(field)]
            batches = file.iter_batches(columns=list(dict.fromkeys([key, *wanted])))
            rows = (cells for batch in batches for cells in batch.to_pylist())
            for number, cells in enumerate(rows, start=1):
                yield f"row {number}", cells
    except (pa.ArrowException, OSError) as error:
        raise ManifestError(
            f"{path}: not a Parquet table: {error}. Expected one with the column {key!r}."
        ) from error


def _is_plain(field: pa.Field) -> bool:
    from pyarrow import types

    if types.is_dictionary(field.type):
        return bool(types.is_string(field.type.value_type))
    return not (
        types.is_nested(field.type)
        or types.is_binary(field.type)
        or types.is_large_binary(field.type)
        or types.is_fixed_size_binary(field.type)
    )


def _check_columns(columns: Sequence[str], path: Path, at: str, key: str) -> None:
    where = f"{path}, {at}"
    expected = (key, *COLUMNS[1:])
    for column in columns:
        if columns.count(column) > 1:
            raise ManifestError(f"{where}: column {column!r} twice. Keep one of them.")
        missing = [name for name in expected if name not in columns]
        near = difflib.get_close_matches(column.strip().lower(), missing, n=1, cutoff=_NEAR)
        if column not in expected and near:
            raise ManifestError(
                f"{where}: unknown column {column!r}. {near_names(column.lower(), near)} "
                "Rename it, or drop it if it means something else."
            )
    if key not in columns:
        hint = ""
        if key != COLUMNS[0]:
            hint = " Rename the table if it is about something else."
        elif "file_name" in columns:
            hint = " For a Hugging Face imagefolder, give its folder."
        raise ManifestError(
            f"{where}: no column {key!r} among {', '.join(map(repr, columns)) or 'none'}. Expected "
            f"{', '.join(expected)}, separated by commas in CSV; only {key!r} is required.{hint}"
        )


def sample_of(
    row: Mapping[str, object],
    table: Path,
    where: str,
    *,
    key: str = "path",
    labels: Mapping[str, int] = NO_NAMES,
) -> Sample:
    """The sample that a row describes.

    Args:
        row: Cells by column.
        table: The file the row stands in; relative paths start at its folder.
        where: Where in it, for messages.
        key: The column that names the file.
        labels: What values of the column ``label`` mean, beside real, fake, 0 and 1.

    Raises:
        ManifestError: A cell that is not understood.
    """
    at = f"{table}, {where}"
    name = _text(row.get(key), key, at)
    values = {column: _text(row.get(column), column, at) for column in COLUMNS[1:]}
    if not name:
        raise ManifestError(f"{at}: the {key} is empty. Expected a file name.")
    media = table.parent / name
    return Sample(
        source=str(media),
        path=media,
        label=_label(values["label"].strip(), at, labels),
        dataset=values["dataset"],
        generator=values["generator"],
        group=values["group"],
        video=values["video"],
        split=values["split"],
        columns=tuple(
            (column, text)
            for column, value in row.items()
            if column != key and column not in COLUMNS and (text := _any_text(value))
        ),
    )


def _label(text: str, at: str, labels: Mapping[str, int]) -> Label:
    if text in labels:
        return labels[text]
    if text.lower() in _LABELS:
        return _LABELS[text.lower()]
    raise ManifestError(
        f"{at}: label {text!r}. Expected real or 0, fake or 1, or nothing where it is unknown."
    )


def _text(value: object, column: str, at: str) -> str:
    """A cell as text: JSON and Parquet may have numbers (identities, labels) and null."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():  # integers with gaps, as pandas has them
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and column not in _FILES:
        return str(value)
    raise ManifestError(f"{at}: {column} is {_any_text(value)[:40]}. Expected text.")


def _any_text(value: object) -> str:
    """A cell of a column that means nothing here; empty for null."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, default=str)
