"""Options that several verbs share, so that they have one name, one default and one help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unmask.errors import ConfigError

if TYPE_CHECKING:
    from unmask.models.detector import Detector as LoadedDetector
    from unmask.types import FaceSpec

__all__ = [
    "Base",
    "BatchSize",
    "Compression",
    "Detector",
    "Device",
    "Dtype",
    "Faces",
    "FakeLabels",
    "Finder",
    "Frames",
    "Label",
    "LandmarkModel",
    "Offline",
    "OperatingPoint",
    "Revision",
    "Root",
    "Split",
    "Workers",
    "face_spec",
    "labels",
    "operating_point",
]

Detector = Annotated[
    str,
    typer.Option("--detector", "-d", help="Built-in name, detector folder, or Hub id org/name."),
]
LandmarkModel = Annotated[
    Path | None, typer.Option(help="Landmark file of dlib81; default: the fetched one.")
]
BatchSize = Annotated[int, typer.Option(help="Crops per forward pass.")]
Workers = Annotated[
    int | None, typer.Option(help="Threads that prepare crops; default: one per core.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(help="Number format of the tower; auto is float32."),
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub model.")]
Base = Annotated[
    str | None,
    typer.Option(help="Tower that an adapter was made on: folder or Hub id; default: as it says."),
]
FakeLabels = Annotated[
    list[str] | None,
    typer.Option("--fake-label", help="Label of another's classifier that means fake; repeat."),
]
Split = Annotated[str, typer.Option(help="train, val, test, or all.")]
Root = Annotated[
    list[str] | None,
    typer.Option(help="OLD=NEW or DIR: where the files of .json data sets are; repeat."),
]
Compression = Annotated[
    str | None, typer.Option(help="Level of .json data sets: c23, c40, raw, all.")
]
Frames = Annotated[int | None, typer.Option(help="Frames per video, evenly spaced; default: all.")]
Label = Annotated[
    list[str] | None,
    typer.Option(help="NAME=real or NAME=fake: what a class is that is not known; repeat."),
]
Faces = Annotated[
    Literal["auto", "largest", "all", "none"],
    typer.Option(help="Which faces to score; auto as a scan does."),
]
Finder = Annotated[str | None, typer.Option(help="yunet or dlib81; default: the detector's own.")]
OperatingPoint = Annotated[
    str | None, typer.Option(help="Operating point of the detector by name.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Use cached Hub files only.")]


def face_spec(detector: LoadedDetector, finder: str | None) -> FaceSpec | None:
    """The detector's crop by another finder; None where none is asked for."""
    from unmask.types import FaceSpec

    if finder is None:
        return None
    base = detector.face or FaceSpec(size=detector.preprocess.height)
    return replace(base, finder=finder)


def operating_point(threshold: str | None, name: str | None = None) -> str | float | None:
    """The point that ``--threshold`` or ``--operating-point`` asks for; None where neither does.

    A number where the text of ``--threshold`` is one, else a name.

    >>> operating_point("0.9"), operating_point("fpr5"), operating_point(None, "fpr1")
    (0.9, 'fpr5', 'fpr1')

    Raises:
        ConfigError: both are given.
    """
    if threshold is not None and name is not None:
        raise ConfigError("--threshold and --operating-point contradict each other; give one")
    if threshold is None:
        return name
    try:
        return float(threshold)
    except ValueError:
        return threshold


def labels(given: Sequence[str]) -> dict[str, int]:
    """What ``--label`` says of names of classes.

    >>> labels(["Deepfakes=fake"])
    {'Deepfakes': 1}
    """
    found = {}
    for text in given:
        name, _, meaning = text.rpartition("=")
        if not name or meaning not in {"real", "fake"}:
            raise ConfigError(f"--label is {text!r}; NAME=real or NAME=fake was expected")
        found[name] = int(meaning == "fake")
    return found
