"""``unmask audit``: can the classes of a data set be told apart without looking at the faces?"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unmask.cli import options
from unmask.cli.progress import stage
from unmask.errors import ConfigError, OutputError
from unmask.files import one_line

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from unmask.audit.run import Audit, AuditOptions
    from unmask.types import Sample

__all__ = ["audit"]

_GATE = 3
"""Exit code where ``--fail-on`` applies."""

_UNREAD_SHOWN = 10

_SIZE = (100, 24)
"""Columns and lines where there is no terminal and the variable COLUMNS says nothing."""


def audit(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="Folders with real/ and fake/, manifests (path,label[,dataset,group,split]), data "
            "sets (.json); several are told apart.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="JSON file to write.")
    ] = None,
    json_document: Annotated[
        bool, typer.Option("--json", help="The JSON document on stdout instead of the tables.")
    ] = False,
    fail_on: Annotated[
        Literal["never", "caution", "leak"],
        typer.Option(help="Exit code 3 from this level on, and where not all could be tested."),
    ] = "never",
    split: options.Split = "all",
    root: options.Root = None,
    compression: options.Compression = None,
    label: options.Label = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="Also look for look-alikes by a detector's tower; slow.")
    ] = False,
    detector: options.Detector = "builtin",
    bootstraps: Annotated[int, typer.Option(help="Draws of each 95 % interval.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the folds, classifiers and intervals.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
    workers: options.Workers = None,
    offline: options.Offline = False,
) -> None:
    """Look for shortcuts and leaks in labelled data: formats, sizes, copies, shared groups.

    Example: unmask audit data/manifest.csv -o audit.json --fail-on leak
    """
    from unmask.audit.document import to_document
    from unmask.audit.run import AuditOptions
    from unmask.audit.run import audit as run
    from unmask.files import replacing
    from unmask.labelled import read_labelled

    _check_output(output, data, overwrite=overwrite)
    chosen = AuditOptions(
        seed=seed,
        n_bootstrap=bootstraps,
        workers=(os.cpu_count() or 1) if workers is None else workers,
    )
    labels = options.labels(label or [])
    samples = read_labelled(
        data, split=split, compression=compression, root=root or (), labels=labels
    )
    look_alikes = _look_alikes(detector, chosen, offline=offline) if embed else None
    found = run(samples, chosen, look_alikes=look_alikes, progress=stage)
    document = to_document(found, chosen, inputs=data)
    if output is not None:
        try:
            with replacing(output) as file:
                file.write(document)
        except OSError as error:
            raise OutputError(
                f"{output} cannot be written: {error}. Check rights and space."
            ) from error
    if json_document:
        typer.echo(document, nl=False)
    else:
        _print(found)
    raise typer.Exit(_close(found, output, fail_on))


def _check_output(output: Path | None, data: list[str], *, overwrite: bool) -> None:
    """Nothing, if the output may be written: before minutes of work, not after."""
    if output is None:
        return
    if output.suffix.lower() != ".json":
        raise ConfigError(f"the output {output} is written as JSON; name it .json")
    if any(os.path.realpath(output) == os.path.realpath(each) for each in data):
        raise ConfigError(f"the output {output} would replace an input; give another output")
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise OutputError(f"{output}: expected the name of a file in a folder that exists")
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists. Replace it by --overwrite, or give another output.")


def _look_alikes(
    detector: str, chosen: AuditOptions, *, offline: bool
) -> Callable[[Sequence[Sample]], npt.NDArray[np.int64]]:
    """Loads the detector at once, so that a misspelt name fails before any picture is read."""
    from unmask.audit.embedding import alike_pairs
    from unmask.audit.embedding import embed as embedded
    from unmask.models.detector import load

    embedding = partial(
        embedded,
        detector=load(detector, offline=offline),
        limits=chosen.limits,
        workers=chosen.workers,
    )

    def look_alikes(samples: Sequence[Sample]) -> npt.NDArray[np.int64]:
        with stage("embedding", len(samples)) as advance:
            return alike_pairs(embedding(samples, advance=advance))

    return look_alikes


def _print(found: Audit) -> None:
    from rich.console import Console

    from unmask.audit.verdict import summary
    from unmask.cli.audit_tables import cells_table, level_style, separability_table

    width = shutil.get_terminal_size(_SIZE).columns
    console = Console(file=sys.stdout, width=width, highlight=False, emoji=False, markup=False)
    console.print(cells_table(found.cells))
    console.print()
    console.print(separability_table(found.separability))
    console.print()
    for finding in found.findings:
        console.print(
            f"{finding.level.replace('_', ' '):12}{one_line(finding.message)}",
            style=level_style(finding.level),
            soft_wrap=True,
        )
    sentence = summary(found.level, found.findings)
    console.print(sentence, style=level_style(found.level), soft_wrap=True)


def _close(found: Audit, output: Path | None, fail_on: Literal["never", "caution", "leak"]) -> int:
    """What could not be read and what was written, on stderr; the exit code."""
    from unmask.audit.verdict import LEVELS, is_whole

    for each in found.unread[:_UNREAD_SHOWN]:
        line = f"not read: {one_line(each.reason.message)} ({each.reason.code})"
        sys.stderr.write(line + "\n")
    if len(found.unread) > _UNREAD_SHOWN:
        sys.stderr.write(f"not read: {len(found.unread) - _UNREAD_SHOWN} more, see the JSON\n")
    if output is not None:
        sys.stderr.write(f"wrote {one_line(str(output))}\n")
    whole = is_whole(found.findings)
    if fail_on != "never":
        if found.level in LEVELS[LEVELS.index(fail_on) :]:
            return _GATE
        if not whole:
            sys.stderr.write(f"--fail-on {fail_on}: not all was tested, so this does not pass\n")
            return _GATE
    return 0 if whole and not found.unread else 1
