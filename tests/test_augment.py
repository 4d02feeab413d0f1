"""Alterations of training crops: each knob, presets, text, and what is refused."""

from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest

from unmask.errors import ConfigError
from unmask.train.pictures import augmentation as augmentation_module
from unmask.train.pictures import pixel_changes
from unmask.train.pictures.augment import apply, augment, augmenter
from unmask.train.pictures.augmentation import PRESETS, Augmentation, parse_augmentation
from unmask.types import Image


@pytest.fixture(scope="module")
def face(astronaut: Image) -> Image:
    return np.ascontiguousarray(astronaut[:200, 130:310])


def made(image: Image, seed: int = 0, **knobs: object) -> Image:
    return apply(image, Augmentation(**knobs), np.random.default_rng(seed))


def apart(one: Image, other: Image) -> float:
    """Mean difference in levels."""
    return float(np.abs(one.astype(float) - other).mean())


def detail(image: Image) -> float:
    """Mean difference of neighbours."""
    return float(np.abs(np.diff(image.astype(float), axis=1)).mean())


# Presets


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_keeps_size_and_type_and_leaves_the_picture_alone(face, name):
    before = face.copy()
    for seed in range(12):
        altered = apply(face, PRESETS[name], np.random.default_rng(seed))
        assert altered.shape == face.shape
        assert altered.dtype == np.uint8
    assert (face == before).all()


@pytest.mark.parametrize("name", PRESETS)
def test_an_alteration_follows_from_its_seed(face, name):
    one, same = (apply(face, PRESETS[name], np.random.default_rng(5)) for _ in range(2))
    assert (one == same).all()


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "none"])
def test_another_seed_is_another_alteration(face, name):
    seen = {apply(face, PRESETS[name], np.random.default_rng(n)).tobytes() for n in range(12)}
    assert len(seen) > 6


def test_none_gives_the_picture_back(face):
    assert apply(face, PRESETS["none"], np.random.default_rng(0)) is face


def test_a_picture_of_any_shape_keeps_it(astronaut):
    for shape in ((97, 31), (20, 200), (16, 16)):
        image = np.ascontiguousarray(astronaut[: shape[0], : shape[1]])
        for name in PRESETS:
            assert apply(image, PRESETS[name], np.random.default_rng(1)).shape == image.shape


def test_strong_changes_more_than_standard(face):
    def mean(name: str) -> float:
        how = replace(PRESETS[name], flip=0)
        made = [apply(face, how, np.random.default_rng(seed)) for seed in range(40)]
        return float(np.mean([apart(face, each) for each in made]))

    assert mean("strong") > 1.3 * mean("standard")


def test_the_effort_preset_has_the_probabilities_of_the_released_code():
    found = PRESETS["effort"]
    assert {
        field.name: getattr(found, field.name)
        for field in fields(found)
        if field.name in CHANCES and getattr(found, field.name)
    } == {
        "flip": 0.5, "tone": 0.5, "colour": 0.3, "jpeg": 0.1, "noise": 0.1, "motion": 0.1,
        "clahe": 0.1, "shuffle": 0.1, "cutout": 0.1, "gamma": 0.3, "glass": 0.3,
    }  # fmt: skip
    assert (found.brightness, found.contrast, found.jpeg_quality) == (0.2, 0.2, (40, 100))


def test_the_gend_preset_has_the_published_ranges():
    found = PRESETS["gend"]
    assert (found.flip, found.rotation, found.shift, found.zoom) == (0.5, 10, 0.1, (0.9, 1.1))
    assert (found.blur, found.brightness, found.contrast, found.jpeg_quality) == (
        0.1, 0.1, 0.1, (40, 100)
    )  # fmt: skip


# Knobs

CHANCES = (
    *("flip", "affine", "tone", "gamma", "colour", "grayscale", "shuffle", "clahe", "blur"),
    *("motion", "glass", "noise", "shrink", "webp", "jpeg", "cutout"),
)
STRENGTHS = {
    "affine": {"rotation": 10.0},
    "tone": {"brightness": 0.2},
    "colour": {"hue": 20.0},
    "shrink": {"shrink_least": 8},
}
"""Of changes that do nothing to a small picture by default."""


def test_every_chance_has_a_test():
    defaults = Augmentation()
    whole = {"rotation", "shift", "brightness", "contrast", "hue", "saturation", "value"}
    zero = {field.name for field in fields(defaults) if getattr(defaults, field.name) == 0}
    assert zero - whole == set(CHANCES)


@pytest.mark.parametrize("chance", CHANCES)
def test_a_change_happens_as_often_as_its_knob_says(face, chance):
    small = np.ascontiguousarray(face[:64, :64])
    knobs = STRENGTHS.get(chance, {})
    always = [made(small, seed, **{chance: 1.0}, **knobs) for seed in range(8)]
    assert sum((each != small).any() for each in always) >= 6  # a drawn strength may be near none
    often = [made(small, seed, **{chance: 0.3}, **knobs) is small for seed in range(100)]
    assert 0.55 < np.mean(often) < 0.85


def test_a_flip_is_a_mirror(face):
    assert (made(face, flip=1) == face[:, ::-1]).all()


def test_no_strength_is_no_change(face):
    assert (made(face, affine=1, tone=1, colour=1) == face).all()


def test_a_shift_moves_the_picture(face):
    moved = made(face, affine=1, shift=0.1)
    found = cv2.matchTemplate(moved, face[60:140, 50:130], cv2.TM_SQDIFF).argmin()
    down, right = np.unravel_index(found, (121, 101))
    assert 1 <= max(abs(down - 60), abs(right - 50)) <= 20


def test_gray_has_one_level_for_all_channels(face):
    gray = made(face, grayscale=1)
    assert (np.ptp(gray, axis=2) <= 1).all()
    expected = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    assert np.abs(gray[:, :, 0].astype(int) - expected).max() <= 1


def test_shuffled_channels_are_the_same_ones(face):
    shuffled = made(face, 1, shuffle=1)
    assert sorted(shuffled[:, :, c].tobytes() for c in range(3)) == sorted(
        face[:, :, c].tobytes() for c in range(3)
    )


def test_a_hue_turns_colours_and_leaves_gray(face):
    gray = np.repeat(face[:, :, :1], 3, axis=2)
    assert apart(made(face, colour=1, hue=40), face) > 3
    assert apart(made(gray, colour=1, hue=40), gray) < 0.6


@pytest.mark.parametrize(
    "knobs",
    [
        {"blur": 1, "blur_sigma": (2, 2)},
        {"motion": 1, "motion_length": (9, 9)},
        {"shrink": 1, "shrink_factor": (0.3, 0.3), "shrink_least": 8},
    ],
)
def test_a_blurred_or_shrunk_picture_has_less_detail(face, knobs):
    assert detail(made(face, **knobs)) < 0.7 * detail(face)


def test_noise_has_its_sigma():
    gray = np.full((100, 100, 3), 128, np.uint8)
    noisy = made(gray, noise=1, noise_sigma=(6, 6))
    assert noisy.std() == pytest.approx(6, rel=0.03)
    assert noisy.mean() == pytest.approx(128, abs=0.2)


def test_a_face_is_not_shrunk_below_the_least_side(face, monkeypatch):
    sizes = []
    resized = pixel_changes.resized

    def watched(image: Image, size: tuple[int, int], interpolation: int) -> Image:
        sizes.append(size)
        return resized(image, size, interpolation)

    monkeypatch.setattr(pixel_changes, "resized", watched)
    made(face, shrink=1, shrink_factor=(0.1, 0.1), shrink_least=90)
    assert min(sizes[0]) == 90


@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_a_lower_quality_loses_more(face, codec):
    low, high = (
        apart(made(face, **{codec: 1, f"{codec}_quality": (q, q)}), face) for q in (10, 90)
    )
    assert low > 2 * high > 0


def test_the_blocks_of_a_jpeg_start_anywhere(face):
    starts = set()
    for seed in range(40):
        steps = np.abs(np.diff(made(face, seed, jpeg=1, jpeg_quality=(5, 5)).astype(int), axis=1))
        starts.add(int(np.argmax([steps[:, n::8].mean() for n in range(8)])))
    assert len(starts) >= 6


def test_a_cut_out_is_black_and_has_its_size():
    white = np.full((100, 200, 3), 255, np.uint8)
    cut = made(white, cutout=1, cutout_count=(1, 1), cutout_side=(0.2, 0.2))
    assert (cut == 0).all(2).sum() == 20 * 40
    assert set(np.unique(cut)) == {0, 255}


def test_every_knob_is_documented():
    text = Path(augmentation_module.__file__).read_text(encoding="utf-8")
    for field in fields(Augmentation):
        _, _, after = text.partition(f"    {field.name}: ")
        assert after.split("\n", 2)[1].startswith('    """'), field.name


# Text


def test_a_preset_may_be_named_with_changes():
    found = parse_augmentation("strong, jpeg=0.5 zoom=0.7-1.3,glass_reach=2, noise_sigma=4")
    assert found == replace(
        PRESETS["strong"], jpeg=0.5, zoom=(0.7, 1.3), glass_reach=2, noise_sigma=(4, 4)
    )


def test_a_number_may_be_written_with_an_exponent():
    assert parse_augmentation("none, hue=1e-3, zoom=1e-1-2").zoom == (0.1, 2)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("standart", "augmentation is 'standart'. Did you mean 'standard'"),
        ("none, jpg=1", "'jpg' is not known. Did you mean 'jpeg'"),
        ("none, jpeg", "jpeg is ''; a number such as 0 was expected"),
        ("none, jpeg=often", "jpeg is 'often'; a number such as 0 was expected"),
        ("none, jpeg=0.2-0.4", "jpeg is '0.2-0.4'; a number"),
        ("none, glass_reach=1.5", "glass_reach is '1.5'; a number such as 4"),
        ("none, zoom=1-2-3", "zoom is '1-2-3'; a range such as 0.5-1 was expected"),
        ("none, jpeg=1.5", "jpeg is 1.5; it must be within 0 to 1$"),
        ("none, jpeg=nan", "jpeg is nan; it must be within 0 to 1"),
        ("none, zoom=2-1", "zoom is 2-1; it must be within 0.1 to 10, the smaller number first"),
        ("none, jpeg_quality=0-50", "jpeg_quality is 0-50; it must be within 1 to 100"),
    ],
)
def test_text_that_is_not_understood_is_refused(text, sentence):
    with pytest.raises(ConfigError, match=sentence):
        parse_augmentation(text)


# The altered copies of a probe


def test_the_copies_of_a_probe_are_those_of_released_detectors(face):
    # Features of the built-in detector were cached for these very pixels. JPEG coding and filters
    # belong to OpenCV, so only its own draws are pinned: size, and that content decides.
    shapes = [augment(face, np.random.default_rng(seed)).shape[:2] for seed in range(6)]
    assert shapes == [(89, 80), (200, 180), (178, 160), (176, 159), (197, 177), (200, 180)]
    change = augmenter(1, 0)
    one, same, other = (change(face, sha256(key).hexdigest()) for key in (b"a", b"a", b"b"))
    assert one.tobytes() == same.tobytes() != other.tobytes()
