"""``unmask verify``: whether a converted folder still computes what its source did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unmask.cli import options
from unmask.cli.streams import say
from unmask.files import one_line

if TYPE_CHECKING:
    from unmask.convert import Verification

__all__ = ["verify"]


def verify(
    folder: Annotated[Path, typer.Argument(help="Folder that 'unmask convert' wrote.")],
    source: Annotated[
        str | None,
        typer.Option(help="File, folder or Hub id it was made from: reads and runs it again."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The --base of the conversion, if it is not on the Hub.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    offline: options.Offline = False,
) -> None:
    """Compare a converted detector with its source again.

    Exit code 0: it computes what its source did; 1: it does not, or something else is not as
    recorded; 2: wrong use.

    Example: unmask verify mine/ --source effort_clip_L14_trainOn_FaceForensic.pth
    """
    from unmask.convert import verify as verify_folder

    found = verify_folder(folder, source=source, base=base, offline=offline)
    if as_json:
        say(json.dumps(_values(found), ensure_ascii=False, sort_keys=True), go_on=True)
    else:
        for line in _lines(found):
            say(line, go_on=True)
    if found.problems:
        raise typer.Exit(1)


def _lines(found: Verification) -> list[str]:
    width = max(len(one.name) for one in found.parity.inputs)
    against = "read again" if found.source_read else "as recorded"
    return [
        f"logits of the source ({against}) and of the folder:",
        *(
            f"  {one_line(one.name):<{width}}  {one.original:12.6f}  {one.converted:12.6f}"
            for one in found.parity.inputs
        ),
        f"parity: {found.parity.summary()}",
        *(f"note: {one_line(note)}" for note in found.notes),
        *(f"differs: {one_line(problem)}" for problem in found.problems),
        *([] if found.problems else ["it computes what its source did"]),
    ]


def _values(found: Verification) -> dict[str, object]:
    return {
        "folder": str(found.folder),
        "ok": not found.problems,
        "problems": list(found.problems),
        "notes": list(found.notes),
        "source_read": found.source_read,
        "parity": json.loads(found.parity.to_json()),
    }
