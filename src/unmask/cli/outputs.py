"""The files of a scan: which may be written, who writes them, and what happens on a full disk."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import Timeout

from unmask.errors import ConfigError, OutputError
from unmask.files import held
from unmask.ledger import ledger_files, ledger_path, recorded_outputs
from unmask.report import FORMATS, Writer, check_format, make_folder, open_writer

__all__ = ["check_outputs", "locked", "remove", "saving", "writing"]


def check_outputs(
    outputs: Sequence[Path], inputs: Iterable[str], *, resume: bool, overwrite: bool
) -> None:
    """Nothing, if the outputs may be written: before any work, and before anything is removed.

    Raises:
        ConfigError: options that contradict each other, or an output that is an input.
        OutputError: an output that exists, or that cannot be written.
    """
    if resume and overwrite:
        raise ConfigError("--resume and --overwrite contradict each other; give one of them")
    if resume and not outputs:
        raise ConfigError("--resume needs the output of the scan to go on with: -o FILE")
    _check_distinct(outputs, [Path(each) for each in inputs if each not in {"-", ""}])
    for path in outputs:
        check_format(path)
        make_folder(path.parent)
        if path.is_dir():
            raise OutputError(f"{path} is a folder; give the name of a file in it")
        left = [each for each in (path, ledger_path(path)) if each.exists()]
        if left and not (resume or overwrite):
            raise OutputError(
                f"{left[0]} exists. Go on with it by --resume, replace it by --overwrite, or give "
                f"another output (formats: {', '.join(FORMATS)})."
            )
    if resume:
        _check_resumed(outputs)


def _check_distinct(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    for number, path in enumerate(outputs):
        if any(_same(path, other) for other in outputs[:number]):
            raise ConfigError("an output is given twice; give each -o FILE once")
        for given in inputs:
            if any(_same(each, given) for each in (path, *ledger_files(path))):
                raise ConfigError(
                    f"the output {path} would replace the input {given}; give another output"
                )


def _same(one: Path, other: Path) -> bool:
    """Whether two names lead to one file, there already or not."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return False


def _check_resumed(outputs: Sequence[Path]) -> None:
    """Nothing, if a scan with this ledger wrote every output that exists."""
    existing = [path for path in outputs if path.exists()]
    if not existing:
        return
    ledger = ledger_path(outputs[0])
    if not ledger.exists():
        raise OutputError(
            f"{existing[0]} has no ledger beside it ({ledger.name}), so no scan can go on with "
            "it. Give the first output of that scan first, or --overwrite."
        )
    recorded = recorded_outputs(ledger, outputs)
    for path in existing:
        if path not in recorded:
            raise OutputError(
                f"{path} was not written by the scan to go on with ({ledger.name}), and would be "
                "replaced. Give another output, or --overwrite."
            )


def remove(outputs: Iterable[Path]) -> None:
    """Remove the outputs and their ledgers."""
    for path in outputs:
        for each in (path, *ledger_files(path)):
            each.unlink(missing_ok=True)


@contextmanager
def locked(outputs: Iterable[Path]) -> Iterator[None]:
    """While the block runs no other scan writes these outputs.

    Raises:
        OutputError: another one does.
    """
    with ExitStack() as stack:
        for path in outputs:
            ledger = ledger_path(path)
            name = ledger.with_name(ledger.name.removesuffix("sqlite") + "lock")
            try:
                stack.enter_context(held(name))
            except Timeout as error:
                raise OutputError(
                    f"{path} is in use by another scan; wait for its end, or give another output"
                ) from error
            except OSError as error:
                raise OutputError(f"{name} cannot be written: {error}") from error
        yield


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """The writer of an output; the file is whole after the block, however it ends."""
    writer = open_writer(path)
    try:
        yield writer
    finally:
        with saving():
            writer.close()


@contextmanager
def saving() -> Iterator[None]:
    """A full or vanished disk is an error that says how to go on, not a traceback."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise OutputError(
            f"the output can no longer be written ({error}). Make room or give another output; "
            "the same command with --resume goes on from what the ledger holds."
        ) from error
