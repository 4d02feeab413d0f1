"""``unmask models``: what can be loaded by name, and what others published."""

from __future__ import annotations

import json
import shutil
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from unmask.models.catalog import Published

__all__ = ["models"]

_WIDTH = 96
"""Columns of the text where there is no narrower terminal; a long id is never broken."""

_OTHERS = (
    "Published by others. Nothing of it is part of unmask or fetched by this list; unknown terms "
    "allow nothing. What to run stands beside each: a file (FILE) is brought along, a Hub id is "
    "fetched. DIR is the folder to write."
)
_NONE = (
    "None: of no detector in the list do code, weights and training data all have terms that "
    "allow commercial use. 'unmask models' shows the terms of each."
)
_LAST = "Any other detector is named by its folder or Hub id (org/name[@revision])."


def models(
    commercial_ok: Annotated[
        bool,
        typer.Option(
            "--commercial-ok",
            help="Only those whose code, weights and training data all allow commercial use.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """List the built-in detectors, with their measured numbers, and those published by others.

    Example: unmask models --commercial-ok
    """
    from unmask.models.builtin import BUILTINS, DEFAULT
    from unmask.models.catalog import PUBLISHED, allows_commerce

    default = BUILTINS[DEFAULT]
    builtins = [_builtin(name, default=name == default) for name in sorted({*BUILTINS.values()})]
    published = list(PUBLISHED)
    if commercial_ok:
        builtins = [one for one in builtins if allows_commerce(one["licence"])]
        published = [one for one in published if one.commercial]
    if as_json:
        document = {
            "schema_version": 1,
            "builtin": builtins,
            "published": [_published(one) for one in published],
        }
        typer.echo(json.dumps(document, ensure_ascii=False, indent=2))
        return
    for line in _text(builtins, published, commercial_ok):
        typer.echo(line)


def _text(
    builtins: list[dict[str, Any]], published: list[Published], commercial_ok: bool
) -> list[str]:
    lines = [line for one in builtins for line in _builtin_lines(one)]
    if published:
        lines += ["", *_wrapped(_OTHERS)]
    for one in published:
        lines += ["", *_published_lines(one)]
    if commercial_ok and not builtins and not published:
        return _wrapped(_NONE)
    return [*lines, "", *_wrapped(_LAST)]


def _builtin(name: str, *, default: bool) -> dict[str, Any]:
    """What the folder of a built-in detector says; no measurement where it records none."""
    from unmask.models.builtin import builtin_folder

    folder = builtin_folder(name)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {
        "id": name,
        "default": default,
        "domain": config["domain"],
        "whole_pictures": config["domain"] == "image" or bool(config.get("whole_pictures")),
        "megabytes": round(_size(folder) / 1e6),
        "licence": config["license"] or "unknown",
        "validation": _validation(config.get("training")),
    }


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _validation(record: object) -> list[dict[str, Any]]:
    """The rows of the validation table in the record of a training run; none where it has none.

    That of a probe is below what was chosen of several.
    """
    if isinstance(record, dict) and isinstance(record.get("chosen"), dict):
        record = record["chosen"]
    for key in ("validation", "rows"):
        record = record.get(key) if isinstance(record, dict) else None
    keys = ("dataset", "auc", "n_real", "n_fake", "by_video")
    rows = record if isinstance(record, list) else []
    return [{key: row[key] for key in keys} for row in rows]


def _builtin_lines(one: dict[str, Any]) -> list[str]:
    too = one["domain"] == "face" and one["whole_pictures"]
    domain = f"{one['domain']}{' and whole pictures' if too else ''}"
    lines = [
        f"{one['id']}{' (default)' if one['default'] else ''}",
        f"  domain {domain}, {one['megabytes']} MB, licence {one['licence']}",
    ]
    for row in one["validation"]:
        unit = "videos" if row["by_video"] else "pictures"
        counts = f"{row['n_real']} real, {row['n_fake']} fake {unit}"
        said = f"AUC {row['auc']:.3f} on {row['dataset']} ({counts}, validation)"
        lines += _wrapped(said, "  ")
    if not one["validation"]:
        lines.append("  no validation numbers in its record")
    return lines


def _published(one: Published) -> dict[str, object]:
    """All that the list says of one detector, as plain JSON."""
    from dataclasses import asdict

    return {**asdict(one), "hub_id": one.hub_id, "commercial": one.commercial}


def _published_lines(one: Published) -> list[str]:
    what = "Hub" if one.hub_id else "file"
    paper = one.paper if one.paper_url is None else f"{one.paper} <{one.paper_url}>"
    rows = [
        (what, "" if one.where == one.id else one.where),
        ("sha256", one.sha256 or ""),
        (
            "terms",
            f"code {one.licence_code}; weights {one.licence_weights}; data {one.licence_data}",
        ),
        ("paper", "" if one.paper == "none" else paper),
        ("note", one.note),
    ]
    lines = [f"{one.id} ({one.kind}, domain {one.domain})"]
    for name, text in rows:
        lines += _wrapped(text, f"  {name:<7}")
    return [*lines, f"  run    {one.command}"]  # whole, whatever its length: it is there to copy


def _wrapped(text: str, head: str = "") -> list[str]:
    """The text in lines that fit, the first after ``head``, the others below its text."""
    return textwrap.wrap(
        text,
        max(40, min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns)),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
