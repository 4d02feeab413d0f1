"""Where a detector is: a built-in name, a local folder, or a model of the Hub."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from unmask.errors import ConfigError, UnknownDetector, near_names
from unmask.models.builtin import BUILTINS, builtin_folder
from unmask.models.catalog import named
from unmask.models.hub import fetch_model
from unmask.preprocess import Preprocess

__all__ = ["Located", "locate", "read_preprocess"]

_CONVERT = "'unmask convert' makes a folder of a published file; 'unmask models' lists the known."
_HUB_ID = re.compile(r"(?P<id>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[^@]+))?")


@dataclass(frozen=True, slots=True)
class Located:
    """A model folder on this machine, and what it is called in results."""

    folder: Path
    id: str
    hub_id: str | None = None
    revision: str | None = None


def locate(
    reference: str | Path,
    *,
    revision: str | None = None,
    offline: bool = False,
    token: str | None = None,
    weights: bool = True,
) -> Located:
    """The folder of a built-in detector, a local model, or a Hub model (fetched where need be).

    Without ``weights`` only the configuration of a Hub model is fetched.

    Raises:
        UnknownDetector: If nothing of that name is found; lists near names.
        ConfigError: If two revisions are given, or one for something without revisions.
        WeightsError: Its kinds of :func:`unmask.models.hub.fetch_model`.
    """
    name = str(reference)
    folder = Path(reference).expanduser()
    hub = _HUB_ID.fullmatch(name) if isinstance(reference, str) else None
    is_builtin = isinstance(reference, str) and name in BUILTINS
    if is_builtin or folder.is_dir() or hub is None:
        if revision is not None:
            raise ConfigError(f"--revision {revision} belongs to a Hub id, and {name!r} is not one")
        if is_builtin:
            return Located(builtin_folder(name), BUILTINS[name])
        return Located(_local_folder(folder, name), name)
    asked = hub["revision"]
    if asked and revision and asked != revision:
        raise ConfigError(f"{name!r} and --revision {revision} name two revisions; give one")
    model = fetch_model(
        hub["id"], revision=asked or revision, offline=offline, token=token, weights=weights
    )
    return Located(
        model.folder, f"{model.id}@{model.revision}", hub_id=model.id, revision=model.revision
    )


def read_preprocess(folder: Path) -> Preprocess:
    """What the processor in a transformers model folder does.

    Raises:
        ConfigError: If there is none, it is damaged, or it does something not understood.
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ConfigError(f"{path} is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path} holds {type(values).__name__}, an object was expected")
        return Preprocess.from_processor_config(values)
    raise ConfigError(
        f"{folder} has no preprocessor_config.json, so how its pictures must be prepared is "
        "unknown; add the one that was published with the model"
    )


def _local_folder(folder: Path, name: str) -> Path:
    if folder.is_dir():
        if (folder / "config.json").is_file():
            return folder
        raise UnknownDetector(f"the folder {name!r} holds no config.json, so no detector is there")
    published = _how_to_get(folder.name if folder.is_file() else name)
    if folder.is_file():
        raise UnknownDetector(
            f"{name!r} is a file, and a single weights file is not a detector; name a folder, a "
            f"Hub id org/name, or a built-in name. {published or _CONVERT}"
        )
    if published is not None:
        raise UnknownDetector(f"no detector {name!r} is here. {published}")
    known = [*BUILTINS, *_neighbours(folder, name)]
    raise UnknownDetector(
        f"no detector {name!r}: no built-in of that name, no such folder, and not a Hub id "
        f"(org/name). {near_names(name, known)}"
    )


def _how_to_get(name: str) -> str | None:
    """What to do for a detector that the list of published ones has; None where it has none."""
    entry = named(name)
    if entry is None:
        return None
    if not entry.command.startswith("unmask"):
        why = entry.command.removeprefix("none: ")
        return f"The published {entry.id} cannot be brought in: {why}."
    source = f"the Hub model {entry.where}" if entry.hub_id else f"the file {entry.where} (FILE)"
    return (
        f"The published {entry.id} is {source}: '{entry.command}' makes a detector folder DIR of "
        "it, and that is what to name. 'unmask models' says on what terms."
    )


def _neighbours(folder: Path, name: str) -> list[str]:
    """Model folders beside where ``folder`` would be, named as the user would name them."""
    parent = folder.parent
    if not parent.is_dir():
        return []
    name = name.rstrip(os.sep)
    before = name[: len(name) - len(Path(name).name)] if os.sep in name else ""
    return [f"{before}{one.name}" for one in parent.iterdir() if (one / "config.json").is_file()]
