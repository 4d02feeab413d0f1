"""Detector folders, written whole or not at all, and read strictly."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from torch import Tensor

from unmask.errors import ConfigError, IncompatibleWeights, OutputError, UnmaskError
from unmask.models.configuration import DetectorSpec, UnmaskConfig
from unmask.models.modeling import UnmaskForImageClassification
from unmask.models.weights import check_finite, load_strictly, quiet, read_config, weights_files

__all__ = [
    "WeightsDtype",
    "check_free",
    "load_model",
    "new_folder",
    "save",
    "write_beside_weights",
]

WeightsDtype = Literal["float16", "float32"]

_WRITTEN = re.compile(
    r"README\.md|config\.json|preprocessor_config\.json|parity\.json|adapter\.safetensors"
    r"|model\.safetensors(\.index\.json)?|model-\d{5}-of-\d{5}\.safetensors"
)
"""The files of a detector folder: only a folder of nothing else is ever replaced."""


def save(
    model: UnmaskForImageClassification,
    folder: str | Path,
    *,
    card: str,
    weights_dtype: WeightsDtype = "float16",
    overwrite: bool = False,
    parity: str | None = None,
) -> Path:
    """Write a detector folder and return it; it appears complete or not at all.

    Args:
        model: As it is to be used: what an adapter learnt must be merged.
        folder: The new folder.
        card: Text of ``README.md``, the model card.
        weights_dtype: Of the tower in the file; the head is always float32. Loading gives float32.
        overwrite: Whether another detector folder may be replaced.
        parity: Text of ``parity.json``, how a converted detector was compared with its source.

    Raises:
        ConfigError: If ``weights_dtype`` is not known, or the model is described as an adapter.
        CorruptWeights: If a weight is not finite.
        IncompatibleWeights: If a weight is beyond the range of float16.
        OutputError: As :func:`new_folder`.
    """
    folder = Path(folder)
    folder = folder.absolute()
    if weights_dtype not in ("float16", "float32"):
        raise ConfigError(f"weights_dtype {weights_dtype!r} is not one of 'float16', 'float32'")
    if model.spec.adapter is not None:
        raise ConfigError(
            "the model's configuration describes an adapter, and whole weights are to be saved; "
            "save it with save_adapter, or leave the adapter out of its configuration"
        )
    check_finite(model, folder)
    with new_folder(folder, overwrite=overwrite) as temporary:
        _write_weights(model, temporary, weights_dtype)
        write_beside_weights(temporary, model.spec, card=card, parity=parity)
    return folder


@contextmanager
def new_folder(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """An empty folder that becomes ``folder`` when the block ends without error.

    Until then nobody else can read it (mode 0700). A link to a folder stays, and what it leads to
    is replaced.

    Raises:
        OutputError: As :func:`check_free`, or if the folder cannot be written.
    """
    folder = folder.absolute()
    temporary: Path | None = None
    try:
        check_free(folder, overwrite=overwrite)
        folder = folder.resolve()
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:200]}.", dir=folder.parent))
        yield temporary
        temporary.chmod(0o755)
        _replace(temporary, folder)
    except UnmaskError:
        raise
    except (OSError, SafetensorError) as error:  # the latter is what its writer makes of the former
        raise OutputError(
            f"{folder} cannot be written: {error}; make room or name another folder"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)  # gone already where all went well


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Nothing, if a detector may be written there: no folder, an empty one, or one to replace.

    Raises:
        OutputError: If it is a file or holds anything but a detector, or ``overwrite`` is not set.
    """
    try:
        is_folder, is_there = folder.is_dir(), folder.exists() or folder.is_symlink()
        is_free = not any(folder.iterdir()) if is_folder else not is_there
        is_detector = is_folder and _is_detector_folder(folder)
    except OSError as error:  # a name beyond length, a folder that may not be read
        raise OutputError(f"{folder} cannot be written: {error}; name another folder") from error
    if is_free:
        return
    if not is_folder:
        raise OutputError(f"{folder} is not a folder; name a new folder for the detector")
    if not is_detector:
        raise OutputError(
            f"{folder} exists and holds something else than a detector, so it is never replaced; "
            "name another folder"
        )
    if not overwrite:
        raise OutputError(
            f"{folder} exists already; name another folder, or allow to overwrite it (--overwrite)"
        )


def _is_detector_folder(folder: Path) -> bool:
    if not all(_WRITTEN.fullmatch(path.name) and path.is_file() for path in folder.iterdir()):
        return False
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and values.get("model_type") == "unmask"


def load_model(folder: Path) -> UnmaskForImageClassification:
    """The model of a detector folder, float32, in evaluation mode.

    Raises:
        ConfigError: If ``config.json`` is missing, damaged or contradicts itself.
        CorruptWeights: If the weights are damaged or not finite.
        IncompatibleWeights: If weights are missing, left over or of another shape.
    """
    config = read_config(folder)
    if not isinstance(config, UnmaskConfig):
        raise IncompatibleWeights(
            f"{folder} is of model_type {config.model_type!r}, not a detector folder ('unmask')"
        )
    if config.adapter is not None:
        raise IncompatibleWeights(
            f"{folder} is an adapter: it holds only what training changed. Load it with "
            "unmask.load, or with load_adapter, which find the tower that it belongs to."
        )
    model = load_strictly(
        UnmaskForImageClassification, folder, config, may_be_left=lambda _key: False
    )
    model.eval()
    return model  # type: ignore[return-value]  # load_strictly gives back the class it is given


def _write_weights(
    model: UnmaskForImageClassification, folder: Path, weights_dtype: WeightsDtype
) -> None:
    # save_pretrained writes the key names that every version of transformers reads. It begins with
    # config.json, which here comes last: a folder without it does not load.
    state = {name: _cast(name, value, weights_dtype) for name, value in model.state_dict().items()}
    within = folder / "weights"
    with quiet():
        model.save_pretrained(within, state_dict=state, max_shard_size="100GB")
    for path in weights_files(within):
        path.rename(folder / path.name)
    shutil.rmtree(within)


def write_beside_weights(
    folder: Path, spec: DetectorSpec, *, card: str, parity: str | None = None
) -> None:
    """Write what a detector folder holds beside its weights, and make those as readable.

    ``config.json`` comes last, so that what was cut short never loads.
    """
    config = spec.to_config()
    config.architectures = [UnmaskForImageClassification.__name__]
    values = json.loads(config.to_json_string())
    # Whatever the file holds, loading computes in float32 and gives the same numbers everywhere.
    values["dtype"] = "float32"
    if spec.adapter is None:
        del values["adapter"]
    card_path = folder / "README.md"
    card_path.write_text(card, encoding="utf-8")
    for weights in weights_files(folder):  # written for the owner alone; as readable as the rest
        weights.chmod(card_path.stat().st_mode)
    _write_json(folder / "preprocessor_config.json", spec.preprocess.to_processor_config())
    if parity is not None:
        (folder / "parity.json").write_text(parity, encoding="utf-8")
    _write_json(folder / "config.json", values)


def _cast(name: str, value: Tensor, weights_dtype: WeightsDtype) -> Tensor:
    if not value.is_floating_point() or name.startswith("head.") or weights_dtype == "float32":
        return value.detach().float() if value.is_floating_point() else value
    cast = value.detach().to(torch.float16)
    if not torch.isfinite(cast).all():
        raise IncompatibleWeights(f"{name} is beyond the range of float16; save as float32")
    return cast


def _write_json(path: Path, values: object) -> None:
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _replace(new: Path, folder: Path) -> None:
    """Put ``new`` in the place of ``folder``; the old content goes only once the new is there."""
    if not folder.exists():
        new.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name[:200]}.old.", dir=folder.parent))
    try:
        folder.replace(old)
        new.rename(folder)
    except BaseException:  # an interruption too: the old content is back, or the new one in place
        if not folder.exists():
            old.rename(folder)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
