"""Whether a tensor of a published file is one that a detector can be made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from unmask.errors import CorruptWeights, IncompatibleWeights
from unmask.files import one_line

__all__ = ["WEIGHTS_DTYPES", "named", "some", "sound"]

WEIGHTS_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Numbers that are weights as they stand. Whole numbers and eight-bit floats are weights only with
scales, which no format here has."""
_SHOWN = 8


def named(path: Path, content: Mapping[object, object]) -> Mapping[str, object]:
    """``content`` where each key is a name.

    Raises:
        IncompatibleWeights: If one is something else.
    """
    for key in content:
        if not isinstance(key, str):
            raise IncompatibleWeights(
                f"{path}: the key {key!r} is a {type(key).__name__}; tensors by name were "
                "expected, as state_dict() gives them"
            )
    return content  # type: ignore[return-value]  # checked above


def sound(path: Path, name: str, value: object) -> Tensor:
    """``value`` where it is a dense tensor of finite floating point numbers.

    Raises:
        CorruptWeights: If it holds values that are not finite, or are beyond float32.
        IncompatibleWeights: If it is no tensor, or of another kind.
    """
    where = f"{path}: {one_line(name)}"
    if not isinstance(value, Tensor):
        raise IncompatibleWeights(
            f"{where} is a {type(value).__name__}; only tensors were expected"
        )
    if value.is_meta:
        raise IncompatibleWeights(
            f"{where} has a shape but no values (it was saved from the meta device); save the "
            "model with its weights loaded"
        )
    if value.layout != torch.strided:
        raise IncompatibleWeights(
            f"{where} is stored as {value.layout}; a dense tensor was expected (to_dense())"
        )
    if value.dtype not in WEIGHTS_DTYPES:
        raise IncompatibleWeights(
            f"{where} holds {value.dtype}; floating point was expected (float16, bfloat16, "
            "float32 or float64)"
        )
    if not torch.isfinite(value).all():
        raise CorruptWeights(
            f"{where} holds values that are not finite; the file is damaged, fetch it again"
        )
    if value.dtype == torch.float64 and not torch.isfinite(value.float()).all():
        raise CorruptWeights(f"{where} holds values beyond the range of float32")
    return value


def some(names: Sequence[str]) -> str:
    """The first few on one line, and how many more there are."""
    more = len(names) - _SHOWN
    shown = ", ".join(one_line(name) for name in names[:_SHOWN])
    return shown + (f" and {more} more" if more > 0 else "")
