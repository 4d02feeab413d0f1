"""Self-blended images: where they differ, what their masks are, and what cannot be blended."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from unmask.errors import ConfigError, FaceError
from unmask.faces import make_finder
from unmask.faces.align import crop_face, template
from unmask.train.pictures import selfblend as selfblend_module
from unmask.train.pictures.selfblend import SelfBlendSpec, self_blended
from unmask.types import Image

DEFAULT = SelfBlendSpec()
STILL = SelfBlendSpec(
    shift=0, hue=0, saturation=0, contrast=0, soften=0, sharpen_amount=(0, 0), zoom=0, move=0,
    turn=0, part=0, no_forehead=0, deform=0, grow=(0, 0), ratios=(1.0,),
)  # fmt: skip
"""Blends a face with itself as it is."""


@pytest.fixture(scope="module")
def face(astronaut: Image) -> Image:
    """An aligned crop of 160 pixels."""
    image = astronaut[:300, 80:380]
    found = make_finder("yunet").find(image)[0]
    return crop_face(image, found, size=160, antialias=True).image


def outline(count: int) -> np.ndarray:
    """So many points of a face in the crop: an oval jaw and forehead, and a middle."""
    angles = np.linspace(0, np.pi, 17)
    jaw = np.column_stack([80 - 48 * np.cos(angles), 80 + 55 * np.sin(angles)])
    eyebrows = [(45 + 8 * n, 58) for n in range(10)]  # 17-26
    nose = [(80, 74 + 5 * n) for n in range(4)] + [(70 + 5 * n, 94) for n in range(5)]  # 27-35
    eyes = [(50 + 5.5 * n, 68) for n in range(12)]  # 36-47
    turn = np.linspace(0, 6, 20)
    mouth = np.column_stack([80 + 18 * np.cos(turn), 115 + 7 * np.sin(turn)])  # 48-67
    above = np.linspace(0.1, np.pi - 0.1, 13)
    forehead = np.column_stack([80 - 48 * np.cos(above), 78 - 55 * np.sin(above)])
    return np.concatenate([jaw, eyebrows, nose, eyes, mouth, forehead])[:count]


POINTS: dict[int, Callable[[], np.ndarray]] = {
    5: lambda: template(160, 1.3),
    68: lambda: outline(68),
    81: lambda: outline(81),
}


def blended(image: Image, seed: int = 0, count: int = 5, spec: SelfBlendSpec = DEFAULT):
    return self_blended(image, POINTS[count](), np.random.default_rng(seed), spec)


# The picture


@pytest.mark.parametrize("count", POINTS)
def test_outside_of_the_mask_it_is_the_picture(face, count):
    before = face.copy()
    for seed in range(15):
        image, mask = blended(face, seed, count)
        assert (image[mask == 0] == face[mask == 0]).all()
    assert (face == before).all()


@pytest.mark.parametrize("count", POINTS)
def test_inside_of_the_mask_it_is_slightly_another(face, count):
    differences = []
    for seed in range(30):
        image, mask = blended(face, seed, count)
        inside = mask > 0.5 * mask.max()
        differences.append(np.abs(image[inside].astype(float) - face[inside]).mean())
    assert min(differences) > 0.5
    assert 3 < np.mean(differences) < 15


def test_it_has_size_and_type_of_the_picture(face):
    for part in (face, face[:, 10:150], face[:150]):
        image, mask = blended(np.ascontiguousarray(part))
        assert (image.shape, image.dtype) == (part.shape, np.uint8)
        assert (mask.shape, mask.dtype) == (part.shape[:2], np.float32)


def test_it_follows_from_its_seed(face):
    (one, mask), (same, mask_again), (other, _) = (blended(face, seed) for seed in (3, 3, 4))
    assert (one == same).all()
    assert (mask == mask_again).all()
    assert (one != other).any()


def test_a_face_blended_with_itself_unchanged_is_itself(face):
    image, mask = blended(face, spec=STILL)
    assert mask.max() == 1
    assert np.abs(image.astype(int) - face).max() <= 1


@pytest.mark.parametrize(
    "changed",
    [
        {"shift": 12},
        {"hue": 10},
        {"saturation": 0.4},
        {"contrast": 0.2},
        {"soften": 1},
        {"sharpen_amount": (0.5, 0.5)},
        {"zoom": 0.05},
        {"move": 0.05},
        {"turn": 5},
    ],
)
def test_each_mismatch_alone_shows(face, changed):
    spec = replace(STILL, **changed)
    for seed in range(4):
        assert (blended(face, seed, spec=spec)[0] != face).sum() > 1000


def test_a_smaller_ratio_blends_less_in(face):
    weak, strong = (
        np.abs(blended(face, spec=replace(DEFAULT, ratios=(r,)))[0].astype(int) - face).sum()
        for r in (0.25, 1.0)
    )
    assert weak == pytest.approx(0.25 * strong, rel=0.05)


def test_the_other_copy_may_be_changed_as_in_the_paper(face):
    image, mask = blended(face, spec=replace(DEFAULT, outside=1.0))
    assert (image[mask == 0] != face[mask == 0]).mean() > 0.5


def test_the_edge_of_the_picture_is_not_seen_twice(face):
    # Black beyond the edge of the photo, as alignment leaves it, across the cheek.
    cut = face.copy()
    cut[:, :45] = 0
    for seed in range(10):
        image, mask = blended(cut, seed, spec=replace(DEFAULT, part=0))
        assert mask[:, :45].max() < 0.1
        assert image[:, :45].max() < 20


# The mask


@pytest.mark.parametrize("count", POINTS)
def test_a_mask_is_within_0_and_1_and_never_empty(face, count):
    for seed in range(40):
        _, mask = blended(face, seed, count)
        assert mask.min() >= 0
        assert mask.max() in np.float32(DEFAULT.ratios)


def test_masks_differ_in_shape_and_edge(face):
    masks = [blended(face, seed, spec=replace(DEFAULT, ratios=(1.0,)))[1] for seed in range(20)]
    areas = [float((mask > 0.5).mean()) for mask in masks]
    soft = [float(((mask > 0.05) & (mask < 0.95)).sum() / (mask > 0.05).sum()) for mask in masks]
    assert max(areas) > 3 * min(areas)
    assert max(soft) > 2 * min(soft)


@pytest.mark.parametrize(("count", "top", "bottom"), [(5, 37, 146), (68, 58, 135), (81, 23, 135)])
def test_without_bending_the_mask_is_the_face(face, count, top, bottom):
    for seed in range(10):
        rows, columns = np.nonzero(blended(face, seed, count, STILL)[1] > 0.5)
        found = rows.min(), rows.max(), columns.min(), columns.max()
        assert found == pytest.approx((top, bottom, 80 - 48, 80 + 48), abs=8)


@pytest.mark.parametrize("count", [5, 81])
def test_a_face_may_end_at_the_eyebrows(face, count):
    whole, bare = (
        np.nonzero(blended(face, 0, count, replace(STILL, no_forehead=n))[1] > 0.5)[0].min()
        for n in (0, 1)
    )
    assert bare - whole > 15


@pytest.mark.parametrize("count", POINTS)
def test_a_part_is_a_small_region_within_the_face(face, count):
    whole = blended(face, 0, 81, STILL)[1] > 0.5
    for seed in range(6):
        part = blended(face, seed, count, replace(STILL, part=1))[1] > 0.5
        assert 0.01 < part.sum() / whole.sum() < 0.45
        assert (part & whole).sum() > 0.9 * part.sum()


def test_a_part_that_is_too_small_gives_way_to_the_whole_face(face):
    small = np.ascontiguousarray(face[::8, ::8])
    points = template(20, 1.3)
    for seed in range(6):
        _, mask = self_blended(
            small, points, np.random.default_rng(seed), replace(STILL, part=1, feather=(0.001,) * 2)
        )
        assert (mask > 0.5).sum() >= 48


def test_a_region_that_is_narrowed_away_keeps_its_shape(face):
    _, mask = blended(face, 0, spec=replace(STILL, part=1, deform=0.2, grow=(-0.2, -0.2)))
    assert 0 < (mask > 0.5).mean() < 0.3


def test_a_dark_picture_is_blended_too():
    _, mask = blended(np.zeros((160, 160, 3), np.uint8))
    assert mask.max() > 0


# What cannot be


@pytest.mark.parametrize(
    "points", [np.zeros((0, 2)), np.zeros((6, 2)), np.zeros((5, 3)), np.full((5, 2), np.nan)]
)
def test_other_points_are_refused(face, points):
    with pytest.raises(FaceError, match=r"expected finite \(x, y\) of 5 points"):
        self_blended(face, points, np.random.default_rng(0))


@pytest.mark.parametrize("offset", [(-90, 0), (0, 120), (1000, 1000)])
def test_landmarks_outside_of_the_picture_are_refused(face, offset):
    points = template(160, 1.3) + np.array(offset)
    with pytest.raises(FaceError, match=r"of 5 landmarks lie outside of the picture of 160 x 160"):
        self_blended(face, points, np.random.default_rng(0))


def test_a_forehead_may_lie_beyond_the_edge(face):
    image, mask = self_blended(face[30:], outline(81) - (0, 30), np.random.default_rng(0))
    assert mask.shape == (130, 160)
    assert image.shape == (130, 160, 3)


def test_a_face_of_a_few_pixels_is_refused(face):
    points = 80 + (template(160, 1.3) - 80) / 30
    with pytest.raises(FaceError, match=r"enclose \d+ pixels of the picture; at least 48"):
        self_blended(face, points, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"part": 1.5}, "part is 1.5; it must be within 0 to 1$"),
        ({"soften_factor": (0.8, 0.4)}, "must be within 0.05 to 1, the smaller number first"),
        ({"ratios": ()}, r"ratios is \(\); it must be within 0.01 to 1"),
        ({"ratios": (0.0, 1.0)}, "ratios is"),
        ({"grow": (-0.9, 0)}, "grow is"),
        ({"shift": float("nan")}, "shift is nan"),
    ],
)
def test_a_value_that_cannot_be_is_refused(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        SelfBlendSpec(**values)


def test_every_knob_is_documented():
    text = Path(selfblend_module.__file__).read_text(encoding="utf-8")
    for field in fields(SelfBlendSpec):
        _, _, after = text.partition(f"    {field.name}: ")
        assert after.split("\n", 2)[1].startswith('    """'), field.name
