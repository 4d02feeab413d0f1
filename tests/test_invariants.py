"""The six invariants of ``unmask.types``, in their order."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from tiny_detectors import sample, write_picture, write_pictures
from unmask.aggregate import judge
from unmask.images import read_frame, sha256
from unmask.models.detector import Detector
from unmask.pipeline import Options, Pipeline
from unmask.sources import read_sources
from unmask.types import Image, Result


@pytest.fixture(scope="session")
def mixed(tmp_path_factory, portrait, two_faces) -> Path:
    """A folder with faces, without, damaged, foreign and empty files."""
    folder = tmp_path_factory.mktemp("mixed")
    write_pictures(folder, [f"noise{number}.png" for number in range(12)])
    for number in range(3):
        image = np.asarray(PillowImage.open(portrait))
        write_picture(folder / f"face{number}.png", image[: 290 + number])
    (folder / "two.png").write_bytes(two_faces.read_bytes())
    whole = (folder / "noise3.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("no picture", encoding="utf-8")
    (folder / "empty.jpg").write_bytes(b"")
    return folder


def run(detector: Detector, folder: Path, order: int | None = None, **options) -> dict[str, Result]:
    samples = list(read_sources([folder]))
    if order is not None:
        random.Random(order).shuffle(samples)
    results = list(Pipeline(detector, Options(**options))(samples))
    assert [result.source for result in results] == [each.source for each in samples]
    return {result.source: result for result in results}


def test_1_a_decoded_picture_is_rgb_uint8(tmp_path):
    red = np.zeros((4, 5, 3), np.uint8)
    red[..., 0] = 200
    frame, _ = read_frame(write_picture(tmp_path / "red.png", red))
    assert frame.image.dtype == np.uint8
    assert frame.image.shape == (4, 5, 3)
    assert (frame.image == red).all()


def test_1_the_detector_is_given_rgb(image_detector, tmp_path, monkeypatch):
    given: list[Image] = []

    def logits(self: Detector, images: Image) -> np.ndarray:
        given.append(images)
        return np.zeros(len(images), np.float32)

    monkeypatch.setattr(Detector, "logits", logits)
    red = np.zeros((40, 40, 3), np.uint8)
    red[..., 0] = 200
    list(Pipeline(image_detector)([sample(write_picture(tmp_path / "red.png", red))]))
    assert given[0].dtype == np.uint8
    assert given[0].shape == (1, 32, 32, 3)
    assert given[0][0, 16, 16].tolist() == [200, 0, 0]


def test_1_an_aligned_face_is_still_rgb(face_detector, portrait, monkeypatch):
    given: list[Image] = []

    def logits(self: Detector, images: Image) -> np.ndarray:
        given.append(images)
        return np.zeros(len(images), np.float32)

    monkeypatch.setattr(Detector, "logits", logits)
    list(Pipeline(face_detector)([sample(portrait)]))
    red, _, blue = given[0][0, 8:24, 8:24].reshape(-1, 3).mean(axis=0)
    assert red > blue + 10  # skin


def test_2_a_detector_gives_one_float32_logit_per_crop(image_detector):
    logits = image_detector.logits(np.zeros((3, 32, 32, 3), np.uint8))
    assert logits.shape == (3,)
    assert logits.dtype == np.float32


def test_2_p_fake_is_the_sigmoid_of_the_logit_over_the_temperature(image_detector, mixed):
    scored = [each for each in run(image_detector, mixed).values() if each.status == "ok"]
    assert len(scored) > 10
    for result in scored:
        assert result.p_fake == pytest.approx(1 / (1 + np.exp(-result.logit / 1.7)), abs=1e-9)


def test_2_a_larger_logit_is_more_fake(image_detector):
    p_fake = image_detector.p_fake(np.array([-3, 0, 3], np.float32))
    assert p_fake[0] < 0.5 == p_fake[1] < p_fake[2]


def test_3_a_label_comes_from_the_source_and_not_from_the_score(image_detector, tmp_path):
    for name in ("real", "fake", "other"):
        write_pictures(tmp_path / name, ["a.png"])
    results = Pipeline(image_detector)(read_sources([tmp_path]))
    labels = {Path(each.source).parent.name: each.label for each in results}
    assert labels == {"real": 0, "fake": 1, "other": None}


def test_3_the_same_bytes_keep_each_their_own_label(image_detector, tmp_path):
    path = write_picture(tmp_path / "a.png", np.full((40, 40, 3), 90, np.uint8))
    samples = [sample(path, label=label) for label in (0, 1, None)]
    assert [each.label for each in Pipeline(image_detector)(samples)] == [0, 1, None]


def test_4_every_input_yields_one_result_in_order(face_detector, mixed):
    results = run(face_detector, mixed)
    statuses = {Path(source).name: result.status for source, result in results.items()}
    assert len(results) == 19
    assert statuses["face0.png"] == statuses["two.png"] == "ok"
    assert statuses["noise0.png"] == "no_face"
    assert statuses["cut.png"] == statuses["empty.jpg"] == "unreadable"
    assert statuses["notes.txt"] == "unsupported"


def test_4_a_result_without_a_score_has_a_reason(face_detector, mixed):
    failed = [each for each in run(face_detector, mixed).values() if each.status != "ok"]
    assert failed
    for result in failed:
        assert result.reasons
        assert result.logit is None
        assert result.p_fake is None
        assert result.verdict == "inconclusive"


def test_4_a_missing_file_yields_a_result(image_detector, tmp_path):
    (result,) = Pipeline(image_detector)([sample(tmp_path / "gone.png")])
    assert result.status == "unreadable"


def test_4_a_damaged_file_changes_nothing_for_the_others(image_detector, mixed, tmp_path):
    names = [f"noise{number}.png" for number in range(12)]
    write_pictures(tmp_path, names)
    alone, among = run(image_detector, tmp_path), run(image_detector, mixed)
    for name in names:
        one, other = alone[str(tmp_path / name)], among[str(mixed / name)]
        assert one.logit == pytest.approx(other.logit, abs=1e-5)


def test_5_a_result_can_be_traced(face_detector, portrait):
    (result,) = Pipeline(face_detector)([sample(portrait)])
    assert result.source == str(portrait)
    assert result.sha256 == sha256(portrait.read_bytes())
    assert result.detector == face_detector.ref
    assert len(result.detector.sha256) == 64
    assert "yunet" in result.preprocessing
    assert "32" in result.preprocessing
    assert result.versions["torch"] == torch.__version__
    assert result.operating_point.source == "made up"
    (face,) = result.faces
    assert face.frame == 0
    left, top, right, bottom = face.box_xyxy
    assert 0 < left < right < 300
    assert 0 < top < bottom < 300


def test_5_the_score_can_be_made_again_from_what_the_result_tells(image_detector, tmp_path):
    write_pictures(tmp_path, ["a.png"])
    (result,) = Pipeline(image_detector)(read_sources([tmp_path]))
    frame, digest = read_frame(Path(result.source))
    logit = image_detector.logits(image_detector.preprocess.resize(frame.image)[None])[0]
    assert digest == result.sha256
    assert logit == pytest.approx(result.logit, abs=1e-6)


@pytest.fixture(scope="module")
def reference(face_detector, mixed) -> dict[str, Result]:
    return run(face_detector, mixed, no_face="whole_picture", batch_size=16, workers=2)


@pytest.mark.parametrize(
    ("batch_size", "workers", "order"),
    [(1, 0, None), (1, 4, 1), (7, 1, 2), (7, 4, None), (32, 0, 3), (32, 4, 4)],
)
def test_6_the_answer_depends_on_nothing_else(
    face_detector, mixed, reference, batch_size, workers, order
):
    first = reference
    again = run(
        face_detector,
        mixed,
        order,
        no_face="whole_picture",
        batch_size=batch_size,
        workers=workers,
    )
    assert again.keys() == first.keys()
    for source, result in again.items():
        expected = first[source]
        assert (result.status, result.kind, result.sha256, result.label, result.reasons) == (
            expected.status, expected.kind, expected.sha256, expected.label, expected.reasons,
        )  # fmt: skip
        assert [face.box_xyxy for face in result.faces] == [
            face.box_xyxy for face in expected.faces
        ]
        if expected.logit is None:
            assert result.logit is None
            continue
        assert result.logit == pytest.approx(expected.logit, abs=1e-5)
        assert result.p_fake == pytest.approx(expected.p_fake, abs=1e-5)
        near = [abs(expected.p_fake - at) < 1e-4 for at in (0.4, 0.6)]
        assert any(near) or result.verdict == judge(expected.p_fake, expected.operating_point)


def test_6_the_same_bytes_under_two_names_get_the_same_answer(image_detector, tmp_path):
    write_pictures(tmp_path, ["a.png", "b.png", "c.png"])
    (tmp_path / "d.png").write_bytes((tmp_path / "a.png").read_bytes())
    results = list(Pipeline(image_detector, Options(batch_size=2))(read_sources([tmp_path])))
    first, last = results[0], results[3]
    assert replace(last, source=first.source, elapsed_ms=first.elapsed_ms, logit=first.logit,
                   p_fake=first.p_fake, faces=first.faces) == first  # fmt: skip
    assert last.logit == pytest.approx(first.logit, abs=1e-5)
