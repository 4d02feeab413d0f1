"""What a training shows on stderr while it runs: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unmask.train.logs import Step
    from unmask.train.loop import Report
    from unmask.train.selection import Evaluation

__all__ = ["step_report"]

_EVERY_S = 60.0
"""Between lines where stderr is no terminal; each evaluation has one, too."""
_RECENT = 0.95
"""Weight of the past in the mean loss and rate that are shown."""


@contextmanager
def step_report(*, quiet: bool = False) -> Iterator[Report]:
    """A function to call after each step: loss, rate and time left; quiet, it tells nothing."""
    shown = _Shown()
    if quiet:
        yield lambda _step, _evaluation: None
        return
    if not sys.stderr.isatty():
        yield shown.line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("steps", total=None)

        def report(step: Step, evaluation: Evaluation | None) -> None:
            text = shown.text(step, evaluation)
            bar.update(task, completed=step.step, total=step.steps, description=text)

        yield report


class _Shown:
    """Means over the recent steps, and the last evaluation."""

    def __init__(self) -> None:
        self._loss: float | None = None
        self._rate: float | None = None
        self._auc = ""
        self._told = time.monotonic()

    def text(self, step: Step, evaluation: Evaluation | None) -> str:
        """One line about a step."""
        self._loss = _mean(self._loss, step.loss)
        self._rate = _mean(self._rate, step.rate)
        if evaluation is not None:
            self._auc = f"  val AUC {evaluation.score:.3f}"
        left = (step.steps - step.step) * step.crops / self._rate
        return (
            f"mean loss {self._loss:.4f}  lr {step.lr:.2g}  {self._rate:.1f} crops/s  "
            f"left {_clock(left)}{self._auc}"
        )

    def line(self, step: Step, evaluation: Evaluation | None) -> None:
        """A line on stderr, if it is time for one."""
        text = self.text(step, evaluation)
        now = time.monotonic()
        if evaluation is not None or now - self._told >= _EVERY_S:
            self._told = now
            sys.stderr.write(f"step {step.step}/{step.steps}  {text}\n")


def _mean(before: float | None, now: float) -> float:
    return now if before is None else _RECENT * before + (1 - _RECENT) * now


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
