"""Files of training settings: YAML and TOML to values by name, and settings to YAML.

The files of DeepfakeBench are translated by :mod:`unmask.train.bench_config`.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict
from pathlib import Path

from unmask.errors import ConfigError
from unmask.train.config import TrainConfig

__all__ = ["read_document", "to_yaml"]


def read_document(path: Path) -> dict[str, object]:
    """The mapping in a YAML or TOML file.

    Raises:
        ConfigError: If it cannot be read, or holds something else.
    """
    import yaml

    suffix = path.suffix.lower()
    if suffix not in (".yaml", ".yml", ".toml"):
        raise ConfigError(f"{path}: suffix {path.suffix!r}; expected .yaml, .yml or .toml")
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text) if suffix == ".toml" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, tomllib.TOMLDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} cannot be read as {suffix[1:].upper()}: {reason}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(
            f"{path} holds {type(document).__name__}; expected names and values such as 'lr: 0.001'"
        )
    return {str(key): value for key, value in document.items()}


def to_yaml(config: TrainConfig) -> str:
    """A file that gives the same configuration back."""
    import yaml

    values = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(config).items()
    }
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
