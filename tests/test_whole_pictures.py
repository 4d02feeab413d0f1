"""A detector of faces that learnt from whole pictures too: how it reads and judges these."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_detectors import POINTS, WHOLE, noise_image, sample, write_picture
from unmask.errors import ConfigError, ScoresError
from unmask.evaluate.table import from_results
from unmask.evaluate.table_file import read_scores
from unmask.models.configuration import WholePictures
from unmask.models.detector import Detector
from unmask.models.modeling import assemble
from unmask.pipeline import FIXED_HALF, Options, Pipeline
from unmask.report import from_json
from unmask.types import OperatingPoint, Result


def one(detector: Detector, path: Path, **options: object) -> Result:
    (result,) = Pipeline(detector, Options(**options))([sample(path)])  # type: ignore[arg-type]
    return result


def changed(detector: Detector, whole: WholePictures) -> Detector:
    """The detector with another calibration of whole pictures."""
    model = detector.model
    spec = replace(model.spec, whole_pictures=whole)
    return replace(detector, model=assemble(model.backbone, model.head, spec).eval())


def codes(result: Result) -> list[str]:
    return [reason.code for reason in result.reasons]


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A file without a face."""
    return write_picture(tmp_path / "noise.png", noise_image(0))


def test_a_whole_picture_is_read_at_its_own_temperature(both_detector, portrait):
    result = one(both_detector, portrait, faces="none")
    assert result.p_fake == both_detector.p_fake(result.logit, 0.6)


def test_a_face_is_read_at_the_temperature_of_faces(both_detector, portrait):
    result = one(both_detector, portrait)
    assert result.p_fake == both_detector.p_fake(result.logit, 1.7)


def test_a_picture_that_stands_in_for_a_face_is_read_as_a_whole_picture(both_detector, noise):
    fell_back = one(both_detector, noise, no_face="whole_picture")
    asked_for = one(both_detector, noise, faces="none")
    assert (fell_back.logit, fell_back.p_fake) == (asked_for.logit, asked_for.p_fake)


def test_transformers_answers_at_the_temperature_of_faces(both_detector):
    images = np.stack([noise_image(seed, (32, 32)) for seed in range(3)])
    pixels = torch.from_numpy(both_detector.preprocess.normalize(images))
    with torch.no_grad():
        p_fake = both_detector.model(pixels).logits.softmax(-1)[:, 1]
    expected = both_detector.p_fake(both_detector.logits(images), 1.7)
    assert p_fake.numpy() == pytest.approx(expected, abs=1e-6)


def test_each_result_carries_the_operating_point_it_was_judged_by(both_detector, portrait, noise):
    pipeline = Pipeline(both_detector, Options(no_face="whole_picture"))
    results = pipeline([sample(portrait), sample(noise)])
    found = [result.operating_point for result in results]
    assert found == [POINTS[0], WHOLE.operating_points[0]]


def test_the_verdict_is_by_the_point_of_whole_pictures(both_detector, noise):
    p_fake = one(both_detector, noise, faces="none").p_fake
    for fake_at, verdict in ((p_fake - 0.001, "fake"), (p_fake + 0.001, "real")):
        point = OperatingPoint("fpr5", fake_at, fake_at, "made up")
        detector = changed(both_detector, replace(WHOLE, operating_points=(point,)))
        assert one(detector, noise, no_face="whole_picture").verdict == verdict


def test_near_the_threshold_is_told_of_the_point_of_whole_pictures(both_detector, noise):
    point = OperatingPoint("wide", fake_at=0.999, real_below=0.001, source="made up")
    detector = changed(both_detector, replace(WHOLE, operating_points=(point,)))
    result = one(detector, noise, no_face="whole_picture")
    assert codes(result) == ["whole_picture", "near_threshold"]
    assert "real below" in result.reasons[1].message
    assert "'wide'" in result.reasons[1].message


def test_a_whole_picture_is_in_the_domain_of_what_learnt_from_some(both_detector, portrait):
    result = one(both_detector, portrait, faces="none", operating_point=0.5)
    assert codes(result) == []


def test_a_point_asked_for_by_name_is_taken_from_both_lists(both_detector, portrait, noise):
    options = Options(no_face="whole_picture", operating_point="fpr5")
    found = [
        result.operating_point
        for result in Pipeline(both_detector, options)([sample(portrait), sample(noise)])
    ]
    assert found == [POINTS[0], WHOLE.operating_points[0]]


@pytest.mark.parametrize("options", [{"faces": "none"}, {"no_face": "whole_picture"}])
def test_a_point_that_whole_pictures_lack_is_refused_where_they_may_be_scored(
    both_detector, options
):
    with pytest.raises(ConfigError, match=r"'fpr1' for faces alone, and whole pictures are scored"):
        Pipeline(both_detector, Options(operating_point="fpr1", **options))


def test_a_point_that_faces_lack_is_refused_where_they_may_be_scored(both_detector):
    with pytest.raises(ConfigError, match=r"'fpr2' for whole pictures alone, and faces are scored"):
        Pipeline(both_detector, Options(operating_point="fpr2", no_face="whole_picture"))


@pytest.mark.parametrize(("name", "faces"), [("fpr1", "auto"), ("fpr2", "none")])
def test_a_point_of_what_is_not_scored_is_not_missed(both_detector, name, faces):
    pipeline = Pipeline(both_detector, Options(operating_point=name, faces=faces))
    assert pipeline.point.name == name


def test_a_number_holds_for_faces_and_whole_pictures(both_detector, portrait, noise):
    options = Options(no_face="whole_picture", operating_point=0.25)
    results = Pipeline(both_detector, options)([sample(portrait), sample(noise)])
    assert {result.operating_point.fake_at for result in results} == {0.25}


def test_whole_pictures_without_points_are_judged_at_half(both_detector, noise):
    detector = changed(both_detector, replace(WHOLE, operating_points=()))
    assert one(detector, noise, faces="none").operating_point == FIXED_HALF


def test_a_picture_without_a_face_is_still_not_scored_unasked(both_detector, noise):
    result = one(both_detector, noise)
    assert (result.status, result.operating_point) == ("no_face", POINTS[0])


def test_what_cannot_be_read_is_told_with_the_point_of_the_others(both_detector, tmp_path):
    result = one(both_detector, tmp_path / "gone.png", faces="none")
    assert result.operating_point == WHOLE.operating_points[0]


def test_without_a_calibration_of_whole_pictures_they_are_read_as_before(face_detector, noise):
    result = one(face_detector, noise, no_face="whole_picture")
    assert result.p_fake == face_detector.p_fake(result.logit, 1.7)
    assert result.operating_point == POINTS[0]


# Identity of a run


def test_settings_hold_the_reading_of_whole_pictures_that_stand_in_for_faces(both_detector):
    settings = Pipeline(both_detector, Options(no_face="whole_picture")).settings()
    assert (settings["temperature"], settings["operating_point"]["fake_at"]) == (1.7, 0.6)
    whole = settings["whole_pictures"]
    assert (whole["temperature"], whole["operating_point"]["fake_at"]) == (0.6, 0.7)


def test_settings_of_whole_pictures_alone_are_theirs(both_detector):
    settings = Pipeline(both_detector, Options(faces="none")).settings()
    assert (settings["temperature"], settings["operating_point"]["fake_at"]) == (0.6, 0.7)


def test_settings_tell_apart_temperatures_of_whole_pictures(both_detector):
    other = changed(both_detector, replace(WHOLE, temperature=0.7))
    options = Options(no_face="whole_picture")
    assert Pipeline(other, options).settings() != Pipeline(both_detector, options).settings()


@pytest.mark.parametrize("options", [{}, {"faces": "none"}, {"no_face": "whole_picture"}])
def test_settings_without_a_calibration_of_whole_pictures_have_no_such_key(face_detector, options):
    settings = Pipeline(face_detector, Options(**options)).settings()
    assert list(settings) == [
        "detector", "detector_config", "dtype", "temperature", "preprocessing", "options",
        "operating_point", "unmask",
    ]  # fmt: skip


# On the command line


def test_a_scan_scores_the_whole_picture_where_no_face_is_found(cli, both_folder, noise):
    outcome = cli("scan", noise, "-d", both_folder, "--no-face", "whole-picture", "--json")
    result = from_json(outcome.out)
    assert (outcome.code, result.status) == (0, "ok")
    assert result.operating_point == WHOLE.operating_points[0]


def test_a_scan_scores_no_whole_picture_unasked(cli, both_folder, noise):
    outcome = cli("scan", noise, "-d", both_folder, "--json")
    assert (outcome.code, from_json(outcome.out).status) == (1, "no_face")


def test_a_scan_that_goes_on_must_treat_missing_faces_alike(cli, both_folder, noise, tmp_path):
    out = tmp_path / "out.jsonl"
    cli("scan", noise, "-d", both_folder, "-o", out)
    outcome = cli("scan", noise, "-d", both_folder, "-o", out, "--resume", "--no-face",
                  "whole-picture")  # fmt: skip
    assert outcome.code == 2


def test_the_page_names_the_points_of_faces_and_of_whole_pictures(
    cli, both_folder, portrait, noise, tmp_path
):
    cli("scan", portrait, noise, "-d", both_folder, "-o", tmp_path / "page.html", "--no-face",
        "whole-picture")  # fmt: skip
    page = (tmp_path / "page.html").read_text()
    assert "operating point fpr5: fake from 0.600" in page
    assert "operating point of whole pictures fpr5: fake from 0.700" in page


def test_an_evaluation_of_whole_pictures_is_at_their_threshold(cli, both_folder, tmp_path):
    for number in range(4):
        for label in ("real", "fake"):
            path = tmp_path / "data" / label / f"{number}.png"
            write_picture(path, noise_image(number + 10 * (label == "fake")))
    outcome = cli("evaluate", tmp_path / "data", "-d", both_folder, "-o", tmp_path / "out",
                  "--faces", "none")  # fmt: skip
    assert outcome.code == 0, outcome.err
    scores = read_scores(tmp_path / "out" / "scores.parquet")
    assert scores.meta.operating_point == WHOLE.operating_points[0]
    assert scores.p_fake == pytest.approx(1 / (1 + np.exp(-scores.logit / 0.6)))


def test_results_at_two_points_are_no_table(both_detector, portrait, noise):
    samples = [sample(portrait), sample(noise)]
    results = Pipeline(both_detector, Options(no_face="whole_picture"))(samples)
    with pytest.raises(ScoresError, match=r"fake from 0\.6\), .*fake from 0\.7\)"):
        from_results(results, samples)
