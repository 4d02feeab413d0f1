"""Kept scores of altered pictures: taken only where they are of the same run as the baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tiny_detectors import noise_image, write_picture
from unmask.errors import OutputError
from unmask.evaluate.altered import kept_cells, score_cells
from unmask.evaluate.robustness import parse_cells
from unmask.evaluate.scoring import score
from unmask.evaluate.table import Meta, Scores
from unmask.models.detector import Detector
from unmask.pipeline import Options, Pipeline
from unmask.types import Sample

CELLS = parse_cells("jpeg@5")
AGAIN = "score again by --overwrite"


@contextmanager
def no_progress(_what: str, _total: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    paths = [write_picture(tmp_path / f"{seed}.png", noise_image(seed)) for seed in range(2)]
    return [Sample(str(path), path, label=label) for label, path in enumerate(paths)]


@pytest.fixture
def pipeline(image_detector: Detector) -> Pipeline:
    return Pipeline(image_detector, Options(workers=0))


@pytest.fixture
def baseline(samples: list[Sample], pipeline: Pipeline, tmp_path: Path) -> Scores:
    """Scores of pictures as they are; those of the altered ones are kept."""
    scores = score(samples, pipeline, seed=0)
    given = {"folder": tmp_path / "kept", "seed": 0, "progress": no_progress}
    list(score_cells(samples, pipeline, CELLS, scores, **given))  # type: ignore[arg-type]
    return scores


def meta_of(scores: Scores, **changed: object) -> Meta:
    return replace(scores.meta, **changed)  # type: ignore[arg-type]


def test_a_table_says_how_it_was_scored(baseline: Scores, pipeline: Pipeline) -> None:
    assert baseline.meta.settings == pipeline.settings()


def test_kept_scores_of_the_same_run_are_taken(baseline: Scores, tmp_path: Path) -> None:
    ((cell, found),) = kept_cells(tmp_path / "kept", CELLS, baseline)
    assert cell == CELLS[0]
    assert found.meta.preprocessing.endswith(baseline.meta.preprocessing)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"preprocessing": "all faces"},
            "another preprocessing .*, not altered by jpeg@5, seed 0; all faces.*",
        ),
        ({"settings": {"temperature": 9.0}}, r"another temperature \(1\.7, not 9\.0\)"),
        ({"settings": {}}, r"another temperature \(1\.7, not not known\)"),
        (
            {"settings": {"temperature": 1.7, "whole_pictures": {"temperature": 0.6}}},
            r"another temperature \(1\.7, not 1\.7, of whole pictures 0\.6\)",
        ),
    ],
)
def test_kept_scores_of_another_treatment_are_refused(
    baseline: Scores, tmp_path: Path, changed: dict[str, object], words: str
) -> None:
    other = replace(baseline, meta=meta_of(baseline, **changed))
    with pytest.raises(OutputError, match=f"{words}.*{AGAIN}"):
        list(kept_cells(tmp_path / "kept", CELLS, other))


def test_kept_scores_at_another_operating_point_are_refused(
    baseline: Scores, tmp_path: Path
) -> None:
    point = baseline.meta.operating_point
    assert point is not None
    other = meta_of(baseline, operating_point=replace(point, fake_at=0.95))
    words = rf"another operating point \({point.name} 0\.4 to 0\.6, not {point.name} 0\.4 to 0\.95"
    with pytest.raises(OutputError, match=words):
        list(kept_cells(tmp_path / "kept", CELLS, replace(baseline, meta=other)))


def test_kept_scores_of_another_temperature_are_not_gone_on_with(
    baseline: Scores, samples: list[Sample], pipeline: Pipeline, tmp_path: Path
) -> None:
    spec = replace(pipeline.detector.model.spec, temperature=3.0)
    given = {"folder": tmp_path / "kept", "seed": 0, "progress": no_progress}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.detector.model, "spec", spec)
        other = Pipeline(pipeline.detector, pipeline.options)
        now = score(samples, other, seed=0)
        with pytest.raises(OutputError, match="another temperature"):
            list(score_cells(samples, other, CELLS, now, **given))  # type: ignore[arg-type]


def test_another_seed_of_the_resamples_reads_the_same_alterations(
    baseline: Scores, tmp_path: Path
) -> None:
    other = replace(baseline, meta=meta_of(baseline, seed=5))
    assert len(list(kept_cells(tmp_path / "kept", CELLS, other))) == 1
