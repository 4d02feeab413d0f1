"""What a tower holds, as hashes that do not depend on the file it came from.

The same weights have the same fingerprint whether they were read from ``.bin`` or
``.safetensors``, as part of a whole CLIP or as a bare tower, and by whichever version of
transformers: tensors go by the names that published files have, not by those of the installed
modules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers.core_model_loading import revert_weight_conversion

from unmask.errors import IncompatibleWeights

__all__ = ["content_sha256", "published_names", "tensor_digests"]

_PREFIX = "vision_model."
"""Stands before a tower's names where it was saved with its projection, or as part of a CLIP."""


def published_names(tower: nn.Module) -> dict[str, str]:
    """The name in published files of each entry of a plain tower's ``state_dict``.

    transformers renames modules from one version to the next, and maps the names back when it
    saves. A tower that it saves in other pieces than it computes with keeps its own names.

    Raises:
        IncompatibleWeights: If two entries would have one name.
    """
    own = list(tower.state_dict())
    # Each entry carries its number, by which it is found again under its other name.
    numbered = {name: torch.tensor(number) for number, name in enumerate(own)}
    published = revert_weight_conversion(tower, numbered)
    names = dict(zip(own, own, strict=True))
    if sorted(int(value) for value in published.values() if value.ndim == 0) == [*range(len(own))]:
        names |= {own[int(number)]: name for name, number in published.items()}
    names = {mine: name.removeprefix(_PREFIX) for mine, name in names.items()}
    if len(set(names.values())) != len(names):
        raise IncompatibleWeights(
            f"{type(tower).__name__} has two tensors of one name beside {_PREFIX!r}; its content "
            "cannot be named, so save the detector merged"
        )
    return names


def tensor_digests(tower: nn.Module) -> dict[str, str]:
    """SHA-256 of shape and values of each tensor of a plain tower, by its published name.

    Values count as float32, whole numbers as they are, both in little-endian order.
    """
    names = published_names(tower)
    return {names[name]: _digest(value) for name, value in tower.state_dict().items()}


def content_sha256(digests: Mapping[str, str]) -> str:
    """One hash of a whole tower, of what :func:`tensor_digests` gives."""
    lines = (f"{name} {digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _digest(value: Tensor) -> str:
    value = value.detach().cpu()
    array = (value.float() if value.is_floating_point() else value).contiguous().numpy()
    hashed = hashlib.sha256(f"{list(array.shape)}".encode())
    hashed.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return hashed.hexdigest()
