"""What a scan has already answered, in a SQLite file beside its output.

Makes a scan resumable: an unchanged file is not opened again, the same bytes under another name
are not scored again. Each result is durable against the death of the process once it is added.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from unmask.errors import OutputError
from unmask.files import valid_text
from unmask.report import from_json, to_json
from unmask.types import Result, Sample

__all__ = ["Ledger", "ledger_files", "ledger_path"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (json TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS results (
    path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, sha256 TEXT, result TEXT NOT NULL
) WITHOUT ROWID;
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
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + _SCHEMA)
            self._check(settings)
        except sqlite3.DatabaseError as error:
            raise OutputError(
                f"{path} cannot be used as the ledger of this run ({error}); delete it, or write "
                "to another output"
            ) from error

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

    def recall_path(self, sample: Sample) -> Result | None:
        """The stored result of a file whose size and time of change are as they were."""
        row = self._row(
            "SELECT size, mtime_ns, result FROM results WHERE path = ? AND sha256 IS NOT NULL",
            valid_text(str(sample.path)),
        )
        if row is None or row[:2] != _stat(sample.path):
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
        size, mtime_ns = _stat(sample.path)
        path = valid_text(str(sample.path))
        values = (path, size, mtime_ns, result.sha256, to_json(result))
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", values)


def _stat(path: Path) -> tuple[int | None, int | None]:
    try:
        stat = path.stat()
    except OSError:  # gone or not ours to see: never equal to a stored pair
        return None, None
    return stat.st_size, stat.st_mtime_ns
