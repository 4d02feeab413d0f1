"""Trained residuals under the names that PEFT's OSF adapters have in their files, and back.

OSF (``peft.OSFConfig``) computes the same layer; only names differ. See ``docs/effort.md``.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from unmask.errors import IncompatibleWeights
from unmask.models.residual import RESIDUAL

__all__ = ["from_osf", "to_osf"]

_PREFIX = "base_model.model."
_INFIX = ".osf_svd_params."
_NAMES = dict(zip(RESIDUAL, ("U_low", "S_low", "V_low"), strict=True))


def to_osf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state that ``peft.set_peft_model_state_dict`` takes.

    The OSF model must be made on the same tower, with ``effective_rank`` the number of triples
    that were kept, and ``target_modules`` the same layers.

    Args:
        state: As :func:`unmask.models.effort.adapter_state` gives it.

    Raises:
        IncompatibleWeights: If a key is not that of a residual.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        layer, _, part = key.rpartition(".")
        if part not in _NAMES or not layer:
            raise IncompatibleWeights(
                f"{key!r} is no part of a residual; expected <layer>.{', <layer>.'.join(_NAMES)}"
            )
        renamed[f"{_PREFIX}{layer}{_INFIX}{_NAMES[part]}"] = value
    return renamed


def from_osf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state that :func:`unmask.models.effort.apply_state` takes.

    Args:
        state: As ``peft.get_peft_model_state_dict`` gives it, or as it stands in
            ``adapter_model.safetensors``, of an OSF model of the bare tower.

    Raises:
        IncompatibleWeights: If a key is not that of an OSF adapter.
    """
    parts = {theirs: ours for ours, theirs in _NAMES.items()}
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        layer, infix, part = key.removeprefix(_PREFIX).partition(_INFIX)
        if not key.startswith(_PREFIX) or not infix or part not in parts:
            raise IncompatibleWeights(
                f"{key!r} is no part of an OSF adapter; expected {_PREFIX}<layer>{_INFIX}"
                f"{'|'.join(parts)}"
            )
        renamed[f"{layer}.{parts[part]}"] = value
    return renamed
