"""Results to files and to the terminal. One class per format; a suffix chooses it.

``docs/result.md`` documents the fields. The text format of the original scripts stands in
``reference_text``, the page with pictures in ``report_html``.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import IO, Protocol

from pydantic import TypeAdapter

from unmask.errors import OutputError, near_names
from unmask.files import one_line, replacing, valid_text
from unmask.reference_text import write_reference_text
from unmask.report_html import write_html
from unmask.types import Reason, Result

__all__ = [
    "FORMATS",
    "TABLE_HEADER",
    "CsvWriter",
    "HtmlWriter",
    "JsonWriter",
    "JsonlWriter",
    "TextWriter",
    "Writer",
    "check_format",
    "from_json",
    "make_folder",
    "open_writer",
    "summary",
    "table_row",
    "to_json",
]

CSV_COLUMNS = (
    "source",
    "status",
    "verdict",
    "p_fake",
    "logit",
    "label",
    "faces",
    "reasons",
    "kind",
    "sha256",
    "detector",
    "detector_sha256",
    "operating_point",
    "elapsed_ms",
)
LABEL_NAMES = {0: "real", 1: "fake", None: ""}
TABLE_HEADER = f"{'verdict':12}  {'P(fake)':>7}  {'faces':>5}  {'status':11}  source"


@cache
def _adapter() -> TypeAdapter[Result]:
    return TypeAdapter(Result)


def to_json(result: Result) -> str:
    """One result as one line of JSON; bytes of names that are no utf-8 are spelt out."""
    valid = replace(
        result,
        source=valid_text(result.source),
        reasons=tuple(Reason(each.code, valid_text(each.message)) for each in result.reasons),
        detector=replace(result.detector, id=valid_text(result.detector.id)),
    )
    return _adapter().dump_json(valid).decode()


def from_json(line: str) -> Result:
    """The result that :func:`to_json` wrote."""
    return _adapter().validate_json(line)


class Writer(Protocol):
    """Takes results as they come; the file is whole after ``close``."""

    def write(self, result: Result) -> None:
        """Take one result."""

    def close(self) -> None:
        """Finish the file."""


class JsonlWriter:
    """One JSON document per line, on disk after each result."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def write(self, result: Result) -> None:
        """Append one line."""
        self._file.write(to_json(result) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class CsvWriter:
    """One row per result, on disk after each result; faces and reasons in short."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file)
        self._rows.writerow(CSV_COLUMNS)

    def write(self, result: Result) -> None:
        """Append one row."""
        self._rows.writerow(
            (
                valid_text(result.source),
                result.status,
                result.verdict,
                "" if result.p_fake is None else f"{result.p_fake:.6f}",
                "" if result.logit is None else f"{result.logit:.6f}",
                LABEL_NAMES[result.label],
                len(result.faces),
                ";".join(reason.code for reason in result.reasons),
                result.kind,
                result.sha256 or "",
                valid_text(result.detector.id),
                result.detector.sha256,
                result.operating_point.name,
                result.elapsed_ms,
            )
        )
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Collecting:
    """A format that needs all results before its first line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: list[Result] = []

    def write(self, result: Result) -> None:
        """Keep the result until ``close``."""
        self.results.append(result)


class JsonWriter(_Collecting):
    """One document: a summary and all results."""

    def close(self) -> None:
        """Write the file, whole or not at all."""
        with replacing(self.path) as file:
            file.write('{"schema_version": 1, "summary": ')
            file.write(json.dumps(summary(self.results)))
            file.write(', "results": [\n')
            file.write(",\n".join(map(to_json, self.results)))
            file.write("\n]}\n")


class TextWriter(_Collecting):
    """The text file of the original scripts."""

    def close(self) -> None:
        """Write the file, whole or not at all."""
        write_reference_text(self.path, self.results, title="Deepfake Detection Results")


class HtmlWriter(_Collecting):
    """One self-contained page with pictures, for people."""

    def close(self) -> None:
        """Write the file, whole or not at all."""
        write_html(self.path, self.results)


FORMATS: dict[str, type[JsonlWriter | CsvWriter | JsonWriter | TextWriter | HtmlWriter]] = {
    ".jsonl": JsonlWriter,
    ".json": JsonWriter,
    ".csv": CsvWriter,
    ".txt": TextWriter,
    ".html": HtmlWriter,
}


def check_format(path: Path) -> None:
    """Nothing, if the path's suffix is that of a format.

    Raises:
        OutputError: it is not.
    """
    if path.suffix.lower() not in FORMATS:
        raise OutputError(
            f"{path}: no output format {path.suffix!r}. {near_names(path.suffix, FORMATS)}"
        )


def open_writer(path: Path) -> Writer:
    """The writer for the path's suffix.

    Raises:
        OutputError: no format has this suffix, or the folder cannot be written to.
    """
    check_format(path)
    make_folder(path.parent)
    try:
        return FORMATS[path.suffix.lower()](path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def make_folder(folder: Path) -> None:
    """The folder, made if it is not there; a file has been written there and removed.

    Raises:
        OutputError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be made or written to: {error.strerror or error}. Give another "
            "folder, or the rights to this one."
        ) from error


def summary(results: Iterable[Result]) -> dict[str, dict[str, int]]:
    """How many results have each status and, of those scored, each verdict."""
    status: Counter[str] = Counter()
    verdict: Counter[str] = Counter()
    for result in results:
        status[result.status] += 1
        if result.status == "ok":
            verdict[result.verdict] += 1
    return {"status": dict(status), "verdict": dict(verdict)}


def table_row(result: Result) -> str:
    """One line under :data:`TABLE_HEADER`, followed by the reasons."""
    p_fake = "" if result.p_fake is None else f"{result.p_fake:.3f}"
    verdict = result.verdict if result.status == "ok" else "-"
    faces = str(len(result.faces)) if result.status in {"ok", "low_quality"} else ""
    reasons = ", ".join(dict.fromkeys(reason.code for reason in result.reasons))
    row = f"{verdict:12}  {p_fake:>7}  {faces:>5}  {result.status:11}  {one_line(result.source)}"
    return f"{row}  ({reasons})" if reasons else row
