"""Published detectors that can be used as they are, without a conversion on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from unmask.errors import ConfigError, IncompatibleWeights
from unmask.models.published.classifier import architecture, read_classifier
from unmask.models.published.config_json import read_config_json
from unmask.models.published.gend import MODEL_TYPE, read_gend
from unmask.models.published.imported import Imported
from unmask.models.weights import read_config

__all__ = ["read", "recognise"]


def recognise(folder: Path) -> Literal["gend", "hf"] | None:
    """The kind of published detector in a model folder; None for a bare tower or one of ours.

    Raises:
        ConfigError: If ``config.json`` is missing or damaged.
    """
    model_type = read_config_json(folder).get("model_type")
    if model_type == MODEL_TYPE:
        return "gend"
    if model_type != "unmask" and architecture(folder) is not None:
        return "hf"
    return None


def read(folder: Path, *, fake_labels: Sequence[str] = (), base: Path | None = None) -> Imported:
    """The published detector in a model folder.

    Args:
        folder: One that :func:`recognise` knows.
        fake_labels: Of an image classifier: the labels that mean fake, where their names do not
            tell.
        base: Folder of the tower that a GenD was trained from, where its shapes do not tell; only
            its configuration is read.

    Raises:
        ConfigError: If an option does not belong to this kind of detector, or as the kind's reader.
        CorruptWeights: If a weights file is damaged.
        IncompatibleWeights: If it is no published detector, or as the kind's reader.
    """
    kind = recognise(folder)
    if kind == "gend":
        if fake_labels:
            raise ConfigError(
                "--fake-label belongs to image classifiers, whose labels have names; GenD's second "
                "output is always fake"
            )
        return read_gend(folder, base_config=None if base is None else read_config(base))
    if kind is None:
        raise IncompatibleWeights(
            f"{folder} is no published detector of a kind that is known: neither an image "
            "classifier of transformers nor a GenD"
        )
    if base is not None:
        raise ConfigError("--base does not belong to an image classifier, which is whole")
    return read_classifier(folder, fake_labels=fake_labels)
