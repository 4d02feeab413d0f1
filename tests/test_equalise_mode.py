"""The equalise mode: two sources that differ in size and compression alone are alike afterwards."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from unmask.errors import ConfigError
from unmask.train.pictures import pixel_changes
from unmask.train.pictures.equalise import EqualiseSpec, equalise
from unmask.types import Image

SIDE = 160


def scene(number: int, astronaut: Image) -> Image:
    """A drawn view of a photo, 160 pixels wide."""
    rng = np.random.default_rng(number)
    size = int(rng.integers(200, 340))
    top, left = rng.integers(0, 512 - size, 2)
    view = astronaut[top : top + size, left : left + size]
    return np.asarray(cv2.resize(view, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def camera(number: int, astronaut: Image) -> Image:
    """Full resolution, saved well."""
    quality = 92 + number % 4
    return pixel_changes.as_jpeg(scene(number, astronaut), quality, pixel_changes.SUBSAMPLING[1])


def video(number: int, astronaut: Image) -> Image:
    """Three quarters of the resolution, saved badly, enlarged."""
    small = pixel_changes.resized(scene(number, astronaut), (120, 120), cv2.INTER_AREA)
    saved = pixel_changes.as_jpeg(small, 55 + number % 10)
    return pixel_changes.resized(saved, (SIDE, SIDE), cv2.INTER_LINEAR)


def traces(image: Image) -> list[float]:
    """Bytes at three qualities, the step at each of 8 columns, and energy by frequency."""
    sizes = [np.log(len(cv2.imencode(".jpg", image, [1, q])[1])) for q in (50, 80, 95)]
    gray = image.mean(2)
    steps = np.abs(np.diff(gray, axis=1)).mean(0)
    blocks = [steps[n::8].mean() / steps.mean() for n in range(8)]
    power = np.abs(np.fft.fft2(gray - gray.mean())) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE)))
    bands = [(frequency >= low) & (frequency < low + 0.1) for low in (0.1, 0.2, 0.3, 0.4)]
    energy = [np.log(power[band].sum() / power.sum()) for band in bands]
    return [*sizes, sizes[2] - sizes[0], *blocks, *energy]


def told_apart(astronaut: Image, change: Callable[[Image, int], Image]) -> float:
    """AUC of a classifier of traces, cross-validated, with 50 pictures of each source."""
    x = [
        traces(change(source(number, astronaut), number))
        for number, source in ((n, video if n % 2 else camera) for n in range(100))
    ]
    y = np.arange(100) % 2
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=500))
    scores = cross_val_predict(model, np.array(x), y, cv=5, method="decision_function")
    return float(roc_auc_score(y, scores))


def equal(image: Image, number: int) -> Image:
    return equalise(image, np.random.default_rng([number, 7]))


def test_sources_are_told_apart_before_and_hardly_after(astronaut):
    assert told_apart(astronaut, lambda image, _: image) > 0.98
    assert told_apart(astronaut, equal) < 0.75  # with 50 pictures chance alone gives .4 to .6


def test_a_picture_keeps_its_size_and_is_not_altered_in_place(astronaut):
    image = astronaut[:300, :200].copy()
    before = image.copy()
    found = equal(image, 0)
    assert (found.shape, found.dtype) == (image.shape, np.uint8)
    assert (image == before).all()


def test_it_follows_from_its_seed(astronaut):
    one, same, other = (equal(astronaut, number) for number in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_every_picture_draws_alike_whatever_its_size(astronaut):
    states = []
    for side in (60, 200, 512):
        rng = np.random.default_rng(0)
        equalise(np.ascontiguousarray(astronaut[:side, :side]), rng)
        states.append(rng.bit_generator.state)
    assert states[0] == states[1] == states[2]


def test_sides_qualities_and_chroma_are_drawn_from_their_ranges(astronaut, monkeypatch):
    drawn = []
    as_jpeg = pixel_changes.as_jpeg

    def watched(image: Image, quality: int, subsampling: int, grid: tuple[int, int]) -> Image:
        drawn.append((image.shape[0], quality, subsampling, *grid))
        return as_jpeg(image, quality, subsampling, grid)

    monkeypatch.setattr(pixel_changes, "as_jpeg", watched)
    image = np.ascontiguousarray(astronaut[:200, :300])
    for seed in range(250):
        equalise(image, np.random.default_rng(seed))
    sides, qualities, chroma, right, down = (set(values) for values in zip(*drawn, strict=True))
    assert (min(sides), max(sides)) == (80, 128)
    assert (min(qualities), max(qualities)) == (50, 92)
    assert chroma == set(pixel_changes.SUBSAMPLING)
    assert right == down == set(range(8))


def test_pictures_are_blurred_at_their_small_size(astronaut, monkeypatch):
    drawn = []
    softened = pixel_changes.softened

    def watched(image: Image, sigma: float) -> Image:
        drawn.append((image.shape[0], sigma))
        return softened(image, sigma)

    monkeypatch.setattr(pixel_changes, "softened", watched)
    image = np.ascontiguousarray(astronaut[:200, :200])
    for seed in range(60):
        equalise(image, np.random.default_rng(seed))
    equalise(image, np.random.default_rng(0), EqualiseSpec(blur=(0, 0)))
    assert len(drawn) == 60
    assert max(side for side, _ in drawn) <= 128
    assert min(sigma for _, sigma in drawn) < 0.15
    assert 1.05 < max(sigma for _, sigma in drawn) <= 1.2


def test_a_smaller_picture_is_saved_at_its_own_size(astronaut, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        pixel_changes, "as_jpeg", lambda image, *_: sizes.append(image.shape[:2]) or image
    )
    equalise(np.ascontiguousarray(astronaut[:60, :70]), np.random.default_rng(0))
    assert sizes == [(60, 70)]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"sides": (8, 100)}, "sides is 8 to 100; it must be within 16 to 8192"),
        ({"sides": (100, 90)}, "sides is 100 to 90"),
        ({"blur": (-1, 1)}, "blur is -1 to 1; it must be within 0 to 20"),
        ({"qualities": (0, 90)}, "qualities is 0 to 90; it must be within 1 to 100"),
        ({"full_chroma": 1.5}, "full_chroma is 1.5; it must be within 0 to 1"),
    ],
)
def test_a_value_that_cannot_be_is_refused(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        EqualiseSpec(**values)
