"""Where and in which precision a detector computes; asked when it is used, never at import."""

from __future__ import annotations

import torch

from unmask.errors import ConfigError, near_names

__all__ = ["choose_device", "choose_dtype"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """The named device; ``auto`` takes CUDA, else MPS, else the CPU.

    Raises:
        ConfigError: On a name that torch does not know, or a device this machine does not have;
            lists those it has.
    """
    there = _available()
    if name == "auto":
        return torch.device(there[0])
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"device {name!r} is not known; use auto, {', '.join(there)} or cuda:<number>"
        ) from error
    absent = device.type not in there
    if device.type == "cuda" and device.index is not None:
        absent = device.index >= torch.cuda.device_count()
    if absent:
        raise ConfigError(
            f"device {name!r} is not available here; there is {', '.join(there)}. "
            "Leave --device out to take the best one."
        )
    return device


def choose_dtype(name: str = "auto", device: torch.device | None = None) -> torch.dtype:
    """The precision of the tower; ``auto`` is float32, which every device computes alike.

    Raises:
        ConfigError: On an unknown name, or bfloat16 on a GPU that cannot compute it.
    """
    if name == "auto":
        return torch.float32
    if name not in _DTYPES:
        raise ConfigError(f"dtype {name!r} is not known. {near_names(name, ['auto', *_DTYPES])}")
    is_cuda = device is not None and device.type == "cuda"
    if name == "bfloat16" and is_cuda and not torch.cuda.is_bf16_supported():
        raise ConfigError("this GPU does not compute bfloat16; use --dtype float16 or float32")
    return _DTYPES[name]


def _available() -> list[str]:
    """Kinds of device, the preferred one first."""
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    if torch.cuda.is_available():
        there.insert(0, "cuda")
    return there
