"""What pictures go through: in known strength, the same each time, and of the same size."""

import io

import numpy as np
import pytest
from PIL import Image as PillowImage

from tiny_detectors import noise_image
from unmask.errors import ConfigError
from unmask.evaluate.perturb import (
    KINDS,
    PARAMETERS,
    SEVERITIES,
    Change,
    apply_change,
    parse_change,
    perturb,
)


def picture(size=(96, 120)):
    """Blocks with grain: something for every kind to take away."""
    grain = np.random.default_rng(1).normal(0, 12, (*size, 3))
    return np.clip(noise_image(0, size) + grain, 0, 255).astype(np.uint8)


def moved(image, kind, severity):
    """By how many grey levels, in the mean."""
    changed = perturb(image, kind, severity, seed=0).astype(int)
    return float(np.abs(changed - image).mean())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_changed_picture_has_the_size_and_type_of_the_picture(kind, severity):
    image = picture((33, 47))
    changed = perturb(image, kind, severity, seed=0)
    assert (changed.shape, changed.dtype) == (image.shape, np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_the_picture_itself_is_left_as_it_is(kind):
    image = picture()
    before = image.copy()
    perturb(image, kind, 5, seed=0)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_picture(kind):
    image = picture()
    first, again = (perturb(image, kind, 3, seed=7) for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("kind", ["noise", "screenshot"])
def test_another_seed_gives_another_picture_where_chance_has_a_part(kind):
    image = picture()
    assert not np.array_equal(perturb(image, kind, 3, seed=0), perturb(image, kind, 3, seed=1))


@pytest.mark.parametrize("kind", ["jpeg", "webp", "resize", "blur", "noise"])
def test_a_higher_severity_changes_more(kind):
    image = picture()
    distances = [moved(image, kind, severity) for severity in SEVERITIES]
    assert distances == sorted(distances)
    assert distances[0] < distances[-1]


@pytest.mark.parametrize("kind", ["screenshot", "social"])
def test_the_strongest_severity_changes_more_than_the_mildest(kind):
    image = picture((1500, 600) if kind == "social" else (96, 120))
    assert moved(image, kind, 5) > moved(image, kind, 1)


def test_jpeg_60_and_half_the_size_are_among_the_severities():
    assert 60 in PARAMETERS["jpeg"]
    assert 0.5 in PARAMETERS["resize"]


def test_jpeg_is_what_pillow_saves_with_that_quality_and_subsampled_colour():
    image = picture()
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, "JPEG", quality=60, subsampling="4:2:0")
    expected = np.asarray(PillowImage.open(buffer))
    assert np.array_equal(perturb(image, "jpeg", 3, seed=0), expected)


def test_noise_has_the_deviation_of_the_table():
    grey = np.full((200, 200, 3), 128, np.uint8)
    changed = perturb(grey, "noise", 3, seed=0).astype(float)
    assert changed.std() == pytest.approx(8, rel=0.02)


def test_blur_keeps_a_flat_picture_flat():
    grey = np.full((20, 20, 3), 99, np.uint8)
    assert (perturb(grey, "blur", 5, seed=0) == 99).all()


def test_resize_takes_away_what_the_smaller_picture_cannot_hold():
    checks = np.zeros((64, 64, 3), np.uint8)
    checks[::2, ::2] = checks[1::2, 1::2] = 255
    assert perturb(checks, "resize", 2, seed=0)[8:-8, 8:-8].std() < 10


def test_a_screenshot_leaves_fewer_grey_levels():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    ramp = np.repeat(ramp, 8, axis=0)
    changed = apply_change(ramp, Change("screenshot", 1.0, 1.3), seed=3)
    assert len(np.unique(changed)) < 256


def test_social_shrinks_to_its_limit_and_compresses_a_small_picture_only():
    fine = np.zeros((960, 40, 3), np.uint8)
    fine[::2] = 255
    assert perturb(fine, "social", 5, seed=0)[8:-8].std() < 40  # lines of one pixel are gone
    assert perturb(fine[:400], "social", 5, seed=0)[8:-8].std() > 100


def test_a_picture_of_one_pixel_survives_every_kind():
    for kind in KINDS:
        assert perturb(np.full((1, 1, 3), 7, np.uint8), kind, 5, seed=0).shape == (1, 1, 3)


def test_a_name_with_a_number_is_that_number():
    assert parse_change("jpeg:60") == Change("jpeg", 60)
    assert parse_change("resize:0.5") == Change("resize", 0.5)


def test_a_name_with_a_severity_is_the_table():
    image = picture()
    named = apply_change(image, parse_change("screenshot@4"), seed=5)
    assert np.array_equal(named, perturb(image, "screenshot", 4, seed=5))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("jpge:60", "Did you mean 'jpeg'"),
        ("jpeg", "no strength"),
        ("jpeg:much", "no number"),
        ("jpeg:101", "from 1 to 100"),
        ("jpeg@6", "from 1 to 5"),
        ("jpeg@2.5", "from 1 to 5"),
        ("social:1080", "give a severity"),
    ],
)
def test_a_name_that_means_nothing_is_refused(name, said):
    with pytest.raises(ConfigError, match=said):
        parse_change(name)


def test_another_severity_or_kind_is_refused():
    with pytest.raises(ConfigError, match="from 1 to 5"):
        perturb(picture(), "jpeg", 0, seed=0)
    with pytest.raises(ConfigError, match="not known"):
        perturb(picture(), "gif", 1, seed=0)


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))]
)
def test_a_picture_that_is_not_rgb_uint8_is_refused(wrong):
    with pytest.raises(ConfigError, match="expected RGB uint8"):
        perturb(wrong, "jpeg", 1, seed=0)
