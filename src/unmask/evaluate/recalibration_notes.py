"""What a reader of a calibration must know of its data, in sentences."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unmask.evaluate.counts import Labels
from unmask.evaluate.table import Scores

__all__ = ["about_data"]


def about_data(scores: Scores, groups: npt.NDArray[np.intp], n_repeated: int) -> tuple[str, ...]:
    """What the numbers do not say by themselves; empty where there is nothing.

    Args:
        scores: ``(N,)`` what was fitted to: each file once, with a label.
        groups: ``(N,)`` videos or identities, by number.
        n_repeated: How many copies were left out.
    """
    return (
        *_about_copies(n_repeated),
        *_about_groups(scores.label, groups),
        *_about_reals(scores),
    )


def _about_copies(n_repeated: int) -> tuple[str, ...]:
    """That copies do not count, where there are any."""
    if not n_repeated:
        return ()
    return (
        f"{n_repeated} item{'s have' if n_repeated > 1 else ' has'} the bytes of another one; each "
        "file counts once",
    )


def _about_groups(labels: Labels, groups: npt.NDArray[np.intp]) -> tuple[str, ...]:
    """That intervals are too narrow, where several reals are of one group."""
    n_real, n_groups = int(np.sum(labels == 0)), len(np.unique(groups[labels == 0]))
    if n_groups == n_real:
        return ()
    return (
        f"the {n_real} reals come from {n_groups} groups (videos, identities), and the intervals "
        "of the false-positive rate count them as independent: they are too narrow",
    )


def _about_reals(scores: Scores) -> tuple[str, ...]:
    """For what the thresholds do not stand: reals of other data sets, fakes that were not there."""
    parts = []
    if len(np.unique(scores.dataset[scores.label == 0])) == 1:
        parts.append("all reals are of one source, so the thresholds hold for pictures like these")
    if not scores.label.any():
        parts.append("without fakes nothing is known of the share of fakes that is called real")
    return (", and ".join(parts),) if parts else ()
