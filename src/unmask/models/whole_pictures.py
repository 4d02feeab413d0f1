"""How a detector of faces that learnt from whole pictures too reads the logits of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from unmask.errors import ConfigError
from unmask.models import field_checks
from unmask.types import OperatingPoint

__all__ = ["WholePictures", "read_whole_pictures"]


@dataclass(frozen=True, slots=True)
class WholePictures:
    """Temperature and operating points of whole pictures, by a detector that learnt from both."""

    temperature: float = 1.0
    operating_points: tuple[OperatingPoint, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    """How they came about, where ``unmask calibrate`` chose them."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON; :func:`read_whole_pictures` reads it back."""
        record = {"record": dict(self.record)} if self.record else {}
        points = [asdict(point) for point in self.operating_points]
        return {"temperature": self.temperature, "operating_points": points, **record}


def read_whole_pictures(values: object, domain: str) -> WholePictures | None:
    """What ``whole_pictures`` of a ``config.json`` says; None where it has none.

    Raises:
        ConfigError: Names the field, what it holds and what was expected.
    """
    if values is None:
        return None
    if domain != "face":
        raise ConfigError(
            f"config.json: whole_pictures is given, and the domain is {domain!r}; it is for "
            "detectors of faces, those of whole pictures have calibration and operating_points"
        )
    spec = field_checks.build(WholePictures, "whole_pictures", values)
    points: Any = spec.operating_points
    if not isinstance(points, list | tuple):
        raise ConfigError(
            f"config.json: whole_pictures.operating_points is {points!r}; a list was expected"
        )
    given = {"temperature": spec.temperature, "record": spec.record}
    return WholePictures(
        temperature=field_checks.temperature(given, "whole_pictures"),
        operating_points=tuple(
            field_checks.point(one, "whole_pictures.operating_points") for one in points
        ),
        record=field_checks.record(given, "whole_pictures"),
    )
