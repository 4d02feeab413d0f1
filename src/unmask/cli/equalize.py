"""``unmask equalize``: copies of a data set in which real and fake files are alike."""

from __future__ import annotations

import glob
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unmask.cli import options
from unmask.cli.progress import progress
from unmask.errors import ConfigError
from unmask.files import one_line

if TYPE_CHECKING:
    from unmask.equalize.run import Equalized, Plan

__all__ = ["equalize"]


def equalize(
    src: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="Folder with real/ and fake/, or a manifest (path,label[,dataset,group,split]).",
        ),
    ],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="Folder to write; empty or absent.")],
    size: Annotated[
        str | None,
        typer.Option(help="Side in pixels, or a range as 128-256; default: chosen by the data."),
    ] = None,
    quality: Annotated[str, typer.Option(help="JPEG quality, or a range to draw from.")] = "70-95",
    image_format: Annotated[
        Literal["jpeg", "png"], typer.Option("--format", help="Format of all copies.")
    ] = "jpeg",
    seed: Annotated[int, typer.Option(help="Of sizes, qualities and names.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was broken off.")
    ] = False,
    workers: options.Workers = None,
) -> None:
    """Copy a data set so that both classes have one format, size, compression and kind of name.

    DST/manifest.csv has label, group and split of each copy and where it comes from.

    Example: unmask equalize data/manifest.csv equal/
    """
    from unmask.equalize.run import EqualizeOptions, parse_range, plan_for
    from unmask.equalize.run import equalize as run
    from unmask.sources import fixed_part, read_sources

    if src == "-":
        raise ConfigError("equalize keeps the folders of its source; give a folder or a manifest")
    root = Path(src) if Path(src).is_dir() else Path(src).parent
    if not Path(src).exists() and glob.has_magic(src):
        root = fixed_part(src)
    chosen = EqualizeOptions(
        sides=None if size is None else parse_range(size, "size"),
        qualities=parse_range(quality, "quality"),
        format=image_format,
        seed=seed,
        workers=(os.cpu_count() or 1) if workers is None else workers,
    )
    samples = list(read_sources([src]))
    plan = plan_for(src, samples, chosen)
    with progress("equalizing", len(samples)) as advance:
        result = run(samples, root, dst, plan, chosen, resume=resume, advance=advance)
    raise typer.Exit(_close(result, plan, dst))


def _close(result: Equalized, plan: Plan, dst: Path) -> int:
    """What was written and what was left out, on stderr; the exit code."""
    from unmask.equalize.run import MANIFEST

    counts = Counter(row.label for row in result.written)
    low, high = plan.sides
    side = f"{low} px" if low == high else f"{low} to {high} px"
    sys.stderr.write(f"{counts[0]} real, {counts[1]} fake, {counts[None]} unlabelled at {side}\n")
    for label, name in ((0, "real"), (1, "fake")):
        enlarged = sum(row.is_enlarged for row in result.written if row.label == label)
        if enlarged:
            sys.stderr.write(
                f"warning: {enlarged} {name} pictures are smaller than their copies and softer "
                "for it; a smaller --size leaves none\n"
            )
    _tell_of_leftovers(result)
    for row in result.left_out[:10]:
        sys.stderr.write(f"left out: {one_line(row.reason)} ({row.code})\n")
    if len(result.left_out) > 10:
        sys.stderr.write(f"left out: {len(result.left_out) - 10} more, see left_out.csv\n")
    sys.stderr.write(f"wrote {one_line(str(dst / MANIFEST))}\n")
    return 1 if result.left_out else 0


def _tell_of_leftovers(result: Equalized) -> None:
    count = len(result.removed)
    if count:
        said = "1 copy whose input is" if count == 1 else f"{count} copies whose inputs are"
        sys.stderr.write(f"removed: {said} no longer there\n")
    if result.strange:
        count = len(result.strange)
        said = "1 file is" if count == 1 else f"{count} files are"
        names = ", ".join(one_line(each) for each in result.strange[:3])
        more = f" and {count - 3} more" if count > 3 else ""
        sys.stderr.write(
            f"warning: {said} not in the manifest and no copy of this run: {names}{more}\n"
        )
