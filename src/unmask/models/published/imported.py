"""What reading a published detector gives, whatever its format was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor

from unmask.models.modeling import UnmaskForImageClassification

__all__ = ["Imported", "KeyFate", "Kind"]

Kind = Literal["effort", "univfd", "gend", "hf"]


@dataclass(frozen=True, slots=True)
class KeyFate:
    """What became of one tensor of the published file."""

    key: str
    """As the file has it."""
    target: str | None
    """Of our model, as in its ``state_dict``; None where the tensor was dropped."""
    reason: str = ""
    """Why it was dropped, or how it was changed."""


@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """A published detector as one of ours, and the means to prove that it is the same."""

    kind: Kind
    model: UnmaskForImageClassification
    """Merged, float32, in evaluation mode."""
    keys: tuple[KeyFate, ...]
    """Every tensor of the source, in its order."""
    original: Callable[[Tensor], Tensor]
    """Logits ``(B,)`` of pixels ``(B, 3, H, W)``, positive = fake, computed as the publisher does
    it and from the source's own tensors, not from :attr:`model`."""
    files: tuple[Path, ...]
    """The weights that were read."""
    notes: tuple[str, ...] = ()
    """What was decided without the source saying so, one sentence each."""
    trained: Mapping[str, Tensor] = field(default_factory=dict)
    """What an adapter stores, by its key (see ``unmask.models.adapter``), where the source says
    what training changed; empty where only the whole tower is known."""
