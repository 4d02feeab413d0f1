"""Weights files as others publish them, opened without running anything that they hold."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from unmask.errors import ConfigError, CorruptWeights, IncompatibleWeights, MissingSource
from unmask.files import valid_text
from unmask.models.published.tensors import named

__all__ = ["read_tensor_file"]

# What torch.load says of a pickle that wants more than tensors: the name of the Python object.
_OBJECT = re.compile(r"GLOBAL (\S+)")
_ZIP, _PICKLE, _JSON = b"PK\x03\x04", b"\x80", b"{"
# What torch.load was seen to raise on damaged bytes: its reader and the unpickler stumble over
# whatever the damage made of a size, an operation or a name. Found by changing bytes at random.
_STUMBLES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


def read_tensor_file(path: Path) -> Mapping[str, Any]:
    """What a ``.pth``, ``.pt``, ``.bin`` or ``.safetensors`` file holds, on the CPU, by key.

    The content decides which of them it is, not the name. Tensors of a file that torch wrote since
    2020 are mapped from it, and use memory only as they are read.

    The checksums of such a file are compared first, in one more pass over it: torch reads past
    wrong ones.

    Raises:
        ConfigError: If the path is not valid UTF-8, which the readers of weights cannot open.
        MissingSource: If there is no such file.
        CorruptWeights: If it is damaged, or cut short.
        IncompatibleWeights: If it is something else than weights, or a pickle that wants to run
            code when it is opened.
    """
    if valid_text(str(path)) != str(path):
        raise ConfigError(
            f"the name {valid_text(str(path))} is not valid UTF-8, and weights are only read from "
            "names that are; rename it"
        )
    if path.is_dir():
        raise IncompatibleWeights(f"{path} is a folder; a single weights file was expected")
    if not path.is_file():
        raise MissingSource(f"there is no file {path}; check the spelling")
    with path.open("rb") as file:
        start = file.read(512)
    content: object
    if start[8:9] == _JSON:  # eight bytes of length, then the header
        content = _read_safetensors(path)
    elif start.startswith(_ZIP):
        content = _read_torch(path, mapped=True)
    elif start.startswith(_PICKLE):
        content = _read_torch(path, mapped=False)
    else:
        raise IncompatibleWeights(_not_weights(path, start))
    if not isinstance(content, Mapping):
        raise IncompatibleWeights(
            f"{path} holds a {type(content).__name__}; tensors by name were expected, as "
            "state_dict() gives them"
        )
    return named(path, content)


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CorruptWeights(_damaged(path, error)) from error


def _read_torch(path: Path, *, mapped: bool) -> object:
    if mapped:
        _check_sums(path)
    try:
        # torch warns of pickles that it did not write itself; the checks here say what is wrong.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        wanted = _OBJECT.search(str(error))
        if wanted is None:
            raise CorruptWeights(_damaged(path, error)) from error
        raise IncompatibleWeights(
            f"{path} wants {wanted[1]} to be called when it is opened. Only tensors are read, "
            "since such a file may run any program; save its state_dict() alone where you trust "
            "it, and give that file."
        ) from error
    except _STUMBLES as error:
        raise CorruptWeights(_damaged(path, error)) from error


def _check_sums(path: Path) -> None:
    """Raise unless each part of a zip file has its checksum; a piece of it is read at a time."""
    if not zipfile.is_zipfile(path):
        raise CorruptWeights(_damaged(path, "its end is missing"))
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, *_STUMBLES) as error:
        raise CorruptWeights(_damaged(path, error)) from error
    if wrong is not None:
        raise CorruptWeights(_damaged(path, f"the checksum of {wrong} is wrong"))


def _damaged(path: Path, why: object) -> str:
    lines = str(why).splitlines()
    return (
        f"{path} is damaged or cut short ({lines[0] if lines else type(why).__name__}); "
        "fetch it again"
    )


def _not_weights(path: Path, start: bytes) -> str:
    text = start.lstrip().lower()
    if not start:
        what = "is empty; fetch it again"
    elif text.startswith(b"version https://git-lfs"):
        what = "is a pointer of Git LFS, not the weights; fetch them ('git lfs pull')"
    elif text.startswith((b"<!doctype", b"<html", b"<?xml")):
        what = (
            "is a web page, not weights: the download gave a page to look at. Fetch it by its "
            "direct address"
        )
    elif b"\0" not in start and start.isascii():
        what = "is a text file; a weights file (.pth, .pt, .bin, .safetensors) was expected"
    else:
        what = "is of a kind that is not known; .pth, .pt, .bin or .safetensors was expected"
    return f"{path} {what}"
