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

from unmask.errors import ConfigError, CorruptWeights, IncompatibleWeights, UnmaskError

__all__ = [
    "ADAPTER_FILE",
    "FLOATING",
    "NONSENSE",
    "check_finite",
    "file_sha256",
    "load_strictly",
    "quiet",
    "read_config",
    "reason",
    "refuse_redirection",
    "weights_files",
    "weights_sha256",
]

_CHUNK = 1 << 20
ADAPTER_FILE = "adapter.safetensors"
_SINGLE = ("model.safetensors", "pytorch_model.bin")
_REDIRECTIONS = {
    "transformers_weights": "which takes the weights from another file than the model's own; "
    "remove the key, and name the file model.safetensors",
    "quantization_config": "and quantised weights are not read; take the model in float16, "
    "bfloat16 or float32",
}
NONSENSE = (
    # A configuration is checked nowhere in full: each of these has come out of a constructor of
    # transformers that was given a wrong type, zero heads, an unknown activation, or an attention
    # that is not installed.
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    TypeError,
    ValueError,
    StrictDataclassError,
)
"""What building a model of a nonsensical configuration raises."""
_FLOATING_NAMES = frozenset({"F16", "BF16", "F32", "F64"})
FLOATING = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


def read_config(folder: Path) -> PreTrainedConfig:
    """The configuration of a transformers model folder; no code that comes with it is run.

    Raises:
        ConfigError: If ``config.json`` is missing, is not JSON, names an unknown kind of model,
            holds what that kind cannot be built of, or sends transformers to other weights.
        IncompatibleWeights: If the folder holds an adapter of PEFT.
    """
    path = folder / "config.json"
    values = _read_json(path)
    known = isinstance(values, dict) and isinstance(values.get("model_type"), str)
    if not known:
        raise ConfigError(f"{path} names no model_type, so the kind of model is unknown")
    _refuse_peft(folder)
    refuse_redirection(values, str(path))
    of_type = f"{path} is of model_type {values['model_type']!r}, which the installed transformers"
    if "auto_map" in values and values["model_type"] not in transformers.CONFIG_MAPPING:
        raise ConfigError(
            f"{of_type} {transformers.__version__} does not know; code that comes with a model "
            "(auto_map) is never run. Name a model of a kind that transformers has."
        )
    try:
        return transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (*NONSENSE, OSError) as error:
        raise ConfigError(
            f"{of_type} {transformers.__version__} does not read: {reason(error)}"
        ) from error


def _read_json(path: Path) -> Any:  # noqa: ANN401  # whatever is in the file
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path.parent} has no config.json, so it is not a model folder"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error


def refuse_redirection(values: Mapping[str, Any], where: str) -> None:
    """Raise ``ConfigError`` if a key takes the weights from elsewhere or makes others of them.

    The same for each configuration inside this one (``vision_config`` and the like).
    """
    for key, meaning in _REDIRECTIONS.items():
        if values.get(key) is not None:
            raise ConfigError(f"{where}: {key} is set, {meaning}")
    for key, inner in values.items():
        if str(key).endswith("_config") and isinstance(inner, Mapping):
            refuse_redirection(inner, f"{where}: {key}")


def _refuse_peft(folder: Path) -> None:
    # transformers would load it on top of, or in place of, the weights that are hashed here.
    names = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
    found = [name for name in names if (folder / name).exists()]
    if found:
        raise IncompatibleWeights(
            f"{folder} holds an adapter of PEFT ({', '.join(found)}), which is not read; merge it "
            "into its model with PEFT first (merge_and_unload, then save_pretrained)"
        )


def reason(error: BaseException) -> str:
    """What an error says; its kind, too, where that says more (``KeyError: 'x'``)."""
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def weights_files(folder: Path) -> list[Path]:
    """The weights of a model folder: one file, or the shards that its index names.

    Raises:
        IncompatibleWeights: If there are none, or an adapter's beside whole ones.
        CorruptWeights: If the index is damaged or names a shard that is not there.
    """
    whole = _whole_weights(folder)
    adapter = folder / ADAPTER_FILE
    if adapter.is_file():
        if whole is not None:
            raise IncompatibleWeights(
                f"{folder} holds both {whole.name} and {ADAPTER_FILE}, so which of them answers "
                "cannot be told; remove the one that does not belong there"
            )
        return [adapter]
    if whole is None:
        raise IncompatibleWeights(
            f"{folder} holds no weights; expected {' or '.join((*_SINGLE, ADAPTER_FILE))}, or the "
            "index of shards"
        )
    return _shards(whole) if whole.suffix == ".json" else [whole]


def _whole_weights(folder: Path) -> Path | None:
    """The file of whole weights that transformers would read, or the index of its shards."""
    names = (one for name in _SINGLE for one in (name, f"{name}.index.json"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        shards = [index.parent / name for name in sorted(names)]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise CorruptWeights(f"{index} is damaged ({error}); delete it and fetch again") from error
    elsewhere = [name for name in sorted(names) if Path(name).name != name]
    if elsewhere:
        raise CorruptWeights(
            f"{index} names {', '.join(elsewhere)}; shards lie beside their index. Fetch it again."
        )
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
        ConfigError: If no model can be built of the configuration.
        CorruptWeights: If a file is damaged or holds values that are not finite.
        IncompatibleWeights: If weights are missing, are left over, do not fit, or are not of a
            floating type where the model's are.
    """
    _refuse_peft(folder)
    refuse_redirection(config.to_dict(), str(folder))
    stored: dict[str, str] = {}
    for path in weights_files(folder):
        stored |= _stored_types(path)
    try:
        with quiet():
            model, info = kind.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # _check_keys refuses them, in words of ours
                **options,
            )
    except UnmaskError:
        raise
    except (OSError, RuntimeError) as error:
        raise IncompatibleWeights(f"{folder} does not load as {kind.__name__}: {error}") from error
    except NONSENSE as error:
        raise ConfigError(
            f"{folder}: no {kind.__name__} can be built of its config.json: {reason(error)}"
        ) from error
    _check_keys(folder, kind.__name__, info, may_be_left)
    _check_types(folder, stored, model)
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


def _stored_types(path: Path) -> dict[str, str]:
    """Of the tensors of a weights file that are not of a usual floating type, which it is."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                types = {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118  # no mapping
            return {key: name for key, name in types.items() if name not in _FLOATING_NAMES}
        state = torch.load(path, map_location="meta", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise CorruptWeights(
            f"{path} is damaged or cut short ({error}); delete it and fetch it again"
        ) from error
    tensors = state.items() if isinstance(state, Mapping) else ()
    return {
        key: str(value.dtype)
        for key, value in tensors
        if isinstance(value, torch.Tensor) and value.dtype not in FLOATING
    }


def _check_types(folder: Path, stored: Mapping[str, str], model: nn.Module) -> None:
    """Refuse parameters that the file has as whole numbers: they would be read as if they fitted.

    Keys are told by their last word, since files and modules differ in the words before it.
    """
    leaves = {name.rpartition(".")[2] for name, _ in model.named_parameters()}
    wrong = sorted(key for key in stored if key.rpartition(".")[2] in leaves)
    if wrong:
        raise IncompatibleWeights(
            f"{folder}: {wrong[0]} is stored as {stored[wrong[0]]}; floating point (float16, "
            "bfloat16, float32, float64) was expected. Quantised weights are not read."
        )


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
