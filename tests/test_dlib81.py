"""The reference's finder. The 81-point file is not ours to ship: a tiny 68-point one stands in."""

from __future__ import annotations

import json
from pathlib import Path

import dlib
import numpy as np
import pytest
from PIL import Image as PillowImage
from skimage import data

from unmask.errors import LandmarkFileError
from unmask.faces import largest, make_finder
from unmask.faces.align import crop_face
from unmask.faces.dlib81 import POINTS, Dlib81
from unmask.fetch import landmarks_path

FIXTURES = Path(__file__).parent / "fixtures" / "align"
RECORDED = json.loads((FIXTURES / "align.json").read_text())["points81"]["cases"]


def picture(case: str) -> np.ndarray:
    if case == "astronaut":
        return data.astronaut()
    if case == "two_faces":
        canvas = np.zeros((512, 1024, 3), np.uint8)
        canvas[128:384, 64:320] = picture("half")
        canvas[:, 512:] = data.astronaut()
        return canvas
    return np.asarray(PillowImage.open(FIXTURES / f"{case}_input.png").convert("RGB"))


def write_predictor(path: Path, points: int) -> Path:
    """A landmark file as small as dlib makes them, with points at random."""
    generator = np.random.default_rng(0)
    box = dlib.rectangle(10, 10, 69, 69)
    images = [generator.integers(0, 256, (80, 80, 3), dtype=np.uint8) for _ in range(2)]
    shapes = [
        [
            dlib.full_object_detection(
                box, [dlib.point(*xy) for xy in generator.integers(10, 70, (points, 2)).tolist()]
            )
        ]
        for _ in images
    ]
    options = dlib.shape_predictor_training_options()
    options.cascade_depth = options.tree_depth = options.num_threads = 1
    options.num_trees_per_cascade_level = options.oversampling_amount = 2
    options.feature_pool_size = 20
    dlib.train_shape_predictor(images, shapes, options).save(str(path))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_predictor(tmp_path_factory.mktemp("dlib") / "tiny68.dat", 68)


@pytest.fixture(scope="module")
def found(model):
    finder = Dlib81(model)
    return {case: finder.find(picture(case)) for case in RECORDED}


@pytest.mark.parametrize("case", RECORDED)
def test_the_boxes_are_the_reference_s(found, case):
    inclusive = [
        [left, top, right - 1, bottom - 1]
        for left, top, right, bottom in (face.box_xyxy for face in found[case])
    ]
    assert sorted(inclusive) == sorted(RECORDED[case]["rects_ltrb"])


@pytest.mark.parametrize("case", RECORDED)
def test_the_chosen_box_is_the_reference_s(found, case):
    left, top, right, bottom = RECORDED[case]["chosen"]
    assert found[case][0].box_xyxy == (left, top, right + 1, bottom + 1)


def test_the_largest_box_comes_first(found):
    widths = [face.box_xyxy[2] - face.box_xyxy[0] for face in found["two_faces"]]
    assert widths == [90, 44, 44]


def test_equal_boxes_keep_dlib_s_order(found):
    _, second, third = found["two_faces"]
    assert second.confidence > third.confidence


def test_the_first_face_is_the_largest(found):
    assert largest(found["two_faces"]) is found["two_faces"][0]


def test_the_landmarks_are_five_of_the_predictor_s(found, model):
    left, top, right, bottom = RECORDED["half"]["chosen"]
    predictor = dlib.shape_predictor(str(model))
    shape = predictor(picture("half"), dlib.rectangle(left, top, right, bottom))
    expected = [[shape.part(index).x, shape.part(index).y] for index in (37, 44, 30, 49, 55)]
    assert found["half"][0].landmarks.tolist() == expected


def test_the_points_are_those_of_the_reference():
    assert POINTS == (37, 44, 30, 49, 55)


def test_landmarks_are_float32(found):
    assert found["half"][0].landmarks.dtype == np.float32


def test_a_picture_without_a_face_gives_none(model):
    assert Dlib81(model).find(np.zeros((60, 50, 3), np.uint8)) == []


def test_a_picture_that_is_a_view_is_taken(model, found):
    padded = np.pad(picture("half"), ((0, 0), (3, 5), (0, 0)))
    view = padded[:, 3:-5]
    assert Dlib81(model).find(view)[0].box_xyxy == found["half"][0].box_xyxy


def test_make_finder_gives_it_the_file(model):
    assert make_finder("dlib81", landmark_model=model).name == "dlib81"


def test_without_a_file_the_fetched_one_is_used(model, monkeypatch):
    monkeypatch.setenv("UNMASK_LANDMARKS", str(model))
    assert make_finder("dlib81").name == "dlib81"


def test_a_missing_file_says_how_to_get_it(tmp_path):
    with pytest.raises(LandmarkFileError, match="unmask fetch landmarks"):
        Dlib81(tmp_path / "none.dat")


def test_a_file_that_is_not_dlib_s_is_refused(tmp_path):
    path = tmp_path / "wrong.dat"
    path.write_bytes(b"no landmarks here, and none to come")
    with pytest.raises(LandmarkFileError, match="is not a dlib landmark file") as caught:
        Dlib81(path)
    assert "Remove" not in str(caught.value)


def test_a_damaged_file_that_was_fetched_may_be_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("UNMASK_HOME", str(tmp_path))
    path = tmp_path / "landmarks" / "x.dat"
    path.parent.mkdir()
    path.write_bytes(b"no landmarks here, and none to come")
    with pytest.raises(LandmarkFileError, match="Remove it and run 'unmask fetch landmarks'"):
        Dlib81(path)


def test_a_file_cut_short_is_refused(tmp_path, model):
    path = tmp_path / "short.dat"
    path.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(LandmarkFileError, match="or a damaged one"):
        Dlib81(path)


@pytest.mark.parametrize("points", [5, 60, 194])
def test_a_file_with_other_points_is_refused(tmp_path, points):
    with pytest.raises(LandmarkFileError, match=f"has {points} points"):
        Dlib81(write_predictor(tmp_path / "other.dat", points))


# With the real file. Run: unmask fetch landmarks && pytest -m network tests/test_dlib81.py


@pytest.mark.network
@pytest.mark.parametrize("case", RECORDED)
def test_the_five_points_are_the_reference_s(case):
    face = Dlib81(landmarks_path()).find(picture(case))[0]
    assert face.landmarks.tolist() == RECORDED[case]["src5"]


@pytest.mark.network
@pytest.mark.parametrize("case", RECORDED)
def test_finding_and_cropping_gives_the_reference_s_crop(case):
    image = picture(case)
    crop = crop_face(image, Dlib81(landmarks_path()).find(image)[0], size=224)
    reference = PillowImage.open(FIXTURES / f"points81_{case}_224.png").convert("RGB")
    difference = np.abs(crop.image.astype(int) - np.asarray(reference))
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= 0.001 * difference.size
