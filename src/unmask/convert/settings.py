"""What a detector's ``config.json`` says that its scores depend on, and how two of them differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unmask.models.published.config_json import read_config_json

__all__ = ["digest", "read_settings", "settings_differences"]

_NOT_OF_THE_SCORES = frozenset(
    {"architectures", "backbone_source", "license", "training", "transformers_version"}
)
"""Where it came from and on what terms. All else counts, also fields that are not known here."""
_CALIBRATED = ("calibration.", "operating_points", "whole_pictures.")
"""What ``unmask calibrate`` changes."""


def read_settings(folder: Path) -> Mapping[str, Any]:
    """The fields of ``config.json`` that scores depend on, as they stand in the file.

    Raises:
        ConfigError: If ``config.json`` is missing or is not JSON.
    """
    values = {
        key: value
        for key, value in read_config_json(folder).items()
        if key not in _NOT_OF_THE_SCORES
    }
    for name in ("calibration", "whole_pictures"):
        part = values.get(name)
        if isinstance(part, dict):  # how it was chosen changes nothing
            values[name] = {key: part[key] for key in part if key != "record"}
    return values


def digest(settings: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of the settings as JSON with sorted keys."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def settings_differences(
    then: Mapping[str, Any], now: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """What differs in calibration, and what else does: one ``name is B, A then`` each."""
    before, after = (dict(_leaves("", one)) for one in (then, now))
    calibrated: list[str] = []
    other: list[str] = []
    for name in sorted(before | after):
        a, b = before.get(name, "missing"), after.get(name, "missing")
        if a != b:
            group = calibrated if name.startswith(_CALIBRATED) else other
            group.append(f"{name} is {b}, {a} then")
    return calibrated, other


def _leaves(start: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each value that is no object, as JSON, by the names that lead to it."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(f"{start}{key}.", value)
        else:
            yield f"{start}{key}", json.dumps(value, sort_keys=True)
