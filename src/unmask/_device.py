"""Where and in which precision a detector computes; asked when it is used, never at import."""

from __future__ import annotations

import platform
import warnings

import torch

from unmask.errors import ConfigError, UnmaskWarning, near_names

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

    Warns where a processor has no instructions for the precision: its results are sound, and take
    many times as long as those of float32.

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
    if name != "float32" and device is not None and device.type == "cpu" and _halves_are_slow():
        warnings.warn(
            f"{name} on this processor, which has no instructions for it, takes many times as "
            "long as float32; use --dtype float32",
            UnmaskWarning,
            stacklevel=2,
        )
    return _DTYPES[name]


def _halves_are_slow() -> bool:
    """Whether numbers of 16 bits are computed one by one: x86 without AVX-512."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return x86 and torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX", "AVX", "AVX2")


def _available() -> list[str]:
    """Kinds of device, the preferred one first."""
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    if torch.cuda.is_available():
        there.insert(0, "cuda")
    return there
