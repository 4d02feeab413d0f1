from pathlib import Path

import numpy as np
import pytest

from tiny_detectors import noise_image, sample, write_picture
from unmask.errors import FaceError
from unmask.images import Limits, sha256
from unmask.prepare import Prepared, Stage, prepare
from unmask.preprocess import Preprocess
from unmask.types import Face, FaceSpec, Image, Result, Sample


def stage(mode: str = "all", **options) -> Stage:
    settings = {
        "mode": mode,
        "face": FaceSpec(size=32),
        "preprocess": Preprocess(32, 32, "squash", "bilinear"),
        "limits": Limits(),
        "max_faces": 8,
        "min_face_px": 10.0,
    }
    return Stage(**(settings | options))


class Finder:
    """Finds what it is told to."""

    name = "told"

    def __init__(self, *sides: float) -> None:
        self.faces = [face(side) for side in sides]

    def find(self, image: Image) -> list[Face]:
        return self.faces


def face(side: float, left: float = 5.0) -> Face:
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
    return Face((left, left, left + side, left + side), points * side + left, 0.9)


class Remembers:
    """A memory that knows one path or one content."""

    def __init__(self, result: Result, *, path: Path | None = None, digest: str = "") -> None:
        self.result, self.path, self.digest = result, path, digest

    def recall_path(self, sample: Sample) -> Result | None:
        return self.result if sample.path == self.path else None

    def recall_bytes(self, sha256: str) -> Result | None:
        return self.result if sha256 == self.digest else None


@pytest.fixture
def picture(tmp_path) -> Path:
    return write_picture(tmp_path / "a.png", noise_image(0))


def codes(prepared: Prepared) -> list[str]:
    return [reason.code for reason in prepared.reasons]


def test_a_whole_picture_gives_one_crop_of_the_detector_s_size(picture):
    prepared = prepare(sample(picture), None, stage("none"))
    assert [image.shape for image in prepared.pixels] == [(32, 32, 3)]
    assert prepared.pixels[0].dtype == np.uint8
    assert prepared.sha256 == sha256(picture.read_bytes())
    assert prepared.elapsed_s > 0
    assert prepared.faces[0].box_xyxy is None


def test_scored_faces_come_before_those_that_are_listed_only(picture):
    prepared = prepare(sample(picture), Finder(5, 30, 20), stage())
    assert len(prepared.pixels) == 2
    assert [each.box_xyxy[2] for each in prepared.faces] == [35, 25, 10]
    assert [reason.code for reason in prepared.faces[2].reasons] == ["face_too_small"]
    assert prepared.status == "ok"


def test_quality_is_told_for_faces_that_will_be_scored(picture):
    prepared = prepare(sample(picture), Finder(30), stage())
    assert prepared.faces[0].quality.size_px == pytest.approx(30)
    assert prepared.faces[0].quality.confidence == pytest.approx(0.9)


def test_a_face_that_cannot_be_aligned_is_listed_with_the_reason(picture):
    finder = Finder(30)
    finder.faces[0] = Face((5, 5, 35, 35), np.full((5, 2), 7, np.float32), 0.9)
    prepared = prepare(sample(picture), finder, stage())
    assert prepared.status == "low_quality"
    assert codes(prepared) == ["not_aligned"]


def test_reasons_of_several_listed_faces_are_told_once(picture):
    prepared = prepare(sample(picture), Finder(5, 5), stage())
    assert (prepared.status, codes(prepared)) == ("low_quality", ["face_too_small"])


def test_no_face_names_the_finder(picture):
    prepared = prepare(sample(picture), Finder(), stage())
    assert "told found no face" in prepared.reasons[0].message


def test_an_unchanged_file_is_not_opened_again(picture, tmp_path, image_detector):
    from unmask.pipeline import Pipeline

    (known,) = Pipeline(image_detector)([sample(picture)])
    gone = tmp_path / "gone.png"
    prepared = prepare(sample(gone), None, stage("none"), Remembers(known, path=gone))
    assert prepared.recalled is known


def test_known_bytes_are_not_decoded_again(picture, image_detector, monkeypatch):
    from unmask.pipeline import Pipeline

    (known,) = Pipeline(image_detector)([sample(picture)])
    monkeypatch.setattr("unmask.prepare.decode", None)
    memory = Remembers(known, digest=sha256(picture.read_bytes()))
    assert prepare(sample(picture), None, stage("none"), memory).recalled is known


def test_the_reason_of_known_damaged_bytes_is_told_with_the_name_of_this_file(
    tmp_path, image_detector
):
    from unmask.pipeline import Pipeline

    one, other = tmp_path / "one.png", tmp_path / "other.png"
    for path in (one, other):
        path.write_bytes(b"GIF89a and no more")
    (known,) = Pipeline(image_detector)([sample(one)])
    memory = Remembers(known, digest=sha256(one.read_bytes()))
    prepared = prepare(sample(other), None, stage("none"), memory)
    assert prepared.status == "unreadable"
    assert "other.png" in prepared.reasons[0].message


def test_a_file_that_is_too_large_still_has_its_hash(picture):
    prepared = prepare(sample(picture), None, stage("none", limits=Limits(max_bytes=9)))
    assert (prepared.status, codes(prepared)) == ("unsupported", ["file_too_large"])
    assert prepared.sha256 == sha256(picture.read_bytes())


def test_a_large_file_that_vanishes_meanwhile_has_no_hash(picture, monkeypatch):
    def vanish(path: Path) -> str:
        from unmask.errors import UnreadableMedia

        raise UnreadableMedia(f"{path}: gone")

    monkeypatch.setattr("unmask.prepare.file_sha256", vanish)
    prepared = prepare(sample(picture), None, stage("none", limits=Limits(max_bytes=9)))
    assert (prepared.status, prepared.sha256) == ("unsupported", None)


def test_what_is_altered_is_given_the_content_hash(picture):
    given = []

    def alter(image: Image, digest: str) -> Image:
        given.append(digest)
        return np.zeros_like(image)

    prepared = prepare(sample(picture), None, stage("none", alter=alter))
    assert given == [prepared.sha256]
    assert not prepared.pixels[0].any()


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 2)])
@pytest.mark.parametrize("mode", ["all", "none"])
def test_a_picture_of_any_shape_is_prepared(tmp_path, size, mode):
    path = write_picture(tmp_path / "a.png", np.full((*size, 3), 128, np.uint8))
    each = stage(mode)
    prepared = prepare(sample(path), each.new_finder(), each)
    assert prepared.status == ("ok" if mode == "none" else "no_face")


@pytest.mark.parametrize(
    ("mode", "words"), [("none", "whole picture"), ("all", "all faces by yunet, 32 px, scale 1.3")]
)
def test_a_stage_describes_itself(mode, words):
    assert stage(mode).describe() == words


def test_the_description_tells_of_antialiasing():
    assert stage(face=FaceSpec(size=32, antialias=True)).describe().endswith(", antialiased")


def test_an_unforeseen_error_is_not_taken_for_a_bad_input(picture, monkeypatch):
    monkeypatch.setattr("unmask.prepare.crop_face", lambda *_args, **_options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(sample(picture), Finder(30), stage())


def test_a_face_error_is_the_reason_of_that_face(picture, monkeypatch):
    def fail(*_args: object, **_options: object) -> None:
        raise FaceError("crooked")

    monkeypatch.setattr("unmask.prepare.crop_face", fail)
    prepared = prepare(sample(picture), Finder(30), stage())
    assert prepared.faces[0].reasons[0].message == "crooked"
