"""What altered pictures do: the list of alterations, the matrix, stability, and kept scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest

from tiny_detectors import noise_image, write_picture
from unmask.errors import ConfigError, MissingSource, OutputError, ScoresError, UnsupportedMedia
from unmask.evaluate import altered
from unmask.evaluate.altered import (
    alteration_of,
    cell_path,
    forget_cells,
    kept_cells,
    score_cells,
)
from unmask.evaluate.evaluation import Threshold
from unmask.evaluate.intervals import clopper_pearson
from unmask.evaluate.robustness import (
    Cell,
    matrix,
    parse_cells,
    robustness,
    stability,
)
from unmask.evaluate.scoring import score
from unmask.evaluate.summary import Choices
from unmask.evaluate.table import Scores, texts
from unmask.ledger import ledger_path
from unmask.models.detector import Detector
from unmask.pipeline import Options, Pipeline
from unmask.types import Sample

Cells = Callable[..., list[tuple[Cell, Scores]]]
CHOICES = Choices(bootstraps=20)
JPEG = Cell("jpeg", 3)
HALF = Threshold(0.5, "fixed")


@contextmanager
def no_progress(_what: str, _total: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


def table(p_fake: Sequence[float], datasets: str | None = None, **columns: object) -> Scores:
    """Reals and fakes in turns, each item its own group."""
    n = len(p_fake)
    empty = texts([""] * n)
    scores = Scores(
        source=texts(f"s{number}" for number in range(n)),
        dataset=texts(datasets or "a" * n),
        generator=empty,
        group=empty,
        video=empty,
        split=empty,
        label=np.array([number % 2 for number in range(n)], np.int8),
        status=texts("no_face" if np.isnan(p) else "ok" for p in p_fake),
        p_fake=np.array(p_fake, np.float64),
        logit=np.zeros(n),
        reasons=empty,
        messages=empty,
        sha256=empty,
        elapsed_ms=np.zeros(n),
    )
    return replace(scores, **columns)  # type: ignore[arg-type]


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    paths = [write_picture(tmp_path / f"{seed}.png", noise_image(seed)) for seed in range(6)]
    return [
        Sample(str(path), path, label=seed % 2, dataset="d", group=f"g{seed}")
        for seed, path in enumerate(paths)
    ]


@pytest.fixture
def pipeline(image_detector: Detector) -> Pipeline:
    return Pipeline(image_detector, Options(workers=0))


@pytest.fixture
def baseline(samples: list[Sample], pipeline: Pipeline) -> Scores:
    return score(samples, pipeline)


@pytest.fixture
def cells(samples: list[Sample], pipeline: Pipeline, baseline: Scores, tmp_path: Path) -> Cells:
    def run(asked: str = "jpeg@5", **changed: object) -> list[tuple[Cell, Scores]]:
        given = {"folder": tmp_path / "kept", "seed": 0, "progress": no_progress, **changed}
        by = given.pop("pipeline", pipeline)
        return list(score_cells(samples, by, parse_cells(asked), baseline, **given))  # type: ignore[arg-type]

    return run


def test_a_kind_without_severity_stands_for_all_five() -> None:
    assert parse_cells("blur") == tuple(Cell("blur", severity) for severity in range(1, 6))


def test_severities_are_one_or_a_range() -> None:
    assert [cell.name for cell in parse_cells("jpeg@3, resize@1-2")] == [
        "jpeg@3",
        "resize@1",
        "resize@2",
    ]


def test_all_is_every_kind() -> None:
    assert len({cell.kind for cell in parse_cells("all@3")}) == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jpg@3", "Did you mean 'jpeg'"),
        ("jpeg:60", "severities 1 to 5 of jpeg are 90, 75, 60, 40, 20"),
        ("jpeg@6", "a severity from 1 to 5"),
        ("jpeg@", "a severity from 1 to 5"),
        ("jpeg@1-x", "a severity from 1 to 5"),
        ("jpeg@3-1", "the range is empty; give 1-3"),
        ("jpeg@3,jpeg", "jpeg@3 is named twice"),
        ("", "not known"),
    ],
)
def test_a_list_that_is_not_understood_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_cells(text)


def test_the_matrix_begins_with_the_pictures_as_they_are() -> None:
    scores = table([0.1, 0.9, 0.2, 0.8])
    found, _ = robustness(scores, [(JPEG, scores)], HALF, CHOICES)
    assert [(each.kind, each.severity, each.dataset) for each in found] == [
        ("none", 0, "a"),
        ("jpeg", 3, "a"),
    ]


def test_a_cell_has_the_auc_of_its_scores_with_its_interval() -> None:
    (found,) = matrix(table([0.1, 0.9, 0.8, 0.3, 0.2, 0.7]), "jpeg", 1, HALF, CHOICES)
    assert found.auc.interval is not None
    assert found.auc.interval.value == pytest.approx(7 / 9)
    assert found.auc.interval.low < 7 / 9 < found.auc.interval.high


def test_coverage_falls_where_faces_are_no_longer_found() -> None:
    (found,) = matrix(table([0.1, 0.9, np.nan, 0.3]), "blur", 5, HALF, CHOICES)
    assert (found.coverage.given, found.coverage.scored) == (4, 3)
    assert found.coverage.missing == {"no_face": 1}


def test_a_data_set_of_one_class_has_a_reason_and_no_auc() -> None:
    scores = table([0.1, 0.9], label=np.array([1, 1], np.int8))
    (found,) = matrix(scores, "jpeg", 1, HALF, CHOICES)
    assert found.auc.interval is None
    assert "no reals" in found.auc.reason or "needs" in found.auc.reason


def test_the_mean_is_over_data_sets_with_both_classes() -> None:
    labels = np.array([0, 1, 0, 1, 1, 1], np.int8)
    scores = table([0.1, 0.9, 0.8, 0.2, 0.5, 0.5], datasets="aabbcc", label=labels)
    *_, mean = matrix(scores, "jpeg", 1, HALF, CHOICES)
    assert mean.dataset == "mean"
    assert mean.auc.interval is not None
    assert mean.auc.interval.value == 0.5


def test_a_data_set_that_lost_a_class_does_not_vanish_from_the_mean() -> None:
    # Without this the mean would rise when the hardest data set is no longer scored.
    scores = table([0.1, 0.9, np.nan, 0.2], datasets="aabb")
    *_, mean = matrix(scores, "jpeg", 1, HALF, CHOICES)
    assert mean.auc.interval is None
    assert "b" in mean.auc.reason


def test_joined_data_sets_are_one_row() -> None:
    choices = replace(CHOICES, joins=(("a", "b"),))
    (found,) = matrix(table([0.1, 0.9, 0.8, 0.2], datasets="abab"), "jpeg", 1, HALF, choices)
    assert found.dataset == "a+b"


def test_stability_is_of_the_items_scored_both_times() -> None:
    before, after = table([0.1, 0.9, 0.4, 0.6]), table([0.2, 0.9, 0.6, np.nan])
    found = stability(before, after, JPEG, HALF)
    assert found is not None
    assert (found.kind, found.severity, found.n) == ("jpeg", 3, 3)
    assert found.median_shift == pytest.approx(0.1)
    assert found.p95_shift == pytest.approx(0.19)
    assert found.flipped == pytest.approx(1 / 3)


def test_nothing_scored_both_times_has_no_stability() -> None:
    assert stability(table([0.1]), table([np.nan]), JPEG, HALF) is None


BAND = Threshold(0.6, "made up", 0.3)


def test_a_verdict_that_becomes_inconclusive_is_one_that_changes() -> None:
    # Crossings of the threshold alone would say that one answer in four changes.
    before, after = table([0.1, 0.9, 0.2, 0.9]), table([0.5, 0.5, 0.2, 0.8])
    found = stability(before, after, JPEG, BAND)
    assert found is not None
    assert (found.changed, found.flipped) == (0.5, 0.25)


def test_at_the_ends_of_the_band_a_verdict_is_that_of_a_scan() -> None:
    # Fake from 0.6 on and real below 0.3, so that both ends move nothing.
    found = stability(table([0.6, 0.3]), table([0.9, 0.59]), JPEG, BAND)
    assert found is not None
    assert found.changed == 0


def test_without_a_band_verdicts_change_where_the_threshold_is_crossed() -> None:
    found = stability(table([0.1, 0.9, 0.4]), table([0.4, 0.4, 0.6]), JPEG, HALF)
    assert found is not None
    assert found.changed == found.flipped == pytest.approx(2 / 3)


def test_stability_is_told_of_each_class() -> None:
    before, after = table([0.1, 0.9, 0.1, 0.9]), table([0.7, 0.9, 0.1, 0.8])
    found = stability(before, after, JPEG, HALF)
    assert found is not None
    assert found.reals is not None
    assert found.fakes is not None
    assert astuple(found.reals) == pytest.approx((0.3, 0.57, 0.5, 0.5, 2))
    assert astuple(found.fakes) == pytest.approx((0.05, 0.095, 0.0, 0.0, 2))


def test_a_class_that_is_not_there_has_no_stability() -> None:
    reals = table([0.1, 0.2], label=np.array([0, 0], np.int8))
    found = stability(reals, reals, JPEG, HALF)
    assert found is not None
    assert found.reals is not None
    assert found.fakes is None


def test_a_cell_has_the_rates_at_the_detectors_own_threshold() -> None:
    scores = table([0.1, 0.9, 0.7, 0.65, 0.2, 0.3, 0.1, 0.9])
    (found,) = matrix(scores, "jpeg", 1, BAND, CHOICES)
    assert found.fpr is not None
    assert found.tpr is not None
    rates = [each.interval for each in (found.fpr, found.tpr)]
    assert [each.value for each in rates if each] == [0.25, 0.75]
    assert all(each.low < each.value < each.high for each in rates if each)


def test_a_rate_of_nothing_has_the_exact_interval() -> None:
    (found,) = matrix(table([0.1, 0.9] * 4), "jpeg", 1, HALF, CHOICES)
    assert found.fpr is not None
    assert found.fpr.interval == clopper_pearson(0, 4)


@pytest.mark.parametrize(("label", "there", "lacks"), [(0, "fpr", "tpr"), (1, "tpr", "fpr")])
def test_one_class_has_its_rate_though_not_the_auc(label: int, there: str, lacks: str) -> None:
    scores = table([0.1, 0.9], label=np.array([label] * 2, np.int8))
    (found,) = matrix(scores, "jpeg", 1, HALF, CHOICES)
    assert getattr(found, there).interval.value == 0.5
    assert getattr(found, lacks).interval is None
    assert found.auc.interval is None


def test_the_mean_of_data_sets_of_reals_is_that_of_their_false_alarms() -> None:
    labels = np.zeros(4, np.int8)
    scores = table([0.1, 0.9, 0.8, 0.9], datasets="aabb", label=labels)
    *_, mean = matrix(scores, "jpeg", 1, HALF, CHOICES)
    assert mean.dataset == "mean"
    assert mean.fpr is not None
    assert mean.fpr.interval is not None
    assert mean.fpr.interval.value == 0.75


def test_a_cell_says_what_was_counted() -> None:
    videos = texts(["v", "w", "", ""])
    scores = table([0.1, 0.9, 0.2, 0.8], datasets="aabb", video=videos)
    found = matrix(scores, "jpeg", 1, HALF, CHOICES)
    assert [(each.dataset, each.unit, each.mixed) for each in found] == [
        ("a", "video", False), ("b", "picture", False), ("mean", "video", True),
    ]  # fmt: skip


def test_scores_of_other_items_are_refused() -> None:
    with pytest.raises(ScoresError, match="not of the 2 items"):
        stability(table([0.1, 0.2]), table([0.1]), JPEG, HALF)


def test_altered_pictures_have_other_scores_of_the_same_files(
    cells: Cells, baseline: Scores
) -> None:
    ((_, found),) = cells()
    assert found.sha256.tolist() == baseline.sha256.tolist()
    assert (found.p_fake != baseline.p_fake).all()


def test_results_say_what_their_pictures_went_through(
    cells: Cells,
) -> None:
    ((_, found),) = cells("noise@2", seed=4)
    assert found.meta.preprocessing.startswith("altered by noise@2, seed 4; whole picture; ")


def test_the_alteration_is_part_of_the_settings(pipeline: Pipeline) -> None:
    before = pipeline.settings()
    changed = pipeline.altered(alteration_of(JPEG, seed=1)).settings()
    prepared = f"altered by jpeg@3, seed 1; {before['preprocessing']}"
    assert changed == {**before, "preprocessing": prepared}


def test_the_same_picture_draws_the_same_noise_and_another_seed_another() -> None:
    image = noise_image(0)
    first, again, other = (
        alteration_of(Cell("noise", 3), seed=seed).change(image, "ab") for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_the_face_is_looked_for_in_the_altered_picture(
    face_detector: Detector, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(altered, "apply_change", lambda image, _change, **_: image * 0)
    pipeline = Pipeline(face_detector, Options(workers=0)).altered(alteration_of(JPEG, seed=0))
    (result,) = pipeline([Sample("portrait", portrait)])
    assert result.status == "no_face"


def test_a_picture_beyond_the_codec_is_listed_and_the_others_go_on(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    wide = write_picture(tmp_path / "wide.png", np.zeros((2, 16_400, 3), np.uint8))
    changed = pipeline.altered(alteration_of(Cell("webp", 1), seed=0))
    with pytest.raises(UnsupportedMedia, match="16400 x 2 pixels cannot be altered by webp"):
        alteration_of(Cell("webp", 1), seed=0).change(np.zeros((2, 16_400, 3), np.uint8), "")
    (result,) = changed([Sample("wide", wide)])
    assert (result.status, result.reasons[0].code) == ("unsupported", "not_altered")


def test_kept_scores_are_not_made_again(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    ((_, first),) = cells()
    monkeypatch.setattr(altered, "score", None)
    ((_, again),) = cells()
    assert again.p_fake.tolist() == first.p_fake.tolist()


def test_an_interrupted_cell_goes_on_where_it_was(
    cells: Cells,
    image_detector: Detector,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    calls: list[int] = []
    logits = Detector.logits

    def dying(self: Detector, images: np.ndarray) -> np.ndarray:
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return logits(self, images)

    monkeypatch.setattr(Detector, "logits", dying)
    small = Pipeline(image_detector, Options(workers=0, batch_size=2))
    with pytest.raises(KeyboardInterrupt):
        cells(pipeline=small)
    assert ledger_path(cell_path(tmp_path / "kept", Cell("jpeg", 5))).exists()
    ((_, found),) = cells(pipeline=small)
    assert sum(calls) == 2 + 2 + 4  # two answered, two lost, four that were left
    assert np.isfinite(found.p_fake).all()
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["jpeg-5.parquet"]


def test_a_table_of_other_data_is_refused(cells: Cells, baseline: Scores, tmp_path: Path) -> None:
    cells()
    other = replace(baseline, meta=replace(baseline.meta, data_sha256="f" * 64))
    with pytest.raises(OutputError, match=r"jpeg-5\.parquet is of another data"):
        list(kept_cells(tmp_path / "kept", parse_cells("jpeg@5"), other))


def test_a_table_of_another_seed_is_refused(
    cells: Cells,
) -> None:
    cells()
    with pytest.raises(OutputError, match="another preprocessing"):
        cells(seed=1)


def test_kept_scores_are_read_without_a_model(
    cells: Cells, baseline: Scores, tmp_path: Path
) -> None:
    ((_, made),) = cells()
    ((cell, read),) = kept_cells(tmp_path / "kept", parse_cells("jpeg@5"), baseline)
    assert cell == Cell("jpeg", 5)
    assert read.p_fake.tolist() == made.p_fake.tolist()


def test_a_cell_that_was_never_scored_is_named(baseline: Scores, tmp_path: Path) -> None:
    with pytest.raises(MissingSource, match=r"jpeg-5\.parquet: no such file, so jpeg@5"):
        list(kept_cells(tmp_path, parse_cells("jpeg@5"), baseline))


def test_what_is_forgotten_is_gone(cells: Cells, tmp_path: Path) -> None:
    cells("jpeg@5,blur@1")
    forget_cells(tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []
