"""What reading a published detector gives, whatever its format was."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor

from unmask.models.modeling import UnmaskForImageClassification

__all__ = ["Imported", "KeyFate", "Kind", "key_report"]

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


def key_report(keys: Sequence[KeyFate]) -> list[str]:
    """Lines that say what became of the tensors of a file, those of equal layers together.

    A target is ``merged`` where several tensors went into it, ``mapped`` where one did; dropped
    tensors stand last, with the reason.
    """
    sources: dict[str, int] = {}
    for fate in keys:
        if fate.target is not None:
            sources[fate.target] = sources.get(fate.target, 0) + 1
    mapped: dict[tuple[str, str], int] = {}
    for target, count in sources.items():
        group = _pattern(target), "merged" if count > 1 else "mapped"
        mapped[group] = mapped.get(group, 0) + 1
    dropped: dict[tuple[str, str], int] = {}
    for fate in keys:
        if fate.target is None:
            group = _pattern(fate.key), fate.reason
            dropped[group] = dropped.get(group, 0) + 1
    return [f"{name}: {count} {how}" for (name, how), count in mapped.items()] + [
        f"{name}: {count} dropped ({reason})" for (name, reason), count in dropped.items()
    ]


def _pattern(key: str) -> str:
    """The key with a star for each number in it that stands alone: ``layers.*.bias``."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", key)
