"""The part of ``unmask evaluate`` that --perturb asks for: altered pictures scored and measured."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.cli.evaluate_outputs import ALTERED
from unmask.cli.progress import stage

if TYPE_CHECKING:
    from unmask.cli.evaluate_request import Run
    from unmask.evaluate.evaluation import Evaluation
    from unmask.evaluate.robustness import Cell
    from unmask.evaluate.table import Scores
    from unmask.labelled import Listing
    from unmask.pipeline import Pipeline

__all__ = ["forget_altered", "say_passes", "with_altered"]


def say_passes(cells: Sequence[Cell], items: int, folder: Path) -> None:
    """A line on stderr: how often --perturb scores everything again, and what of it is done."""
    from unmask.evaluate.altered import cell_path

    passes = len(cells)
    kept = sum(cell_path(folder, cell).exists() for cell in cells)
    sys.stderr.write(
        f"--perturb: {passes} further {'pass' if passes == 1 else 'passes'} over {items} "
        f"{'item' if items == 1 else 'items'}, one per alteration"
        f"{f'; {kept} of them done before' if kept else ''}\n"
    )


def with_altered(
    run: Run,
    listing: Listing,
    scores: Scores,
    pipeline: Pipeline | None,
    evaluation: Evaluation,
    folder: Path,
    timing: dict[str, float],
) -> Evaluation:
    """The evaluation with what becomes of it when the pictures are altered.

    Args:
        run: What was asked for.
        listing: The samples; none where their scores were read.
        scores: Of the pictures as they are.
        pipeline: Scores the altered ones; None where their scores are kept beside those.
        evaluation: Of the pictures as they are.
        folder: Of the output.
        timing: Gets the number of items that an interrupted run had scored.
    """
    from unmask.evaluate.altered import kept_cells, score_cells
    from unmask.evaluate.robustness import robustness

    if pipeline is None:
        altered = kept_cells(run.wanted.tables[0].parent / ALTERED, run.cells, scores)
    else:
        before = _remembered(run, pipeline, folder / ALTERED, len(listing.samples))
        if before:
            timing["resumed_from"] = timing.get("resumed_from", 0) + before
        altered = score_cells(
            listing.samples,
            pipeline,
            run.cells,
            scores,
            folder=folder / ALTERED,
            seed=run.choices.seed,
            progress=stage,
            without_frames=listing.without_frames,
        )
    cells, moved = robustness(scores, altered, evaluation.threshold, run.choices)
    return replace(evaluation, robustness=cells, stability=moved)


def _remembered(run: Run, pipeline: Pipeline, folder: Path, items: int) -> int:
    """How many altered pictures an interrupted run has scored."""
    from unmask.evaluate.altered import alteration_of, cell_path
    from unmask.ledger import Ledger, ledger_path

    found = 0
    for cell in run.cells:
        path = cell_path(folder, cell)
        if path.exists():
            found += items
        elif ledger_path(path).exists():
            changed = pipeline.altered(alteration_of(cell, seed=run.choices.seed))
            with Ledger(ledger_path(path), changed.settings()) as ledger:
                found += len(ledger)
    return found


def forget_altered(folder: Path) -> None:
    """Remove the scores of altered pictures, if there are any."""
    if folder.is_dir():
        from unmask.evaluate.altered import forget_cells

        forget_cells(folder)
