"""The file that keeps a table of scores: Parquet, with its origin in the file's metadata."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from unmask.errors import MissingSource, OutputError, ScoresError
from unmask.evaluate.table import Column, Meta, Scores, columns_of, texts
from unmask.files import valid_text
from unmask.types import OperatingPoint

__all__ = ["SCORES_SCHEMA", "is_scores", "read_scores", "write_scores"]

SCORES_SCHEMA = 1
"""Version of the file. A reader refuses versions that it does not know."""

_KEY = b"unmask.scores"

_TEXTS = (
    "source", "dataset", "generator", "group", "video", "split", "status", "reasons", "messages",
    "sha256",
)  # fmt: skip
_NUMBERS = ("p_fake", "logit", "elapsed_ms")


def write_scores(path: Path, scores: Scores) -> None:
    """Write the table as Parquet, whole or not at all; names that are no utf-8 are spelt out.

    Raises:
        OutputError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        name: _arrow(column) for name, column in [*columns_of(scores), *scores.extra.items()]
    }
    meta = {"schema": SCORES_SCHEMA, **dataclasses.asdict(scores.meta)}
    table = pa.table(columns).replace_schema_metadata({_KEY: json.dumps(meta)})
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            pq.write_table(table, part, compression="zstd")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def _arrow(column: Column) -> object:
    import pyarrow as pa

    if column.dtype.kind != "O":
        return pa.array(column)
    texts = column.tolist()
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:
        return pa.array([valid_text(text) for text in texts], pa.string())


def is_scores(path: Path) -> bool:
    """Whether a file is a table that :func:`write_scores` wrote, of whatever version."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix.lower() != ".parquet" or not path.is_file():
        return False
    try:
        return _KEY in (pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError):
        return False


def read_scores(path: Path) -> Scores:
    """The table that :func:`write_scores` wrote.

    Raises:
        MissingSource: no such file.
        ScoresError: not such a table, one of another version, or a damaged one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise MissingSource(f"{path}: no such file. Expected a table of scores (.parquet).")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ScoresError(
            f"{path}: not a Parquet file: {error}. Expected a table of scores that unmask wrote."
        ) from error
    found = (table.schema.metadata or {}).get(_KEY)
    if found is None:
        raise ScoresError(
            f"{path}: a Parquet file, but not a table of scores that unmask wrote. A manifest is "
            "given as data, not as scores."
        )
    meta = json.loads(found)
    if meta.pop("schema", None) != SCORES_SCHEMA:
        raise ScoresError(
            f"{path}: another version of the table of scores; this one reads {SCORES_SCHEMA}. "
            "Score the data again, or use the version that wrote it."
        )
    columns = {name: _column(table.column(name)) for name in table.column_names}
    return _scores(columns, _read_meta(meta, path), path)


def _scores(columns: dict[str, Column], meta: Meta, path: Path) -> Scores:
    kinds = {**dict.fromkeys(_TEXTS, "O"), **dict.fromkeys(_NUMBERS, "f"), "label": "i"}
    for name, kind in kinds.items():
        if name not in columns or columns[name].dtype.kind != kind:
            raise ScoresError(
                f"{path}: the column {name!r} is missing or not of its type. The file was changed; "
                "score the data again."
            )
    own: dict[str, Any] = {name: columns.pop(name) for name in kinds}
    return Scores(**own, extra=columns, meta=meta)


def _column(column: Any) -> Column:  # noqa: ANN401 (a pyarrow column; it has no types)
    from pyarrow import types

    if types.is_string(column.type):
        return texts(column.to_pylist())
    found: Column = column.to_numpy()
    return found


def _read_meta(values: dict[str, Any], path: Path) -> Meta:
    point = values.pop("operating_point", None)
    try:
        return Meta(**values, operating_point=OperatingPoint(**point) if point else None)
    except TypeError as error:
        raise ScoresError(
            f"{path}: what the table says of its detector is not understood ({error}). Score the "
            "data again, or use the version that wrote it."
        ) from error
