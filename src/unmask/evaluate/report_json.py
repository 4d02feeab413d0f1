"""``report.json``: an evaluation, field by field, and back.

JSON has no NaN: a bound of an interval that does not exist, or a point of a band, is ``null``.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from unmask.errors import MissingSource, ScoresError
from unmask.evaluate.evaluation import SCHEMA, Evaluation
from unmask.files import one_line, valid_text

__all__ = ["read_json", "write_json"]

_AGAIN = "Make the report again from its scores, or use the version that wrote it."

_NUMBERS = frozenset({"value", "low", "high", "median_shift", "p95_shift", "flipped", "changed"})
"""Fields that hold a number or NaN, never None."""

_LISTED = re.compile(r"\[\n[^\[\]{}\"]*\]")
"""A list of numbers: no text and no further list or object is in it."""


def write_json(evaluation: Evaluation) -> str:
    """The document, with a line break at its end; names that are no utf-8 are spelt out."""
    fields = _plain(TypeAdapter(Evaluation).dump_python(evaluation, mode="json"))
    text = json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False)
    return _LISTED.sub(lambda found: " ".join(found.group().split()), text) + "\n"


def read_json(path: Path) -> Evaluation:
    """The evaluation that :func:`write_json` wrote.

    Raises:
        MissingSource: no such file.
        ScoresError: it cannot be read, is no report, or one of another schema.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingSource(f"{path}: no such file. Expected a report.json.") from error
    except (OSError, ValueError) as error:  # ValueError: not utf-8, or not JSON
        raise ScoresError(f"{path}: not a report that unmask wrote ({error}). {_AGAIN}") from error
    if not isinstance(fields, dict) or "schema" not in fields:
        raise ScoresError(f"{path}: JSON without a schema, which every report has. {_AGAIN}")
    if fields["schema"] != SCHEMA:
        raise ScoresError(
            f"{path}: a report of schema {fields['schema']!r}; this version reads {SCHEMA}. "
            f"{_AGAIN}"
        )
    try:
        return TypeAdapter(Evaluation).validate_python(
            {name: each if name == "settings" else _nan(each) for name, each in fields.items()}
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ScoresError(
            f"{path}: {one_line(place)} is not as a report has it ({first['msg']}). {_AGAIN}"
        ) from error


def _plain(value: Any) -> Any:  # noqa: ANN401 (whatever JSON holds)
    """``value`` with ``None`` for what JSON has no number for, and with texts that utf-8 holds."""
    if isinstance(value, dict):
        return {valid_text(str(name)): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return valid_text(value) if isinstance(value, str) else value


def _nan(value: Any) -> Any:  # noqa: ANN401 (whatever JSON holds)
    """``value`` with NaN where :func:`_plain` wrote ``None`` for it."""
    if isinstance(value, list):
        return [math.nan if each is None else _nan(each) for each in value]
    if isinstance(value, dict):
        return {
            name: math.nan if each is None and name in _NUMBERS else _nan(each)
            for name, each in value.items()
        }
    return value
