"""Where transformers puts each tensor of a file, whatever it is called in the modules.

Names in published files and names in modules differ, and differ from version to version. Loading
tensors that hold nothing but their number shows which of them goes where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedConfig

from unmask.models.weights import quiet

__all__ = ["blanks", "targets"]


def blanks(files: Sequence[Path]) -> dict[str, Tensor]:
    """Tensors on the meta device of the names, shapes and kinds that sound files hold."""
    found: dict[str, Tensor] = {}
    for path in files:
        if path.suffix != ".safetensors":
            found.update(torch.load(path, map_location="meta", weights_only=True))
            continue
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118  # not a mapping
                part = file.get_slice(key)
                kind = torch.float32 if "F" in part.get_dtype() else torch.int64
                found[key] = torch.empty(part.get_shape(), dtype=kind, device="meta")
    return found


def targets(
    kind: Any,  # noqa: ANN401  # a transformers class, untyped
    config: PreTrainedConfig,
    tensors: Mapping[str, Tensor],
    **options: bool,
) -> dict[str, tuple[str, ...]]:
    """For each tensor the entries of the model's ``state_dict`` that are made of it; often one.

    Args:
        kind: A transformers class.
        config: What to build.
        tensors: By the names that ``kind.from_pretrained`` understands; only their shapes and
            whether they hold whole numbers count.
        **options: Passed to the constructor.
    """
    # A scalar seen as a tensor of any shape uses no memory.
    numbered = {
        key: torch.tensor(
            number, dtype=torch.float32 if tensor.is_floating_point() else torch.int64
        ).expand(tensor.shape)
        for number, (key, tensor) in enumerate(tensors.items())
    }
    with quiet():
        model = kind.from_pretrained(
            None,
            config=config,
            state_dict=numbered,
            dtype=torch.float32,
            trust_remote_code=False,
            **options,
        )
    names = list(tensors)
    found: dict[str, list[str]] = {key: [] for key in names}
    for name, value in model.state_dict().items():
        for number in _values(value):
            found[names[number]].append(name)
    return {key: tuple(made) for key, made in found.items()}


def _values(value: Tensor) -> list[int]:
    first = value.flatten()[0]
    if (value == first).all():
        return [int(first)]
    return [int(number) for number in torch.unique(value)]
