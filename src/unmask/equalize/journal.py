"""What ``unmask equalize`` writes down while it works, so that it can go on: one line a copy.

The first line is the plan, each other one a row; JSON. A journal is believed only where it has
this form to the letter, since what it says decides which copies are not made again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

from unmask.errors import OutputError

__all__ = ["Format", "Plan", "Row", "plan_line", "read_journal", "write_down"]

Format = Literal["jpeg", "png"]
_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides each file that is written; a run is resumed only with the same plan."""

    source: str
    sides: tuple[int, int]
    qualities: tuple[int, int]
    format: Format
    seed: int


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one input. ``path`` is empty where it was left out; ``code`` says why."""

    source: str
    label: int | None
    path: str = ""
    """Relative to the destination."""
    source_sha256: str = ""
    sha256: str = ""
    """Of the copy."""
    width: int = 0
    """Of the source, in pixels; so ``height``."""
    height: int = 0
    side: int = 0
    quality: int | None = None
    """``None`` for PNG."""
    code: str = ""
    reason: str = ""

    @property
    def is_enlarged(self) -> bool:
        """Whether the source was smaller than its copy: then it is softer than the others."""
        return 0 < min(self.width, self.height) < self.side


def plan_line(plan: Plan) -> str:
    """The first line of a journal."""
    return json.dumps(asdict(plan))


def write_down(row: Row, journal: IO[str]) -> None:
    """The row at the end of the file, at once."""
    journal.write(json.dumps(asdict(row)) + "\n")
    journal.flush()


def read_journal(path: Path) -> tuple[Plan, list[Row]]:
    """The plan and the rows. A last line without an end was cut short and is left out.

    Raises:
        OutputError: something else stands in the file; says in which line.
        OSError: it cannot be read.
    """
    lines = path.read_bytes().split(b"\n")[:-1]
    if not lines:
        raise _wrong(path, 1, "the plan of the run is missing")
    plan = _record(lambda values: Plan(**values), _PLAN, lines[0], path, 1)
    rows = [
        _record(lambda values: Row(**values), _ROW, line, path, at)
        for at, line in enumerate(lines[1:], start=2)
    ]
    return plan, rows


def _record(
    made: Callable[[dict[str, Any]], _Record],
    checks: Mapping[str, Callable[[Any], bool]],
    line: bytes,
    path: Path,
    at: int,
) -> _Record:
    try:
        values = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _wrong(path, at, f"no JSON ({error})") from error
    if not isinstance(values, dict) or values.keys() != checks.keys():
        raise _wrong(path, at, f"an object with {', '.join(checks)} was expected")
    for name, check in checks.items():
        if not check(values[name]):
            raise _wrong(path, at, f"{name} is {_shown(values[name])}")
    return made({name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def _wrong(path: Path, line: int, why: str) -> OutputError:
    return OutputError(
        f"{path}, line {line}: {why}. The journal is damaged, or another version of equalize wrote "
        "it, so nothing in its folder can be resumed. Give another folder, or remove this one and "
        "begin anew."
    )


def _shown(value: object) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return repr(value)[:60]


def _is_text(value: object) -> bool:
    return type(value) is str


def _is_number(value: object) -> bool:
    return type(value) is int


def _is_size(value: object) -> bool:
    return type(value) is int and value > 0


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


_PLAN: Mapping[str, Callable[[Any], bool]] = {
    "source": _is_text,
    "sides": _is_pair,
    "qualities": _is_pair,
    "format": lambda value: value in ("jpeg", "png"),
    "seed": _is_number,
}

_ROW: Mapping[str, Callable[[Any], bool]] = {
    "source": _is_text,
    "label": lambda value: value is None or (_is_number(value) and value in (0, 1)),
    "path": lambda value: _is_text(value) and value != "",
    "source_sha256": _is_hash,
    "sha256": _is_hash,
    "width": _is_size,
    "height": _is_size,
    "side": _is_size,
    "quality": lambda value: value is None or _is_size(value),
    "code": lambda value: value == "",
    "reason": lambda value: value == "",
}
"""Of copies that were written: inputs that were left out are tried again."""
