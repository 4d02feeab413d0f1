"""Files of training settings: YAML and TOML to values by name, and settings to YAML.

The files of DeepfakeBench are translated by :mod:`unmask.train.bench_config`.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from unmask.errors import ConfigError
from unmask.files import one_line
from unmask.train.config import TrainConfig

__all__ = ["parse_yaml", "read_document", "to_yaml"]


class _Loader(yaml.SafeLoader):
    """YAML in which every name stands once and every value is written out."""

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401  # PyYAML is untyped
        if self.check_event(yaml.AliasEvent):  # a few nested ones are gigabytes
            raise yaml.composer.ComposerError(
                None, None, "an alias (*name) has no place in settings; write the value out"
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: ANN401
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise yaml.constructor.ConstructorError(
                None, None, f"{twice[0]!r} stands there twice; leave one"
            )
        found: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return found


def parse_yaml(text: str) -> object:
    """The value that a text in YAML stands for.

    Raises:
        ConfigError: Says why it is none.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # a safe loader's subclass
    except RecursionError as error:
        raise ConfigError("it is nested too deeply") from error
    # ValueError and AttributeError: values of a type that they are not, such as 2020-13-45.
    except (yaml.YAMLError, ValueError, AttributeError) as error:
        raise ConfigError(" ".join(str(error).split())) from error


def read_document(path: Path) -> dict[str, object]:
    """The mapping in a YAML or TOML file.

    Raises:
        ConfigError: If it cannot be read, or holds something else.
    """
    suffix, name = path.suffix.lower(), one_line(str(path))
    if suffix not in (".yaml", ".yml", ".toml"):
        raise ConfigError(f"{name}: suffix {path.suffix!r}; expected .yaml, .yml or .toml")
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text) if suffix == ".toml" else parse_yaml(text)
    # Of TOML also numbers beyond Python's limit of digits (ValueError), and nesting.
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{name} cannot be read as {suffix[1:].upper()}: {reason}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(
            f"{name} holds {type(document).__name__}; expected names and values such as 'lr: 0.001'"
        )
    return {str(key): value for key, value in document.items()}


def to_yaml(config: TrainConfig) -> str:
    """A file that gives the same configuration back."""
    values = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(config).items()
    }
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
