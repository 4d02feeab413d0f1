"""Fields of a detector's ``config.json``, checked one by one: their types and their ranges."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from unmask.errors import ConfigError
from unmask.preprocess import Preprocess
from unmask.types import FaceSpec, OperatingPoint

__all__ = ["build", "face", "is_number", "point", "preprocess", "record", "temperature"]

Part = TypeVar("Part")
_LARGEST_SIDE = 4096
"""Of an input or a face crop, in pixels; beyond it a batch does not fit any memory."""
_LARGEST_SCALE = 100.0
"""Of the margin around a face: more shows nothing of the face."""
_COLDEST, _HOTTEST = 1e-6, 1e6
"""Of the temperature: beyond them every logit gives the same answer, or none."""


def build(kind: type[Part], name: str, values: object) -> Part:
    """An instance of the dataclass ``kind`` from the object under ``name``, or ``ConfigError``."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"config.json: {name} holds {values!r}; an object was expected")
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]  # dataclasses only
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(f"config.json: {name} has unknown {unknown}; known are {sorted(known)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"config.json: {name} is incomplete: {error}") from error


def is_number(value: object) -> bool:
    """Whether it is a finite number; not true or false, and no integer that no float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < sys.float_info.max


def temperature(values: Mapping[str, Any], where: str = "calibration") -> float:
    """The temperature; ``ConfigError`` unless it is a number that divides logits sensibly."""
    value: Any = values.get("temperature")
    if not is_number(value) or not _COLDEST <= value <= _HOTTEST:
        raise ConfigError(
            f"config.json: {where}.temperature is {_shown(value)}, not a number of "
            f"{_COLDEST:g} to {_HOTTEST:g}"
        )
    return float(value)


def record(values: Mapping[str, Any], where: str = "calibration") -> Mapping[str, Any]:
    """The record of a calibration, empty where it has none; ``ConfigError`` unless an object."""
    found = values.get("record", {})
    if not isinstance(found, Mapping):
        raise ConfigError(f"config.json: {where}.record is {found!r}; an object was expected")
    return found


def preprocess(values: Mapping[str, Any]) -> Preprocess:
    """The preprocessing; ``ConfigError`` naming the field unless its numbers are sound."""
    for name in ("mean", "std"):
        numbers = values.get(name)
        if isinstance(numbers, list) and not all(is_number(one) for one in numbers):
            raise ConfigError(f"config.json: preprocess.{name} is {numbers}; numbers were expected")
    spec = Preprocess.from_dict(values)
    sides = (spec.height, spec.width, spec.shortest_edge or 1)
    if max(sides) > _LARGEST_SIDE:
        raise ConfigError(
            f"config.json: preprocess has a side of {max(sides)} pixels; {_LARGEST_SIDE} is the "
            "most"
        )
    return spec


def face(values: Mapping[str, Any]) -> FaceSpec:
    """How faces are cut; ``ConfigError`` naming the field unless its values are sound."""
    spec = build(FaceSpec, "face", values)
    if spec.finder not in ("yunet", "dlib81"):
        raise ConfigError(
            f"config.json: face.finder is {spec.finder!r}, not one of 'yunet', 'dlib81'"
        )
    if type(spec.size) is not int or not 1 <= spec.size <= _LARGEST_SIDE:
        raise ConfigError(
            f"config.json: face.size is {spec.size!r}, not a whole number of 1 to {_LARGEST_SIDE}"
        )
    if not is_number(spec.scale) or not 0 < spec.scale <= _LARGEST_SCALE:
        raise ConfigError(
            f"config.json: face.scale is {spec.scale!r}, not a number above 0, up to "
            f"{_LARGEST_SCALE:g}"
        )
    if not isinstance(spec.antialias, bool):
        raise ConfigError(
            f"config.json: face.antialias is {spec.antialias!r}; it must say true or false"
        )
    return spec


def point(values: object, where: str = "operating_points") -> OperatingPoint:
    """One operating point; ``ConfigError`` unless it has names and thresholds in order."""
    point = build(OperatingPoint, where, values)
    names: Any = point.datasets
    if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
        raise ConfigError(
            f"config.json: {where}: {point.name} has datasets {names!r}; a list of names "
            "was expected"
        )
    point = replace(point, datasets=tuple(names))
    if not isinstance(point.name, str) or not isinstance(point.source, str):
        raise ConfigError(
            f"config.json: {where} has name {point.name!r} and source {point.source!r}; "
            "strings were expected"
        )
    if not all(is_number(one) for one in (point.fake_at, point.real_below)):
        raise ConfigError(
            f"config.json: {where}: {point.name} has fake_at {point.fake_at!r} and "
            f"real_below {point.real_below!r}; numbers were expected"
        )
    if point.real_below > point.fake_at:
        raise ConfigError(
            f"config.json: {where}: {point.name} has real_below {point.real_below} above "
            f"fake_at {point.fake_at}, so that a score could be both"
        )
    return point


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python prints no integer of thousands of digits
        return "an integer of thousands of digits"
    return text if len(text) <= 40 else f"{text[:40]}..."
