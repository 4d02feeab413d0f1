"""Weights files: which there are, their hash, and loading them without leaving a gap."""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

# The Auto classes are reached as attributes, see backbone.py.
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PreTrainedConfig

from unmask.errors import ConfigError, CorruptWeights, IncompatibleWeights

__all__ = [
    "check_finite",
    "file_sha256",
    "load_strictly",
    "quiet",
    "read_config",
    "weights_files",
    "weights_sha256",
]

_CHUNK = 1 << 20
_SINGLE = ("model.safetensors", "pytorch_model.bin", "adapter.safetensors")


def read_config(folder: Path) -> PreTrainedConfig:
    """The configuration of a transformers model folder.

    Raises:
        ConfigError: If ``config.json`` is missing, is not JSON, or names an unknown kind of model.
    """
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{folder} has no config.json, so it is not a model folder") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    known = isinstance(values, dict) and isinstance(values.get("model_type"), str)
    if not known:
        raise ConfigError(f"{path} names no model_type, so the kind of model is unknown")
    try:
        return transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise ConfigError(
            f"{path} is of model_type {values['model_type']!r}, which the installed transformers "
            f"{transformers.__version__} does not read: {error}"
        ) from error


def weights_files(folder: Path) -> list[Path]:
    """The weights of a model folder: one file, or the shards that its index names.

    Raises:
        IncompatibleWeights: If there are none.
        CorruptWeights: If the index is damaged or names a shard that is not there.
    """
    for name in _SINGLE:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _shards(index)
    raise IncompatibleWeights(
        f"{folder} holds no weights; expected {' or '.join(_SINGLE)}, or the index of its shards"
    )


def _shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CorruptWeights(f"{index} is damaged ({error}); delete it and fetch again") from error
    shards = [index.parent / name for name in sorted(names)]
    absent = [shard.name for shard in shards if not shard.is_file()]
    if absent:
        raise CorruptWeights(f"{index} names {', '.join(absent)}, which is missing; fetch again")
    return shards


def weights_sha256(folder: Path) -> str:
    """SHA-256 of the weights file; of the list of shard hashes where there are several."""
    hashes = [file_sha256(path) for path in weights_files(folder)]
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; read once per process while the file stays as it is."""
    state = path.stat()
    return _hash(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _hash(path: Path, _size: int, _mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def load_strictly(
    kind: Any,  # noqa: ANN401  # a transformers class, untyped
    folder: Path,
    config: PreTrainedConfig,
    *,
    may_be_left: Callable[[str], bool],
    **options: bool,
) -> nn.Module:
    """A ``kind`` in float32 with every weight from ``folder``.

    Args:
        kind: A class with transformers' ``from_pretrained``.
        folder: Its model folder.
        config: What to build; may be less than the folder holds.
        may_be_left: Whether a key of the file that has no place in the model is left on purpose.
        **options: Passed to the constructor.

    Raises:
        CorruptWeights: If a file is damaged or holds values that are not finite.
        IncompatibleWeights: If weights are missing, are left over, or do not fit.
    """
    for path in weights_files(folder):
        _check_file(path)
    try:
        with quiet():
            model, info = kind.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # _check_keys refuses them, in words of ours
                **options,
            )
    except (OSError, RuntimeError) as error:
        raise IncompatibleWeights(f"{folder} does not load as {kind.__name__}: {error}") from error
    _check_keys(folder, kind.__name__, info, may_be_left)
    check_finite(model, folder)
    return model  # type: ignore[no-any-return]  # transformers is untyped for mypy


def check_finite(model: nn.Module, where: Path) -> None:
    """Raise ``CorruptWeights`` if a weight is infinite or not a number."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise CorruptWeights(
                f"{where}: {name} holds values that are not finite; the file is damaged, fetch it "
                "again or train again"
            )


def _check_file(path: Path) -> None:
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):
                return
        torch.load(path, map_location="meta", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CorruptWeights(
            f"{path} is damaged or cut short ({error}); delete it and fetch it again"
        ) from error


def _check_keys(
    folder: Path, name: str, info: Mapping[str, Any], may_be_left: Callable[[str], bool]
) -> None:
    left_over = [key for key in info["unexpected_keys"] if not may_be_left(key)]
    mismatched = [str(key[0]) for key in info["mismatched_keys"]]
    for problem, keys in (
        ("are missing", info["missing_keys"]),
        ("are left over", left_over),
        ("have another shape", mismatched),
    ):
        if keys:
            some = ", ".join(sorted(keys)[:8])
            raise IncompatibleWeights(
                f"{folder} does not fit {name}: {len(keys)} weights {problem}: {some}"
                f"{', ...' if len(keys) > 8 else ''}"
            )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own reports of a load to itself: the checks here say it as errors."""
    log = transformers.logging
    verbosity, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    if not sys.stderr.isatty():
        log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bar:
            log.enable_progress_bar()
