"""From samples to their table of scores."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from tiny_detectors import noise_image, write_pictures
from unmask.errors import OutputError
from unmask.evaluate.scoring import FILE_COLUMNS, score
from unmask.evaluate.table import Scores
from unmask.labelled import read_labelled
from unmask.ledger import Ledger
from unmask.pipeline import Options, Pipeline
from unmask.types import Sample


@pytest.fixture(scope="module")
def pipeline(image_detector) -> Pipeline:
    return Pipeline(image_detector, Options(workers=0, batch_size=4))


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> list[Sample]:
    """Two reals and two fakes; a fake is cut short."""
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "real", ["a.png", "b.png"])
    write_pictures(folder / "fake", ["c.png", "d.png"], first_seed=2)
    (folder / "fake" / "d.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return read_labelled(folder)


@pytest.fixture(scope="module")
def scores(pipeline, samples) -> Scores:
    return score(samples, pipeline, command="unmask evaluate", seed=3)


def saved(path: Path, **options: object) -> Sample:
    PillowImage.fromarray(noise_image(0, (20, 40))).save(path, **options)
    return Sample(str(path), path, 0, dataset="a", group=path.name)


def column(pipeline: Pipeline, sample: Sample, name: str) -> object:
    return score([sample], pipeline).extra[name][0]


def test_each_sample_has_a_row_in_its_order(scores, samples):
    assert scores.source.tolist() == [sample.source for sample in samples]


def test_the_scores_are_those_of_a_scan(scores, samples, pipeline):
    expected = [result.p_fake for result in pipeline(samples)]
    found = [None if np.isnan(each) else each for each in scores.p_fake]
    assert found == expected


def test_what_cannot_be_read_has_a_row_without_score(scores):
    status = dict(zip(scores.source, scores.status, strict=True))
    (damaged,) = [each for source, each in status.items() if source.endswith("d.png")]
    assert damaged == "unreadable"


def test_what_cannot_be_read_has_no_file_columns(scores):
    row = scores.status == "unreadable"
    assert scores.extra["format"][row].tolist() == [""]
    assert np.isnan(scores.extra["width"][row]).all()


def test_command_and_seed_are_recorded(scores):
    assert (scores.meta.command, scores.meta.seed) == ("unmask evaluate", 3)


def test_file_columns_are_there(scores):
    assert set(FILE_COLUMNS) <= set(scores.extra)


def test_the_format_is_that_of_the_bytes(pipeline, tmp_path):
    sample = saved(tmp_path / "a.jpg", format="PNG")
    assert column(pipeline, sample, "format") == "png"


def test_the_quality_of_a_jpeg_is_read(pipeline, tmp_path):
    assert column(pipeline, saved(tmp_path / "a.jpg", quality=63), "jpeg_quality") == 63


def test_a_png_has_no_jpeg_quality(pipeline, tmp_path):
    assert np.isnan(column(pipeline, saved(tmp_path / "a.png"), "jpeg_quality"))


@pytest.mark.parametrize(("orientation", "aspect"), [(1, 2.0), (6, 0.5)])
def test_the_aspect_is_that_of_the_upright_picture(pipeline, tmp_path, orientation, aspect):
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    sample = saved(tmp_path / "a.jpg", exif=exif)
    assert column(pipeline, sample, "aspect") == aspect


def test_a_file_that_is_gone_after_scoring_has_no_columns(pipeline, tmp_path, monkeypatch):
    sample = saved(tmp_path / "a.png")
    results = list(pipeline([sample]))
    sample.path.unlink()
    monkeypatch.setattr(Pipeline, "__call__", lambda *_args, **_options: iter(results))
    assert column(pipeline, sample, "format") == ""


def test_a_manifests_column_of_the_same_name_is_kept_beside(pipeline, tmp_path):
    sample = replace(saved(tmp_path / "a.png"), columns=(("format", "heic"),))
    extra = score([sample], pipeline).extra
    assert (extra["format"][0], extra["listed.format"][0]) == ("png", "heic")


def test_each_sample_advances_once(pipeline, samples):
    told: list[int] = []
    score(samples, pipeline, advance=lambda: told.append(1))
    assert len(told) == 4


def test_what_is_remembered_is_not_scored_again(pipeline, samples, tmp_path, crops):
    path = tmp_path / "ledger.sqlite"
    for _ in range(2):
        with Ledger(path, pipeline.settings()) as ledger:
            found = score(samples, pipeline, ledger=ledger)
    assert sum(crops) == 3
    assert np.isfinite(found.p_fake).sum() == 3


def test_a_full_disk_is_an_error_that_says_how_to_go_on(pipeline, samples, tmp_path, monkeypatch):
    def full(*_args: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with Ledger(tmp_path / "ledger.sqlite", pipeline.settings()) as ledger:
        monkeypatch.setattr(Ledger, "add", full)
        with pytest.raises(OutputError, match="goes on"):
            score(samples, pipeline, ledger=ledger)
