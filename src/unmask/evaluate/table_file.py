"""The file that keeps a table of scores: Parquet, with its origin in the file's metadata."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from unmask.errors import MissingSource, OutputError, ScoresError
from unmask.evaluate.table import Column, Meta, Scores, columns_of, texts
from unmask.files import one_line, valid_text
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
_KINDS = {"O": "texts", "f": "floats", "i": "integers"}

_AGAIN = "The file was changed, or cut short; score the data again."
_NOT_UNDERSTOOD = "what the table says of its detector is not understood"


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
    meta = _spelt_out({"schema": SCORES_SCHEMA, **dataclasses.asdict(scores.meta)})
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


def _spelt_out(value: Any) -> Any:  # noqa: ANN401 (whatever JSON holds)
    """``value`` with all of its texts as utf-8 holds them."""
    if isinstance(value, Mapping):
        return {valid_text(str(name)): _spelt_out(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_spelt_out(each) for each in value]
    return valid_text(value) if isinstance(value, str) else value


def is_scores(path: Path) -> bool:
    """Whether a file is a table that :func:`write_scores` wrote, of whatever version."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix.lower() != ".parquet" or not path.is_file():
        return False
    try:
        return _KEY in (pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError, ValueError):
        return False


def read_scores(path: Path) -> Scores:
    """The table that :func:`write_scores` wrote.

    Every field is checked: a file may have been changed, or cut short.

    Raises:
        MissingSource: no such file.
        ScoresError: not such a table, one of another version, or a damaged one.
    """
    import pyarrow as pa

    if not path.exists():
        raise MissingSource(f"{path}: no such file. Expected a table of scores (.parquet).")
    if not path.is_file():
        raise ScoresError(
            f"{path}: not a file. Expected a table of scores, such as {path / 'scores.parquet'}."
        )
    try:
        names, columns, found = _read(path)
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: no utf-8
        raise ScoresError(
            f"{path}: not a Parquet file: {one_line(str(error))[:200]}. Expected a table of scores "
            "that unmask wrote, whole."
        ) from error
    if found is None:
        raise ScoresError(
            f"{path}: a Parquet file, but not a table of scores that unmask wrote. A manifest is "
            "given as data, not as scores."
        )
    meta = _read_meta(found, path)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ScoresError(f"{path}: two columns are called {one_line(twice[0])!r}. {_AGAIN}")
    return _scores(dict(zip(names, columns, strict=True)), meta, path)


def _read(path: Path) -> tuple[list[str], list[Column | str], bytes | None]:
    """The names of the columns, the columns, and what the file says of its origin.

    A column that holds neither texts nor numbers is what it holds, in words.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:  # this file alone: names of folders are no columns
        table = file.read()
    columns = [_column(each) for each in table.columns]
    return list(table.column_names), columns, (table.schema.metadata or {}).get(_KEY)


def _column(column: Any) -> Column | str:  # noqa: ANN401 (a pyarrow column; it has no types)
    from pyarrow import types

    kind = column.type
    if types.is_string(kind) or types.is_large_string(kind):
        return "empty cells" if column.null_count else texts(column.to_pylist())
    if types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind):
        found: Column = column.to_numpy()
        return found
    return f"{str(kind)[:40]}"


def _scores(columns: Mapping[str, Column | str], meta: Meta, path: Path) -> Scores:
    kinds = {**dict.fromkeys(_TEXTS, "O"), **dict.fromkeys(_NUMBERS, "f"), "label": "i"}
    for name, kind in kinds.items():
        column = columns.get(name, "nothing")
        if isinstance(column, str) or column.dtype.kind != kind:
            held = column if isinstance(column, str) else f"{column.dtype.name}s"
            raise ScoresError(
                f"{path}: the column {name!r} is missing or not of its type: it holds {held}, and "
                f"{_KINDS[kind]} were expected. {_AGAIN}"
            )
    sound: dict[str, Any] = {}
    for name, column in columns.items():
        if isinstance(column, str):
            raise ScoresError(
                f"{path}: the column {one_line(name)!r} holds {column}; texts or numbers were "
                "expected, one in each row. Leave the column out."
            )
        sound[name] = column.astype(np.float64) if column.dtype == np.float32 else column
    own = {name: sound.pop(name) for name in kinds}
    _check_values(own["label"], own["p_fake"], path)
    _check_statuses(own["status"], own["p_fake"], path)
    own["label"] = own["label"].astype(np.int8)
    return Scores(**own, extra=sound, meta=meta)


def _check_values(label: Column, p_fake: Column, path: Path) -> None:
    if not len(label):
        raise ScoresError(f"{path}: the table holds no row. Expected one for each scored item.")
    for name, column, wrong, expected in (
        ("label", label, ~np.isin(label, (-1, 0, 1)), "0 (real), 1 (fake) or -1 (not known)"),
        ("p_fake", p_fake, (p_fake < 0) | (p_fake > 1), "0 to 1, or NaN without a score"),
    ):
        rows = np.flatnonzero(wrong)
        if len(rows):
            raise ScoresError(
                f"{path}, row {rows[0] + 1}: {name} is {column[rows[0]]}; expected {expected}. "
                f"{_AGAIN}"
            )


def _check_statuses(status: Column, p_fake: Column, path: Path) -> None:
    """Nothing, if the rows with the status ``ok`` are those with a score."""
    rows = np.flatnonzero((status == "ok") != ~np.isnan(p_fake))
    if len(rows):
        row = rows[0]
        raise ScoresError(
            f"{path}, row {row + 1}: the status is {one_line(status[row])!r} and p_fake "
            f"{p_fake[row]}; expected a p_fake where the status is 'ok', and nowhere else. {_AGAIN}"
        )


def _read_meta(found: bytes, path: Path) -> Meta:
    """What the file says of its origin, each field of its type and in its range."""
    try:
        values = json.loads(found)
    except (ValueError, RecursionError) as error:
        raise ScoresError(f"{path}: {_NOT_UNDERSTOOD} ({error}). {_AGAIN}") from error
    version = values.pop("schema", None) if isinstance(values, dict) else None
    if not isinstance(values, dict) or version is None:
        raise ScoresError(f"{path}: {_NOT_UNDERSTOOD} (no version). {_AGAIN}")
    if version != SCORES_SCHEMA:
        raise ScoresError(
            f"{path}: another version of the table of scores; this one reads {SCORES_SCHEMA}. "
            "Score the data again, or use the version that wrote it."
        )
    unknown = set(values) - {each.name for each in dataclasses.fields(Meta)}
    if unknown:
        name = one_line(min(unknown))
        raise ScoresError(f"{path}: {_NOT_UNDERSTOOD} (unknown: {name!r}). {_AGAIN}")
    try:
        # As JSON, in which an object stands for a dataclass even where types are strict.
        meta = TypeAdapter(Meta).validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = one_line(".".join(str(part) for part in first["loc"]))
        raise ScoresError(
            f"{path}: {_NOT_UNDERSTOOD} ({place}: {first['msg']}). {_AGAIN}"
        ) from error
    if meta.operating_point is not None:
        _check_point(meta.operating_point, path)
    return meta


def _check_point(point: OperatingPoint, path: Path) -> None:
    if not 0 <= point.real_below <= point.fake_at <= 1:
        raise ScoresError(
            f"{path}: the operating point {one_line(point.name)!r} has real_below "
            f"{point.real_below} and fake_at {point.fake_at}; expected 0 <= real_below <= fake_at "
            f"<= 1. {_AGAIN}"
        )
