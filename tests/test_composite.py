"""Composites of two faces: what is another person's, and what cannot be composed."""

from collections.abc import Callable
from typing import cast

import cv2
import numpy as np
import pytest

from tiny_detectors import noise_image
from unmask.errors import ConfigError, FaceError
from unmask.faces import make_finder
from unmask.faces.align import crop_face, template
from unmask.train import forge
from unmask.train.config import TrainConfig
from unmask.train.crops import CachedCrop, Crops
from unmask.train.forge import forge_of
from unmask.train.pictures import composite
from unmask.train.pictures.composite import composed
from unmask.types import Image, Sample

SIZE = 160
POINTS = template(SIZE, 1.3)


@pytest.fixture(scope="module")
def face(astronaut: Image) -> Image:
    image = astronaut[:300, 80:380]
    found = make_finder("yunet").find(image)[0]
    return crop_face(image, found, size=SIZE, antialias=True).image


@pytest.fixture(scope="module")
def donor(face) -> Image:
    """Another face: the same one mirrored, darker and bluer."""
    return (face[:, ::-1] * np.array([0.5, 0.6, 0.9])).astype(np.uint8)


@pytest.fixture
def plain(monkeypatch) -> Callable[..., None]:
    """Nothing is drawn but what a test sets."""

    def set_(**constants: object) -> None:
        defaults = {
            "_BOTH_EYES": 1, "_ONE_EYE": 0, "_PART": 1, "_ONE_PIECE": 0, "_APART": 0, "_SCALE": 0,
            "_PLACE": 0, "_HEALED": 0, "_MATCHED": (0.0,), "_DEVIATIONS": (1.0, 1.0),
            "_FEATHER": (0.001, 0.001), "_AXES": (1.0, 1.0), "_DEFORM": 0, "_GROW": (0, 0),
        }  # fmt: skip
        for name, value in (defaults | constants).items():
            monkeypatch.setattr(composite, name, value)

    return set_


def made(face: Image, donor: Image, seed: int = 0, points=POINTS, others=POINTS):
    return composed(face, points, donor, others, np.random.default_rng(seed))


def test_outside_of_the_mask_it_is_the_picture(face, donor):
    before, other = face.copy(), donor.copy()
    for seed in range(20):
        image, mask = made(face, donor, seed)
        assert (image.shape, image.dtype) == (face.shape, np.uint8)
        assert (mask.shape, mask.dtype) == (face.shape[:2], np.float32)
        assert 0 <= mask.min() <= 0.5 < mask.max() <= 1
        x, y, width, height = cv2.boundingRect(np.uint8(mask > 0))
        beyond = np.ones_like(mask, bool)
        beyond[y : y + height, x : x + width] = False
        assert (image[beyond] == face[beyond]).all()
        assert np.abs(image.astype(int) - face)[mask > 0.5].mean() > 2, seed
    assert (face == before).all()
    assert (donor == other).all()


def test_without_healing_it_is_the_picture_wherever_the_mask_is_0(face, donor, monkeypatch):
    monkeypatch.setattr(composite, "_HEALED", 0)
    for seed in range(10):
        image, mask = made(face, donor, seed)
        assert (image[mask == 0] == face[mask == 0]).all()


def test_inside_it_is_the_donor_s(plain, face, donor):
    plain()
    image, mask = made(face, donor)
    assert np.abs(image[mask > 0.99].astype(int) - donor[mask > 0.99]).max() <= 2


def test_it_follows_from_its_seed(face, donor):
    one, same, other = (made(face, donor, seed)[0] for seed in (3, 3, 4))
    assert (one == same).all()
    assert (one != other).any()


def test_masks_and_edges_differ(face, donor):
    areas = [float((made(face, donor, seed)[1] > 0.5).mean()) for seed in range(30)]
    assert max(areas) > 4 * min(areas)
    assert max(areas) < 0.5


@pytest.mark.parametrize(
    ("drawn", "covered"),
    [
        ({"_BOTH_EYES": 1, "_PART": 0}, (1, 1, 0, 0)),
        ({"_BOTH_EYES": 0, "_PART": 1}, (0, 0, 1, 1)),
        ({}, (1, 1, 1, 1)),
    ],
)
def test_the_parts_that_are_drawn_are_the_donor_s(plain, face, donor, drawn, covered):
    plain(**drawn)
    _, mask = made(face, donor)
    places = [*POINTS[:3], POINTS[3:].mean(0)]
    assert tuple(mask[round(y), round(x)] > 0.5 for x, y in places) == covered


def test_one_eye_may_be_another_person_s(plain, face, donor):
    plain(_BOTH_EYES=0, _ONE_EYE=1, _PART=0)
    sides = set()
    for seed in range(8):
        _, mask = made(face, donor, seed)
        left, right = (mask[round(y), round(x)] > 0.5 for x, y in POINTS[:2])
        assert left != right
        sides.add(bool(left))
    assert sides == {True, False}


def test_no_composite_is_without_a_part(plain, face, donor):
    plain(_BOTH_EYES=0, _PART=0)
    masks = [made(face, donor, seed)[1] > 0.5 for seed in range(12)]
    assert all(mask.any() for mask in masks)
    assert len({mask.tobytes() for mask in masks}) == 4


@pytest.mark.parametrize("apart", [0, 1])
def test_the_donor_s_face_is_brought_to_the_other_s_place(plain, face, donor, apart):
    plain(_APART=apart)
    image, mask = made(face, donor)
    smaller = np.ascontiguousarray(donor[::2, ::2])
    moved, same = made(face, smaller, others=POINTS / 2)
    assert (mask == same).all()
    assert np.abs(image.astype(int) - moved).mean() < 2


def test_a_part_by_itself_lies_where_the_other_was(plain, face):
    plain(_APART=1, _BOTH_EYES=0, _PART=1)
    dark = np.zeros_like(face)
    lips = POINTS + np.array([[0, 0], [0, 0], [0, 0], [0, 12], [0, 12]])
    x, y = lips[3:].mean(0)
    dark[round(y) - 3 : round(y) + 3, round(x) - 8 : round(x) + 8] = 255
    image, _ = made(face, dark, others=lips)
    x, y = POINTS[3:].mean(0)
    assert image[round(y), round(x)].min() > 200


def test_colours_are_matched_to_the_skin_around(plain, face, donor):
    plain()
    image, mask = made(face, donor)
    inside = mask > 0.9
    plain(_MATCHED=(1.0,))
    matched, same = made(face, donor)
    assert (mask == same).all()
    apart, closer = (
        np.abs(each[inside].mean(0) - face[inside].mean(0)).mean() for each in (image, matched)
    )
    assert closer < 0.4 * apart


def test_a_healed_edge_is_no_step(plain, face, donor):
    def step(image: Image, mask: np.ndarray) -> float:
        edge = np.gradient(np.asarray(mask > 0.5, float))[1] != 0
        return float(np.abs(np.gradient(image.astype(float).mean(-1))[1])[edge].mean())

    plain(_PART=0)
    hard = step(*made(face, donor))
    plain(_PART=0, _HEALED=1)
    assert step(*made(face, donor)) < 0.7 * hard


def test_a_healed_part_is_the_donor_s_too(plain, face, donor):
    def detail(image: Image) -> np.ndarray:
        return cv2.Laplacian(image.astype(np.float32).mean(-1), cv2.CV_32F, ksize=3)

    plain(_PART=0)
    _, hard = made(face, donor)
    plain(_PART=0, _HEALED=1)
    image, mask = made(face, donor)
    assert ((mask > 0.5) == (hard > 0.5)).mean() > 0.99
    inside = cv2.erode(mask, np.ones((5, 5))) > 0.5
    found, theirs, own = (detail(each)[inside] for each in (image, donor, face))
    assert np.corrcoef(found, theirs)[0, 1] > 0.85
    assert np.corrcoef(found, own)[0, 1] < 0.5


def test_black_beyond_the_picture_s_edge_stays(plain, face, donor):
    plain(_PART=0)
    cut = donor.copy()
    cut[:, :45] = 0
    _, mask = made(face, cut)
    assert mask[:, :45].max() < 0.1


@pytest.mark.parametrize("points", [np.zeros((0, 2)), np.zeros((81, 2)), np.full((5, 2), np.nan)])
def test_other_points_are_refused(face, donor, points):
    for own, others in ((points, POINTS), (POINTS, points)):
        with pytest.raises(FaceError, match=r"expected 5 finite points \(x, y\)"):
            made(face, donor, points=own, others=others)


@pytest.mark.parametrize("points", [POINTS / 40 + 70, POINTS + 1000])
def test_a_face_without_pixels_cannot_be_composed(face, donor, points):
    with pytest.raises(FaceError, match="no part of the face covers 24 pixels"):
        made(face, donor, points=points)


# Of whom


class People:
    """Faces in memory: of each a data set, a person, and how far its nose is moved."""

    def __init__(self, *faces: tuple[str, str, float], label: int = 0) -> None:
        self.noses = [nose for _, _, nose in faces]
        self.samples = tuple(
            Sample(path=f"{number}.png", source=f"{number}.png", label=label, dataset=dataset,
                   group=person)
            for number, (dataset, person, _) in enumerate(faces)
        )  # fmt: skip

    def __getitem__(self, index: int) -> CachedCrop:
        points = template(64, 1.3).astype(np.float32)
        points[2, 0] += self.noses[index]
        return CachedCrop(noise_image(index, (64, 64)), points)


@pytest.fixture
def pairs(monkeypatch) -> list[tuple[bytes, bytes]]:
    """Told for every composite: the picture and its donor."""
    told: list[tuple[bytes, bytes]] = []

    def recorded(image, _points, donor, _others, _rng):
        told.append((image.tobytes(), donor.tobytes()))
        return image, np.ones(image.shape[:2], np.float32)

    monkeypatch.setattr(forge, "composed", recorded)
    return told


def donors_of(people: People, index: int, pairs: list[tuple[bytes, bytes]]) -> set[int]:
    forged = forge_of(cast("Crops", people), TrainConfig(composites=1))
    for seed in range(80):
        forged(index, np.random.default_rng(seed))
    numbers = {people[n].image.tobytes(): n for n in range(len(people.samples))}
    assert {own for own, _ in pairs} == {people[index].image.tobytes()}
    return {numbers[donor] for _, donor in pairs}


def test_a_donor_is_another_person_of_the_same_data_set(pairs):
    people = People(("a", "x", 0), ("a", "x", 0), ("a", "y", 5), ("a", "z", 9), ("b", "v", 0))
    assert donors_of(people, 0, pairs) == {2, 3}


def test_a_lone_person_borrows_from_other_data_sets(pairs):
    people = People(("a", "x", 0), ("a", "x", 0), ("b", "y", 5), ("c", "z", 9))
    assert donors_of(people, 0, pairs) == {2, 3}


def test_donors_look_the_same_way(pairs, monkeypatch):
    monkeypatch.setattr(forge, "_DONORS", 2)
    people = People(*[("a", f"{n}", n) for n in range(8)])
    assert donors_of(people, 3, pairs) == {2, 4}


def test_a_single_person_cannot_lend_to_itself():
    people = People(("a", "x", 0), ("a", "x", 1))
    with pytest.raises(ConfigError, match="faces of at least two people among the reals; all 2"):
        forge_of(cast("Crops", people), TrainConfig(composites=0.5))


def test_pseudo_fakes_are_of_both_kinds_by_their_shares(pairs):
    people = People(("a", "x", 0), ("a", "y", 0))
    config = TrainConfig(composites=0.3, self_blended=0.1)
    forged = forge_of(cast("Crops", people), config)
    for seed in range(200):
        forged(0, np.random.default_rng(seed))
    assert 130 < len(pairs) < 170


def test_a_crop_without_points_cannot_be_blended():
    class Pointless(People):
        def __getitem__(self, index: int) -> CachedCrop:
            return CachedCrop(noise_image(index), None)

    forged = forge_of(cast("Crops", Pointless(("a", "x", 0))), TrainConfig(self_blended=1))
    with pytest.raises(
        FaceError, match=r"made of .*: .*cannot outline a face.* Take that file out"
    ):
        forged(0, np.random.default_rng(0))
