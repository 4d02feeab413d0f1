"""What a training tells while it runs: JSON lines, and the same for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unmask.errors import OutputError
from unmask.files import replacing, valid_text
from unmask.train.selection import Evaluation

__all__ = ["Step", "TrainingLog", "read_log"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step, as it is told."""

    step: int
    """From 1: how many are done."""
    steps: int
    """How many there will be."""
    epoch: float
    losses: Mapping[str, float]
    """The weighted parts by name; their sum is minimised."""
    lr: float
    """Of weights without a rate of their own (``head_lr``, ``layer_decay``)."""
    gradient_norm: float
    """Before it is clipped."""
    seconds: float
    """Since the last step."""
    crops: int
    """In a step."""

    @property
    def rate(self) -> float:
        """Crops per second."""
        return self.crops / self.seconds

    @property
    def loss(self) -> float:
        """The sum of the parts."""
        return sum(self.losses.values())

    def to_dict(self) -> dict[str, Any]:
        """One line of the log."""
        return {
            "step": self.step,
            "epoch": round(self.epoch, 4),
            "loss": self.loss,
            **self.losses,
            "lr": self.lr,
            "gradient_norm": self.gradient_norm,
            "crops_per_s": round(self.rate, 2),
        }


class TrainingLog:
    """The log of a training in ``folder``; lines after ``step`` of an earlier attempt are cut off.

    Args:
        path: ``log.jsonl``; TensorBoard's files go to the folder ``tensorboard`` beside it.
        step: The last step that counts.
    """

    def __init__(self, path: Path, *, step: int) -> None:
        from tensorboardX import SummaryWriter

        kept = [line for line in read_log(path) if line["step"] <= step]
        with replacing(path) as file:
            file.writelines(json.dumps(line) + "\n" for line in kept)
        self._file = path.open("a", encoding="utf-8")
        # purge_step hides what an attempt that was killed wrote for later steps.
        self._board = SummaryWriter(str(path.parent / "tensorboard"), purge_step=step + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._board.close()

    def step(self, step: Step) -> None:
        """Write one step."""
        line = step.to_dict()
        self._write(line)
        for name in ("loss", *step.losses, "lr", "gradient_norm", "crops_per_s"):
            self._board.add_scalar(f"train/{name}", line[name], step.step)

    def evaluation(self, evaluation: Evaluation) -> None:
        """Write one evaluation."""
        self._write({"step": evaluation.step, "validation": evaluation.to_dict()})
        self._board.add_scalar("validation/mean_auc", evaluation.score, evaluation.step)
        for row in evaluation.validation.rows:
            name = valid_text(row.dataset)
            self._board.add_scalar(f"validation/auc/{name}", row.auc, evaluation.step)

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; none where there is no file, and none that was cut short.

    Raises:
        OutputError: If a line is damaged.
    """
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        if not line:
            continue
        try:
            found.append({**json.loads(line)})
            if type(found[-1]["step"]) is not int:
                raise TypeError("step")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise OutputError(
                f"{path}, line {number} is damaged; remove it, or begin anew with --overwrite"
            ) from error
    return found
