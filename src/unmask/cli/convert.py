"""``unmask convert``: a published detector into a detector folder, with a proof."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from unmask.cli import options
from unmask.cli.streams import say
from unmask.files import one_line

if TYPE_CHECKING:
    from unmask.convert import Conversion
    from unmask.models.published.imported import KeyFate, Kind

__all__ = ["convert"]


def convert(
    kind: Annotated[
        str,  # convert checks it, and says which name is near
        typer.Argument(
            metavar="KIND",
            help="effort: a .pth file; univfd: fc_weights.pth and --base; gend: a GenD folder or "
            "Hub id; hf: any image classifier of transformers, folder or Hub id.",
        ),
    ],
    source: Annotated[str, typer.Argument(metavar="SRC", help="File, folder or Hub id org/name.")],
    folder: Annotated[Path, typer.Argument(metavar="DST", help="Detector folder to write.")],
    base: Annotated[
        str | None,
        typer.Option(
            help="Folder or Hub id of the CLIP that was trained. univfd and --as adapter need it; "
            "effort and gend only where their tower is none of OpenAI's."
        ),
    ] = None,
    fake_label: Annotated[
        list[str] | None,
        typer.Option(help="hf: a label, or its number, that means fake; repeat. Others are real."),
    ] = None,
    domain: Annotated[
        Literal["face", "image"] | None,
        typer.Option(help="Aligned faces or whole pictures; default: what the source says."),
    ] = None,
    save_as: Annotated[
        Literal["merged", "adapter"],
        typer.Option("--as", help="Whole weights, or only what training changed."),
    ] = "merged",
    float16: Annotated[
        bool, typer.Option("--float16", help="Half the size; rounds the weights.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Title of the model card.")] = None,
    license_id: Annotated[
        str | None,
        typer.Option("--license", help="Licence of the weights; default: the published one."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder.")] = False,
    all_keys: Annotated[
        bool, typer.Option("--keys", help="Print the fate of every tensor, not of groups.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    offline: options.Offline = False,
) -> None:
    """Bring in a detector that others published; it must compute what it computed.

    The folder is saved, loaded again, and compared with the source's own tensors on inputs made
    from a seed. It appears only if the logits agree; the report stays in it as parity.json.

    Example: unmask convert effort effort_clip_L14_trainOn_FaceForensic.pth mine/
    """
    from unmask.convert import convert as convert_source

    done = convert_source(
        cast("Kind", kind),
        source,
        folder,
        base=base,
        fake_labels=tuple(fake_label or ()),
        domain=domain,
        name=name,
        license=license_id,
        as_=save_as,
        weights_dtype="float16" if float16 else "float32",
        overwrite=overwrite,
        offline=offline,
        progress=_tell,
    )
    if as_json:
        say(json.dumps(_values(done), ensure_ascii=False, sort_keys=True), go_on=True)
        return
    for line in _lines(done, folder, base=base, all_keys=all_keys):
        say(one_line(line), go_on=True)


def _tell(step: str) -> None:
    sys.stderr.write(f"{step} ...\n")


def _lines(done: Conversion, folder: Path, *, base: str | None, all_keys: bool) -> list[str]:
    from unmask.models.published.imported import key_report

    fates = [_fate(one) for one in done.keys] if all_keys else key_report(done.keys)
    return [
        f"tensors: {len(done.keys)}",
        *(f"  {line}" for line in fates),
        *(f"note: {note}" for note in done.notes),
        f"domain: {done.spec.domain}",
        f"licence: {done.spec.license or 'unknown; unknown terms allow nothing'}",
        f"parity: {done.parity.summary()}",
        f"{folder} is written. Next:",
        *(f"  {step}" for step in _next(done, folder, base)),
    ]


def _next(done: Conversion, folder: Path, base: str | None) -> list[str]:
    """Commands that use the folder."""
    where, face = shlex.quote(str(folder)), done.spec.face
    given = ""
    if done.parity.saved_as == "adapter" and base is not None:
        given = f" --base {shlex.quote(base)}"
    steps = [f"unmask scan PICTURES -d {where}{given}", f"unmask verify {where}{given}"]
    if face is not None and face.finder == "dlib81":
        steps.insert(0, "unmask fetch landmarks    (once: the file its face finder needs)")
    return steps


def _fate(one: KeyFate) -> str:
    if one.target is None:
        return f"{one.key}: dropped ({one.reason})"
    return f"{one.key} -> {one.target}" + (f" ({one.reason})" if one.reason else "")


def _values(done: Conversion) -> dict[str, object]:
    return {
        "folder": str(done.folder),
        "keys": [{"key": one.key, "target": one.target, "reason": one.reason} for one in done.keys],
        "notes": list(done.notes),
        "domain": done.spec.domain,
        "license": done.spec.license,
        "parity": json.loads(done.parity.to_json()),
    }
