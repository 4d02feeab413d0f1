"""Whether a source is one that the list of published detectors has, and how that is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from unmask.models.catalog import Published, find_published
from unmask.models.published.clip_geometry import clip_name
from unmask.models.published.imported import Kind

__all__ = ["HowKnown", "by_name_only", "known_as"]

HowKnown = Literal["hash", "id", "name"]


def known_as(
    kind: Kind,
    files: Mapping[str, str],
    config: Any,  # noqa: ANN401  # of a tower of transformers, untyped
    *,
    hub_id: str | None = None,
) -> tuple[Published, HowKnown] | None:
    """The entry of a source and what tells it; None where it is another detector.

    A source of a known name is another one where its hash is not the one that the list has, or its
    tower is not the one that was published.

    Args:
        kind: Of the source.
        files: SHA-256 of each weights file, by its name.
        config: Of its tower.
        hub_id: ``org/name``, where it came from the Hub; the names of its files say nothing then.
    """
    for name, sha256 in files.items():
        found = find_published(sha256=sha256, file_name=None if hub_id else name, hub_id=hub_id)
        if found is None or found.kind != kind:
            continue
        if found.sha256 == sha256:
            return found, "hash"
        if found.sha256 is None and found.tower in (None, _tower(config)):
            return found, "id" if hub_id else "name"
    return None


def by_name_only(entry: Published) -> str:
    """What to add where nothing but a name tells that a source is this entry."""
    return (
        f"It is {entry.id} by its name only; its SHA-256 is not the published one, which is "
        "unknown. Whether what the list says of that detector holds for this file is not proved."
    )


def _tower(config: Any) -> str | None:  # noqa: ANN401  # as above
    return clip_name(config) if config.model_type == "clip_vision_model" else None
