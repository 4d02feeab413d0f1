"""Whether tables of one detector were scored alike, so that P(fake) means the same in all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unmask.errors import ScoresError
from unmask.evaluate.table import Meta

__all__ = ["DIFFERENCES", "check_alike", "differences", "noted", "temperature_of"]

DIFFERENCES = "differences of the tables"
"""The setting that lists in what tables differ that were put together."""

_SAME: Mapping[str, str] = {
    "temperature": "temperature",
    "preprocessing": "preprocessing",
    "detector_config": "configuration of the detector",
}
"""Settings with which P(fake) means something else, and what to call them. A bias that a
calibration adds is part of the weights, and crops and their choice are part of preprocessing."""

_TOLD_ELSEWHERE = frozenset({"faces", "face", "operating_point"})
"""Options that preprocessing or the operating point say, as they were understood."""

_UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class _Run:
    """How one run scored; a table that was put together holds several."""

    name: str
    meta: Meta
    settings: Mapping[str, Any]

    def value(self, key: str) -> str:
        """A setting in words; empty where it is not known."""
        found = self.settings.get(key)
        if key == "preprocessing":
            found = self.meta.preprocessing or None
        elif key == "temperature":
            found = temperature_of(self.settings)
        return "" if found is None else str(found)


def check_alike(metas: Sequence[Meta], names: Sequence[str]) -> None:
    """Nothing, if P(fake) means the same in all of these tables of one detector.

    Another configuration is taken to follow from another operating point where there is one.

    Args:
        metas: Of the tables.
        names: What to call each in a message.

    Raises:
        ScoresError: temperature, preprocessing (crops included) or configuration differ.
    """
    for key, what in _SAME.items():
        first: dict[str, _Run] = {}
        for run in _runs(metas, names):
            point = json.dumps(run.settings.get("operating_point"), sort_keys=True)
            value = run.value(key)
            before = first.setdefault(point if key == "detector_config" else "", run)
            if not before.value(key):  # not known there
                first[point if key == "detector_config" else ""] = run
            elif value and value != before.value(key):
                raise ScoresError(
                    f"{run.name} has another {what} ({value[:100]}) than {before.name} "
                    f"({before.value(key)[:100]}), so that P(fake) means something else in it. "
                    "Score all data with the same detector folder and options."
                )


def differences(metas: Sequence[Meta], names: Sequence[str]) -> list[str]:
    """In what the tables differ that leaves P(fake) its meaning, but may shift it; in words."""
    runs = _runs(metas, names)
    found = [each for run in runs for each in noted(run.meta.settings)]
    for key in ("temperature", "preprocessing", "dtype"):
        found += _several(key, [run.value(key) for run in runs])
    for name in dict.fromkeys(each for meta in metas for each in meta.versions):
        found += _several(f"version of {name}", [meta.versions.get(name, "") for meta in metas])
    options = [_options(run.settings) for run in runs]
    for name in dict.fromkeys(each for values in options for each in values):
        if name not in _TOLD_ELSEWHERE:
            found += _several(name, [str(values.get(name, "")) for values in options])
    found += _several("operating point", [_point(meta) for meta in metas])
    return list(dict.fromkeys(found))


def noted(settings: Mapping[str, Any]) -> list[str]:
    """What :func:`differences` found when the table was put together."""
    found = settings.get(DIFFERENCES)
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def temperature_of(settings: Mapping[str, Any]) -> str | None:
    """How logits became P(fake), in words; that of whole pictures too if they have their own."""
    found, whole = settings.get("temperature"), settings.get("whole_pictures")
    own = whole.get("temperature") if isinstance(whole, Mapping) else found
    if found is None or own == found:
        return None if found is None else str(found)
    return f"{found}, of whole pictures {own}"


def _runs(metas: Sequence[Meta], names: Sequence[str]) -> list[_Run]:
    return [
        _Run(name, meta, part)
        for meta, name in zip(metas, names, strict=True)
        for part in _parts(meta.settings)
    ]


def _parts(settings: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    tables = settings.get("tables")
    if not isinstance(tables, list):
        return [settings]
    return [part for each in tables if isinstance(each, Mapping) for part in _parts(each)]


def _options(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    found = settings.get("options")
    return found if isinstance(found, Mapping) else {}


def _point(meta: Meta) -> str:
    point = meta.operating_point
    return "several" if point is None else f"{point.name} ({point.fake_at:.6g})"


def _several(what: str, values: Sequence[str]) -> list[str]:
    """In words, if there are several values."""
    each = list(dict.fromkeys(value or _UNKNOWN for value in values))
    return [f"{what}: {', '.join(each)}"] if len(each) > 1 else []
