"""The folder of an evaluation: whether it may be written, and what stands in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.errors import OutputError
from unmask.files import replacing
from unmask.ledger import ledger_files, ledger_path
from unmask.report import make_folder

if TYPE_CHECKING:
    from unmask.evaluate.evaluation import Evaluation

__all__ = [
    "ALTERED",
    "COMPARED",
    "REPORTS",
    "SCORES",
    "check_folder",
    "default_folder",
    "forget",
    "new_folder",
    "write_reports",
]

SCORES = "scores.parquet"
COMPARED = "compared.parquet"
"""Scores of the second detector of a comparison."""
ALTERED = "altered"
"""Folder of the scores of altered pictures, a file per alteration."""
REPORTS = ("report.json", "report.md", "report.html")


def default_folder(detector: str, data: Sequence[str]) -> Path:
    """``evaluation/DETECTOR-DATA`` by the last parts of their names.

    >>> default_folder("org/model", ["sets/a.csv", "sets/b"]).as_posix()
    'evaluation/model-a-b'
    """
    parts = [Path(detector).name, *(Path(each).stem for each in data[:3])]
    if len(data) > 3:
        parts.append(f"and-{len(data) - 3}-more")
    return Path("evaluation", re.sub(r"[^\w.+-]+", "_", "-".join(parts)).strip("._") or "report")


def check_folder(folder: Path, *, overwrite: bool, sources: Iterable[Path] = ()) -> None:
    """Nothing, if the folder may be written: before any work.

    Args:
        folder: Need not exist. One with a ledger holds an interrupted evaluation, which goes on.
        overwrite: Files of an earlier evaluation are replaced.
        sources: Scores that are read; they may lie in the folder.

    Raises:
        OutputError: it is a file, or holds an evaluation.
    """
    given = {path.resolve() for path in sources}
    if folder.is_file():
        raise OutputError(f"{folder} is a file; give the name of a folder by -o")
    if overwrite or ledger_path(folder / SCORES).exists():
        return
    for name in (*REPORTS, SCORES, COMPARED):
        path = folder / name
        if path.exists() and path.resolve() not in given:
            raise OutputError(
                f"{path} exists. Replace the evaluation by --overwrite, or give another folder "
                "by -o."
            )


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """The folder while the block runs; if that fails, nothing empty that was made for it stays.

    Raises:
        OutputError: it cannot be made or written to.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    make_folder(folder)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # what is in it is kept
            for each in missing:
                each.rmdir()
        raise


def forget(folder: Path) -> None:
    """Remove what an interrupted evaluation remembered."""
    for name in (SCORES, COMPARED):
        for path in ledger_files(folder / name):
            path.unlink(missing_ok=True)


def write_reports(folder: Path, evaluation: Evaluation) -> None:
    """Write ``report.json``, ``report.md`` and ``report.html``, each whole or not at all.

    Raises:
        OutputError: one cannot be written.
    """
    from unmask.evaluate.report_html import write_html
    from unmask.evaluate.report_json import write_json
    from unmask.evaluate.report_markdown import write_markdown

    writers = dict(zip(REPORTS, (write_json, write_markdown, write_html), strict=True))
    for name, write in writers.items():
        text = write(evaluation)
        try:
            with replacing(folder / name) as file:
                file.write(text)
        except OSError as error:
            raise OutputError(
                f"{folder / name} cannot be written: {error.strerror or error}. The scores are "
                f"kept: `unmask evaluate --scores {folder / SCORES} -o DIR` makes the report."
            ) from error
