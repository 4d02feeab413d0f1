"""Which weights of a training are kept, and when it stops early; on validation data only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from unmask.train.probe import Row, Validation

__all__ = ["Evaluation", "Selection"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The validation part, scored after so many steps."""

    step: int
    validation: Validation

    @property
    def score(self) -> float:
        """What the choice goes by: the mean of the data sets' AUC, a video counting once."""
        return self.validation.macro_auc

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"step": self.step, "mean_auc": self.score, **asdict(self.validation)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Evaluation:
        """The inverse of :meth:`to_dict`."""
        rows = tuple(Row(**row) for row in values["rows"])
        return cls(values["step"], Validation(rows, values["recall_at_fpr5"]))


@dataclass(frozen=True, slots=True)
class Selection:
    """All evaluations of a training so far, in order."""

    evaluations: tuple[Evaluation, ...] = ()

    def after(self, evaluation: Evaluation) -> Selection:
        """With one more."""
        return replace(self, evaluations=(*self.evaluations, evaluation))

    @property
    def best(self) -> Evaluation | None:
        """The highest score; of equal ones the earliest."""
        return max(self.evaluations, key=lambda one: one.score, default=None)

    @property
    def is_best(self) -> bool:
        """Whether the last one is the best."""
        return bool(self.evaluations) and self.best is self.evaluations[-1]

    def is_over(self, patience: int | None) -> bool:
        """Whether the last ``patience`` evaluations were all no better than one before."""
        best = self.best
        if patience is None or best is None:
            return False
        return len(self.evaluations) - 1 - self.evaluations.index(best) >= patience

    def to_list(self) -> list[dict[str, Any]]:
        """Ready for JSON."""
        return [one.to_dict() for one in self.evaluations]

    @classmethod
    def from_list(cls, values: Sequence[Mapping[str, Any]]) -> Selection:
        """The inverse of :meth:`to_list`."""
        return cls(tuple(Evaluation.from_dict(one) for one in values))
