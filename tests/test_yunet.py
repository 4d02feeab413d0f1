"""The default finder on pictures whose face is known, and the choice of finders."""

from __future__ import annotations

import functools
import subprocess
import sys

import cv2
import numpy as np
import pytest
from skimage import data

from unmask.errors import ConfigError
from unmask.faces import FINDERS, largest, make_finder
from unmask.faces.yunet import YuNet
from unmask.types import Face

FACE = np.array([(203, 101), (247, 103), (224, 127), (203, 140), (246, 140)], np.float64)
"""Eyes, nose and mouth corners of the astronaut, read off the picture by eye."""


@functools.cache
def finder() -> YuNet:
    return YuNet()


@functools.cache
def astronaut() -> np.ndarray:
    return data.astronaut()


def resized(image: np.ndarray, factor: float) -> np.ndarray:
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=how)


def off(face: Face, expected: np.ndarray) -> float:
    """Largest distance of a landmark, in parts of the distance between the eyes."""
    distance = np.linalg.norm(expected[1] - expected[0])
    return float(np.linalg.norm(face.landmarks - expected, axis=1).max() / distance)


def centre(face: Face) -> tuple[float, float]:
    left, top, right, bottom = face.box_xyxy
    return (left + right) / 2, (top + bottom) / 2


def test_the_landmarks_are_eyes_nose_and_mouth_left_of_the_picture_first():
    assert off(finder().find(astronaut())[0], FACE) < 0.2


def test_left_of_the_picture_comes_first_in_a_mirrored_picture_too():
    face = finder().find(np.ascontiguousarray(astronaut()[:, ::-1]))[0]
    mirrored = (511 - FACE[[1, 0, 2, 4, 3], 0], FACE[[1, 0, 2, 4, 3], 1])
    assert off(face, np.column_stack(mirrored)) < 0.2


def test_landmarks_are_float32_of_shape_5_by_2():
    face = finder().find(astronaut())[0]
    assert (face.landmarks.dtype, face.landmarks.shape) == (np.float32, (5, 2))


def test_the_box_holds_the_landmarks():
    face = finder().find(astronaut())[0]
    left, top, right, bottom = face.box_xyxy
    assert (face.landmarks > (left, top)).all()
    assert (face.landmarks < (right, bottom)).all()


def test_the_picture_is_taken_as_rgb():
    # Blue skin is what the network would see if the channels were not exchanged.
    swapped = np.ascontiguousarray(astronaut()[:, :, ::-1])
    assert finder().find(swapped)[0].confidence < finder().find(astronaut())[0].confidence


@pytest.mark.parametrize("factor", [0.25, 0.5, 2, 4])
def test_boxes_and_landmarks_are_in_pixels_of_the_picture_given(factor):
    face = finder().find(resized(astronaut(), factor))[0]
    assert off(face, FACE * factor) < 0.25


def test_width_and_height_are_scaled_apart():
    # 1281 -> 640 and 11 -> 5: not the same factor.
    tall = np.zeros((1281, 512, 3), np.uint8)
    tall[700:1212] = astronaut()
    assert off(finder().find(tall)[0], FACE + np.array((0, 700))) < 0.2


@pytest.mark.parametrize("side", [48, 107, 256, 800, 2000])
def test_a_face_that_fills_the_picture_is_found(side):
    tight = astronaut()[60:180, 165:285]
    faces = finder().find(resized(tight, side / 120))
    assert len(faces) == 1
    assert off(faces[0], (FACE - (165, 60)) * side / 120) < 0.2


def test_without_the_second_look_a_face_that_fills_a_large_picture_is_missed(monkeypatch):
    monkeypatch.setattr("unmask.faces.yunet._SECOND_SIDE", 1)
    assert finder().find(resized(astronaut()[85:160, 190:265], 2000 / 75)) == []


def large_and_small() -> np.ndarray:
    canvas = np.zeros((560, 640, 3), np.uint8)
    canvas[:, :560] = resized(astronaut()[85:160, 190:265], 560 / 75)
    canvas[480:, 560:] = resized(astronaut()[20:240, 115:335], 80 / 220)
    return canvas


def test_a_small_face_beside_a_large_one_is_found():
    faces = finder().find(large_and_small())
    assert [centre(face) > (560, 480) for face in faces] == [False, True]


def test_without_the_second_look_only_the_small_face_is_found(monkeypatch):
    monkeypatch.setattr("unmask.faces.yunet._SECOND_SIDE", 1)
    assert [centre(face) > (560, 480) for face in finder().find(large_and_small())] == [True]


def test_without_the_first_look_only_the_large_face_is_found(monkeypatch):
    monkeypatch.setattr("unmask.faces.yunet._FIRST_SIDE", 300)
    faces = finder().find(large_and_small())
    assert [centre(face) > (560, 480) for face in faces] == [False]


def looks(image: np.ndarray, monkeypatch) -> list[int]:
    """The longer sides at which the picture was looked at."""
    sides: list[int] = []
    look = YuNet._look

    def noted(self: YuNet, image: np.ndarray, side: int) -> np.ndarray:
        sides.append(side)
        return look(self, image, side)

    monkeypatch.setattr(YuNet, "_look", noted)
    finder().find(image)
    return sides


@pytest.mark.parametrize(("side", "expected"), [(1000, [640, 192]), (256, [256, 128]), (1, [1, 1])])
def test_where_nothing_is_found_the_picture_is_looked_at_twice(side, expected, monkeypatch):
    assert looks(np.zeros((side, side, 3), np.uint8), monkeypatch) == expected


def test_where_a_face_is_found_a_small_picture_is_looked_at_once(monkeypatch):
    assert looks(resized(astronaut(), 0.5), monkeypatch) == [256]


def test_a_face_within_range_of_the_first_look_is_the_first_look_s(monkeypatch):
    noise = np.random.default_rng(0).normal(0, 30, astronaut().shape)
    noisy = np.clip(astronaut() + noise, 0, 255).astype(np.uint8)
    unsure = YuNet(0.5)
    (first,), (second,) = unsure._look(noisy, 512), unsure._look(noisy, 192)
    assert first[14] < second[14]  # noise averages out
    assert [face.confidence for face in unsure.find(noisy)] == [first[14]]


def test_the_largest_face_comes_first():
    canvas = np.zeros((512, 768, 3), np.uint8)
    canvas[:256, :256] = resized(astronaut(), 0.5)
    canvas[:, 256:] = astronaut()
    widths = [face.box_xyxy[2] - face.box_xyxy[0] for face in finder().find(canvas)]
    assert len(widths) == 2
    assert widths[0] > 1.7 * widths[1]


def test_a_box_may_reach_beyond_the_picture():
    left, top, _, bottom = finder().find(np.ascontiguousarray(astronaut()[80:170]))[0].box_xyxy
    assert left > 0
    assert top < 0 or bottom > 90


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (7, 5), (300, 400)])
def test_a_picture_without_a_face_gives_none(shape):
    assert finder().find(np.full((*shape, 3), 128, np.uint8)) == []


def test_a_less_confident_face_than_asked_for_is_left_out():
    confidence = finder().find(astronaut())[0].confidence
    assert YuNet(confidence + 0.01).find(astronaut()) == []


def test_what_is_found_does_not_depend_on_what_came_before():
    fresh = YuNet()
    first = fresh.find(astronaut())
    fresh.find(resized(astronaut(), 0.3))
    again = fresh.find(astronaut())
    assert [face.box_xyxy for face in first] == [face.box_xyxy for face in again]
    assert np.array_equal(first[0].landmarks, again[0].landmarks)


def test_the_picture_is_not_changed():
    image = astronaut().copy()
    finder().find(image)
    assert np.array_equal(image, astronaut())


@pytest.mark.parametrize("confidence", [-0.1, 1.1, float("nan")])
def test_a_confidence_outside_of_0_to_1_is_refused(confidence):
    with pytest.raises(ConfigError, match="a least confidence of 0 to 1"):
        YuNet(confidence)


def test_making_one_writes_nothing_and_leaves_opencv_as_it_was(capfd):
    logging, threads = cv2.utils.logging, cv2.getNumThreads()
    usual = logging.setLogLevel(logging.LOG_LEVEL_WARNING)
    YuNet()
    assert logging.setLogLevel(usual) == logging.LOG_LEVEL_WARNING
    assert cv2.getNumThreads() == threads
    assert capfd.readouterr().err == ""


# The choice


def test_yunet_is_made_by_its_name():
    assert make_finder("yunet").name == "yunet"


def test_an_unknown_finder_is_refused_with_the_near_names():
    with pytest.raises(ConfigError, match="Did you mean 'yunet'"):
        make_finder("yunett")


def test_a_landmark_file_for_yunet_is_a_contradiction(tmp_path):
    with pytest.raises(ConfigError, match="has its landmarks built in"):
        make_finder("yunet", landmark_model=tmp_path)


def test_the_names_are_those_of_the_finders():
    assert FINDERS == ("yunet", "dlib81")


def box(width: float, height: float) -> Face:
    return Face((10.0, 20.0, 10 + width, 20 + height), np.zeros((5, 2), np.float32), 1.0)


def test_the_largest_face_is_the_one_of_largest_area():
    faces = [box(10, 10), box(5, 30), box(12, 12)]
    assert largest(faces) is faces[1]


def test_of_equally_large_faces_the_first_is_the_largest():
    faces = [box(1, 1), box(6, 10), box(10, 6)]
    assert largest(faces) is faces[1]


def test_of_no_faces_none_is_the_largest():
    assert largest([]) is None


def test_choosing_imports_neither_cv2_nor_dlib():
    code = "import sys, unmask.faces; print(sorted({'cv2', 'dlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
