"""``config.json`` of a model folder as it stands, whether transformers knows its kind or not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unmask.errors import ConfigError

__all__ = ["read_config_json"]


def read_config_json(folder: Path) -> Mapping[str, Any]:
    """The fields of ``config.json``.

    Raises:
        ConfigError: If it is missing, is not JSON, or holds something else than an object.
    """
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{folder} has no config.json, so it is not a model folder") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {type(values).__name__}; an object was expected")
    return values
