"""Alignment: the template, the fit and the warp against recordings of the reference."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from skimage import data

from unmask.errors import ConfigError, FaceError
from unmask.faces.align import crop_face, sharpness, similarity, template
from unmask.types import Face

FIXTURES = Path(__file__).parent / "fixtures" / "align"
RECORDED = json.loads((FIXTURES / "align.json").read_text())
CASES = [
    (points, case) for points in ("points81", "points68") for case in RECORDED[points]["cases"]
]
CROPS = sorted(path.stem for path in FIXTURES.glob("points*.png"))


def read(name: str) -> np.ndarray:
    return np.asarray(PillowImage.open(FIXTURES / name).convert("RGB"))


@functools.cache
def picture(case: str) -> np.ndarray:
    if case == "astronaut":
        return data.astronaut()
    if case == "two_faces":
        canvas = np.zeros((512, 1024, 3), np.uint8)
        canvas[128:384, 64:320] = picture("half")
        canvas[:, 512:] = data.astronaut()
        return canvas
    return read(f"{case}_input.png")


def face(points, box=(0.0, 0.0, 100.0, 120.0)) -> Face:
    return Face(box, np.asarray(points, np.float32), 0.9)


def recorded_face(points: str, case: str) -> Face:
    entry = RECORDED[points]["cases"][case]
    left, top, right, bottom = entry["chosen"]
    return face(entry["src5"], (left, top, right + 1, bottom + 1))


def placed(size: int, scale: float, *, angle: float = 0.0, zoom: float = 1.0, shift=(0.0, 0.0)):
    """Landmarks whose alignment is the given similarity's inverse."""
    turn = zoom * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    return template(size, scale) @ turn.T + shift


# Template


@pytest.mark.parametrize("size", [112, 224, 256])
def test_the_template_is_the_reference_s(size):
    assert np.abs(template(size) - RECORDED["template"][str(size)]).max() < 1e-9


def test_without_a_margin_the_template_is_the_one_at_112_shifted_by_8():
    assert template(112, 1.0)[0].tolist() == [30.2946 + 8, 51.6963]


@given(st.floats(0.5, 4))
def test_the_centre_of_the_crop_stays_when_the_scale_changes(scale):
    # A wider crop moves every point towards the centre and nowhere else.
    from_centre = (template(224, 1.0) - 112) / scale
    assert np.allclose(template(224, scale) - 112, from_centre)


@pytest.mark.parametrize(("size", "scale"), [(0, 1.3), (224, 0.0), (224, -1.0), (224, math.nan)])
def test_an_impossible_crop_is_refused(size, scale):
    with pytest.raises(ConfigError, match="expected a size of at least 1 pixel"):
        template(size, scale)
    with pytest.raises(ConfigError, match="expected a size of at least 1 pixel"):
        crop_face(picture("half"), recorded_face("points81", "half"), size=size, scale=scale)


# Fit


def umeyama(src, dst):
    """Restated from the paper (Umeyama 1991, eq. 38-42), by singular values."""
    src_mean, dst_mean = src.mean(0), dst.mean(0)
    u, d, vt = np.linalg.svd((dst - dst_mean).T @ (src - src_mean) / len(src))
    sign = np.array([1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = (d * sign).sum() / (src - src_mean).var(0).sum()
    return np.column_stack([scale * rotation, dst_mean - scale * rotation @ src_mean])


@given(st.integers(0, 10_000))
def test_the_fit_is_umeyama_s(seed):
    points = np.random.default_rng(seed).uniform(0, 500, (5, 2))
    dst = template(224)
    assert np.allclose(similarity(points, dst), umeyama(points, dst), atol=1e-6)


@given(
    st.floats(-math.pi, math.pi), st.floats(0.05, 20), st.floats(-3000, 3000), st.floats(0.8, 2.5)
)
def test_an_exact_similarity_lands_on_the_template(angle, zoom, shift, scale):
    points = placed(224, scale, angle=angle, zoom=zoom, shift=(shift, -shift / 2))
    matrix = similarity(points, template(224, scale))
    assert np.allclose(points @ matrix[:, :2].T + matrix[:, 2], template(224, scale), atol=1e-6)


def test_a_mirrored_face_is_not_mirrored_back():
    matrix = similarity(template(224) * (-1, 1), template(224))
    assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize(("points", "case"), CASES)
@pytest.mark.parametrize("size", [224, 256])
def test_the_matrix_is_the_reference_s(points, case, size):
    crop = crop_face(picture(case), recorded_face(points, case), size=size)
    assert np.abs(crop.matrix - RECORDED[points]["cases"][case][f"M_{size}"]).max() < 1e-4


def test_points_in_one_place_are_refused():
    with pytest.raises(FaceError, match="lie in one place"):
        similarity([(7, 7)] * 5, template(224))


def test_points_that_are_not_finite_are_refused():
    with pytest.raises(FaceError, match="not all are finite"):
        similarity([(math.nan, 7)] * 5, template(224))


@pytest.mark.parametrize("points", [[(1, 2)] * 4, [(1, 2, 3)] * 5, [1, 2]])
def test_points_of_another_shape_are_refused(points):
    with pytest.raises(FaceError, match="same number of"):
        similarity(points, template(224))


# Crop


@pytest.mark.parametrize("name", CROPS)
def test_the_crop_is_the_reference_s(name):
    points, case, size = name.partition("_")[0], name.split("_", 1)[1][:-4], int(name[-3:])
    crop = crop_face(picture(case), recorded_face(points, case), size=size)
    difference = np.abs(crop.image.astype(int) - read(f"{name}.png"))
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= 0.001 * difference.size


@pytest.mark.parametrize("antialias", [False, True])
def test_the_matrix_of_the_crop_takes_the_landmarks_to_the_template(antialias):
    points = placed(64, 1.5, zoom=3, angle=0.3, shift=(150, 20))
    crop = crop_face(picture("half"), face(points), size=64, scale=1.5, antialias=antialias)
    assert np.allclose(
        points @ crop.matrix[:, :2].T + crop.matrix[:, 2], template(64, 1.5), atol=1e-4
    )


@settings(max_examples=15, deadline=None)
@given(st.floats(-60, 60))
def test_a_rotated_picture_gives_about_the_same_crop(degrees):
    upright = recorded_face("points81", "half")
    turn = cv2.getRotationMatrix2D((110.0, 63.0), degrees, 1.0)
    turned = cv2.warpAffine(picture("half"), turn, (256, 256))
    points = upright.landmarks @ turn[:, :2].T + turn[:, 2]
    # Scale 0.8: what both pictures show.
    one = crop_face(picture("half"), upright, size=64, scale=0.8).image
    other = crop_face(turned, face(points), size=64, scale=0.8).image
    assert np.abs(one.astype(int) - other).mean() < 6


def test_the_crop_is_black_beyond_the_picture():
    white = np.full((50, 50, 3), 255, np.uint8)
    crop = crop_face(white, face(placed(64, 1.3, shift=(20, 20))), size=64).image
    assert crop[:28, :28].min() == 255  # the picture ends at 50 - 20
    assert crop[32:].max() == 0


@pytest.mark.parametrize("antialias", [False, True])
def test_a_face_outside_of_its_picture_is_an_error(antialias):
    with pytest.raises(FaceError, match="outside of its picture of 50 x 40 pixels"):
        crop_face(
            np.zeros((40, 50, 3), np.uint8),
            face(placed(64, 1.3, zoom=3, shift=(500, 0))),
            size=64,
            antialias=antialias,
        )


def test_a_picture_wider_than_16_bits_is_cropped_like_its_part():
    part = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    wide = np.zeros((80, 40_000, 3), np.uint8)
    wide[:, 36_000:36_090] = part
    points = placed(64, 1.3, angle=0.1, shift=(10, 5))
    expected = crop_face(part, face(points), size=64).image[:, 8:-8]
    found = crop_face(wide, face(points + np.array((36_000, 0))), size=64).image[:, 8:-8]
    assert np.abs(expected.astype(int) - found).max() <= 8  # float32 landmarks at 36,000


# Antialiasing


def noise(side: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_antialiasing_averages_detail_that_is_too_fine_for_the_crop():
    crop = crop_face(noise(400), face(placed(64, 1.3, zoom=6.1)), size=64, antialias=True)
    deviation = 256 / math.sqrt(12)  # of uniform noise; of the mean over 6 x 6 a sixth of it
    assert crop.image[2:-2, 2:-2].std() < deviation / 6 * 1.05


def test_without_antialiasing_such_detail_stays_as_in_the_reference():
    crop = crop_face(noise(400), face(placed(64, 1.3, zoom=6.1)), size=64)
    assert crop.image[2:-2, 2:-2].std() > 256 / math.sqrt(12) / 2


@pytest.mark.parametrize("zoom", [0.5, 1.0, 1.99])
def test_antialiasing_changes_nothing_up_to_twofold_shrinking(zoom):
    seen = face(placed(64, 1.3, zoom=zoom, shift=(8, 3)))
    plain = crop_face(picture("half"), seen, size=64)
    assert np.array_equal(
        plain.image, crop_face(picture("half"), seen, size=64, antialias=True).image
    )


@settings(max_examples=20, deadline=None)
@given(st.floats(2.05, 9.7), st.floats(-0.6, 0.6), st.floats(-90, 90))
def test_antialiased_crops_hold_the_landmarks_on_the_template(zoom, angle, shift):
    side = 1200
    points = placed(96, 1.3, zoom=zoom, angle=angle, shift=(400 + shift, 200))
    rows, columns = np.mgrid[:side, :side]
    x, y = points[2]  # the nose; a soft spot of 3 crop pixels
    spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (3 * zoom) ** 2))
    image = np.repeat((spot * 255).astype(np.uint8)[:, :, None], 3, 2)
    crop = crop_face(image, face(points), size=96, antialias=True).image[:, :, 0].astype(float)
    centre = [(crop * axis).sum() / crop.sum() for axis in np.mgrid[:96, :96][::-1]]
    assert np.abs(centre - template(96)[2]).max() < 0.05


def test_antialiased_crops_are_black_beyond_the_picture():
    white = np.full((203, 205, 3), 255, np.uint8)
    points = placed(64, 1.3, zoom=4, shift=(20, 20))
    crop = crop_face(white, face(points), size=64, antialias=True).image
    assert crop[:44, :44].min() == 255
    assert crop[48:].max() == 0


# Quality


def test_the_size_is_the_shorter_side_of_the_box():
    crop = crop_face(picture("half"), face(placed(64, 1.3), (-5.0, 2.0, 95.5, 200.0)), size=64)
    assert crop.quality.size_px == 100.5


def test_the_confidence_is_the_finder_s():
    assert crop_face(picture("half"), face(placed(64, 1.3)), size=64).quality.confidence == 0.9


def test_sharpness_falls_with_blur():
    sharp = picture("astronaut")
    assert sharpness(cv2.GaussianBlur(sharp, (0, 0), 1.5)) < sharpness(sharp) / 4


def test_a_flat_picture_has_no_sharpness():
    assert sharpness(np.full((20, 20, 3), 90, np.uint8)) == 0


def test_the_sharpness_of_one_bright_pixel_is_that_of_the_laplacian():
    dot = np.zeros((21, 21, 3), np.uint8)
    dot[10, 10] = 100
    kernel_squares = (4**2 + 4 * 1) * 100**2  # -4 in the middle, 1 above, below, left, right
    assert sharpness(dot) == pytest.approx(kernel_squares / 21**2)


def test_the_sharpness_of_the_crop_is_measured_on_the_crop():
    crop = crop_face(picture("half"), recorded_face("points81", "half"))
    assert crop.quality.sharpness == sharpness(crop.image)
