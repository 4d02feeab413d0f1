"""Reads ``parity.json`` and believes no field of it before it has the form that is written."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from reprlib import repr as shortly
from typing import Any, get_args

from unmask.convert.parity import FILE, RELATIVE, SCHEMA, Parity, ParityInput
from unmask.convert.settings import digest
from unmask.errors import ConfigError
from unmask.models.published.imported import Kind

__all__ = ["read_parity"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIELDS = {one.name for one in fields(Parity)}
# They follow from the rest, and are computed again.
_DERIVED = {"schema", "largest_difference", "tolerance", "settings_sha256"}


def read_parity(folder: Path) -> Parity:
    """The report in a folder that ``unmask convert`` wrote.

    Raises:
        ConfigError: If there is none, or a field is not what is written there.
    """
    path = folder / FILE
    values = _values(folder, path)
    _check(path, values)
    return Parity(
        **{
            **{key: values[key] for key in _FIELDS},
            "inputs": tuple(
                ParityInput(
                    one["name"], one["sha256"], float(one["original"]), float(one["converted"])
                )
                for one in values["inputs"]
            ),
            "fake_labels": tuple(values["fake_labels"]),
        }
    )


def _values(folder: Path, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{folder} has no {FILE}: it was not written by 'unmask convert', so there is no "
            "source to compare it with"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}. Convert the detector again.") from error
    schema = values.get("schema") if isinstance(values, dict) else None
    if type(schema) is not int or schema != SCHEMA:
        raise ConfigError(
            f"{path} has the schema {shortly(schema)}; this version of unmask reads {SCHEMA}. "
            "Update unmask, or convert the detector again."
        )
    missing = sorted((_FIELDS | _DERIVED) - values.keys())
    if missing:
        raise ConfigError(
            f"{path} is incomplete ({', '.join(missing)} missing). Convert the detector again."
        )
    unknown = sorted(values.keys() - _FIELDS - _DERIVED)
    if unknown:
        raise ConfigError(f"{path} has unknown fields: {shortly(unknown)}")
    return values  # type: ignore[no-any-return]  # schema is not None, so it is a dict


def _check(path: Path, values: Mapping[str, Any]) -> None:
    """Raise what is wrong with the first field that has not the form that is written."""
    saved = values["saved_as"], values["weights_dtype"]
    ways = [f"{as_} in {dtype}" for as_, dtype in RELATIVE]
    inputs = values["inputs"]
    for field, good, expected in (
        ("kind", values["kind"] in get_args(Kind), f"one of {', '.join(get_args(Kind))}"),
        ("source", _is_text(values["source"]), "a name"),
        ("files", _is_files(values["files"]), "a SHA-256 for each file, by its name,"),
        ("base", values["base"] is None or _is_text(values["base"]), "a name or null"),
        ("fake_labels", _is_list_of_text(values["fake_labels"]), "a list of names"),
        ("weights_sha256", _is_sha256(values["weights_sha256"]), "a SHA-256"),
        ("inputs", isinstance(inputs, list) and inputs != [], "a list of inputs"),
        ("versions", _is_names(values["versions"]), "a version for each package"),
        ("settings", isinstance(values["settings"], dict), "an object"),
        ("settings_sha256", _is_sha256(values["settings_sha256"]), "a SHA-256"),
        ("largest_difference", _is_number(values["largest_difference"]), "a number"),
        ("tolerance", _is_number(values["tolerance"]), "a number"),
    ):
        if not good:
            raise ConfigError(_wrong(path, field, values[field], expected))
    if not all(_is_text(one) for one in saved) or saved not in RELATIVE:
        raise ConfigError(_wrong(path, "saved_as, weights_dtype", saved, " or ".join(ways)))
    for number, one in enumerate(inputs):
        if not _is_input(one):
            expected = "name, sha256, original and converted, two finite logits,"
            raise ConfigError(_wrong(path, f"inputs.{number}", one, expected))
    names = [one["name"] for one in inputs]
    if len(set(names)) < len(names):
        raise ConfigError(_wrong(path, "inputs", names, "each name once"))
    if digest(values["settings"]) != values["settings_sha256"]:
        raise ConfigError(
            f"{path}: settings have another SHA-256 than settings_sha256 says, so the report was "
            "changed. Convert the detector again."
        )


def _wrong(path: Path, field: str, value: object, expected: str) -> str:
    return (
        f"{path}: {field} is {shortly(value)}, which is not what 'unmask convert' writes; "
        f"{expected} was expected. Convert the detector again."
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(_is_text(one) for one in value)


def _is_names(value: object) -> bool:
    return isinstance(value, dict) and all(_is_text(one) for one in value.values())


def _is_files(value: object) -> bool:
    return isinstance(value, dict) and value != {} and all(map(_is_sha256, value.values()))


def _is_number(value: object) -> bool:
    """Whether it is a number that a float can hold; ``true`` is none."""
    try:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:
        return False


def _is_input(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"name", "sha256", "original", "converted"}
        and _is_text(value["name"])
        and _is_sha256(value["sha256"])
        and _is_number(value["original"])
        and _is_number(value["converted"])
    )
