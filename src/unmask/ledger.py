"""What a scan has already answered, in a SQLite file beside its output.

Makes a scan resumable: an unchanged file is not opened again, the same bytes under another name
are not scored again. Each result is durable against the death of the process once it is added.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

from unmask.errors import OutputError
from unmask.files import valid_text
from unmask.report import from_json, to_json
from unmask.types import Result, Sample

__all__ = ["Ledger", "ledger_files", "ledger_path", "recorded_outputs"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (json TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS results (
    path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, sha256 TEXT, result TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outputs (path TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS results_by_bytes ON results (sha256);
"""


def ledger_path(output: Path) -> Path:
    """Where the ledger of an output file stands.

    >>> ledger_path(Path("runs/scores.jsonl")).name
    'scores.jsonl.ledger.sqlite'
    """
    return output.with_name(output.name + ".ledger.sqlite")


def ledger_files(output: Path) -> list[Path]:
    """The ledger of an output file and what SQLite leaves beside it when a process dies."""
    path = ledger_path(output)
    return [path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))]


class Ledger:
    """The answered samples of one run. A context manager; safe to ask from several threads."""

    def __init__(self, path: Path, settings: Mapping[str, object]) -> None:
        """Open or create the ledger.

        Args:
            path: The SQLite file.
            settings: What decides the answers, :meth:`unmask.pipeline.Pipeline.settings`.

        Raises:
            OutputError: the file is no ledger, or belongs to a run with other settings.
        """
        self._lock = threading.Lock()
        self._path = path
        self._seen: dict[int, tuple[int | None, int | None]] = {}
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + _SCHEMA)
            self._check(settings)
        except sqlite3.DatabaseError as error:
            raise _unusable(path, error) from error

    def _check(self, settings: Mapping[str, object]) -> None:
        now = json.loads(json.dumps(settings, default=str))
        row = self._db.execute("SELECT json FROM settings").fetchone()
        if row is None:
            self._db.execute("INSERT INTO settings VALUES (?)", (json.dumps(now),))
            return
        then = json.loads(row[0])
        changed = sorted(k for k in now.keys() | then.keys() if now.get(k) != then.get(k))
        if changed:
            self._db.close()
            details = "; ".join(f"{k}: {then.get(k)} then, {now.get(k)} now" for k in changed)
            raise OutputError(
                f"{self._path} was begun with other settings ({details}). Resume with the same "
                "ones, give another output, or start over with --overwrite."
            )

    def __enter__(self) -> Ledger:
        """The ledger itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._db.close()

    def __len__(self) -> int:
        """How many samples are answered."""
        with self._lock:
            count: int = self._db.execute("SELECT count(*) FROM results").fetchone()[0]
        return count

    def record_outputs(self, outputs: Iterable[Path]) -> None:
        """Remember the names of the files that this run writes."""
        rows = [(_beside(self._path, path),) for path in outputs]
        with self._lock:
            self._db.executemany("INSERT OR IGNORE INTO outputs VALUES (?)", rows)

    def recall_path(self, sample: Sample) -> Result | None:
        """The stored result of a file whose size and time of change are as they were.

        They are kept for :meth:`add`: it must store them as they were before the file was read.
        """
        seen = _stat(sample.path)
        with self._lock:
            self._seen[id(sample)] = seen
        row = self._row(
            "SELECT size, mtime_ns, result FROM results WHERE path = ? AND sha256 IS NOT NULL",
            _key(sample.path),
        )
        if row is None or seen[0] is None or row[:2] != seen:
            return None
        return from_json(row[2])

    def recall_bytes(self, sha256: str) -> Result | None:
        """The stored result of the same bytes."""
        row = self._row("SELECT result FROM results WHERE sha256 = ? LIMIT 1", sha256)
        return from_json(row[0]) if row else None

    def _row(self, query: str, value: str) -> tuple[Any, ...] | None:
        with self._lock:
            row: tuple[Any, ...] | None = self._db.execute(query, (value,)).fetchone()
        return row

    def add(self, sample: Sample, result: Result) -> None:
        """Store one answer; it survives the death of the process from here on."""
        now = _stat(sample.path)
        path, line = _key(sample.path), to_json(result)
        with self._lock:
            size, mtime_ns = self._seen.pop(id(sample), now)
            values = (path, size, mtime_ns, result.sha256, line)
            self._db.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", values)


def _stat(path: Path) -> tuple[int | None, int | None]:
    try:
        stat = path.stat()
    except (OSError, ValueError):  # gone, not ours to see, or no possible name
        return None, None
    return stat.st_size, stat.st_mtime_ns


def _key(path: Path) -> str:
    """The name of a file, wherever the next scan is started."""
    return valid_text(str(path.absolute()))


def _beside(ledger: Path, output: Path) -> str:
    """The name of an output as seen from the ledger's folder, so that both can be moved."""
    folder, path = (Path(os.path.realpath(each)) for each in (ledger.parent, output))
    return valid_text(str(path.relative_to(folder) if path.is_relative_to(folder) else path))


def recorded_outputs(ledger: Path, outputs: Sequence[Path]) -> set[Path]:
    """Those of ``outputs`` that runs with this ledger wrote.

    Raises:
        OutputError: the file is no ledger.
    """
    try:
        with closing(sqlite3.connect(ledger)) as db:
            known = {row[0] for row in db.execute("SELECT path FROM outputs")}
    except sqlite3.DatabaseError as error:
        raise _unusable(ledger, error) from error
    return {path for path in outputs if _beside(ledger, path) in known}


def _unusable(path: Path, error: sqlite3.DatabaseError) -> OutputError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # without its detail
    foreign = code in {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}
    advice = "delete it" if foreign else "make room or look at the rights"
    return OutputError(
        f"{path} cannot be used as the ledger of this run ({error}); {advice}, or write to "
        "another output"
    )
