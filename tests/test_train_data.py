"""What a training sees: crops on disk, the order of samples, batches, alterations."""

import gc
import os
import signal
from collections import Counter
from contextlib import closing
from dataclasses import replace
from multiprocessing import active_children, get_all_start_methods
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_detectors import noise_image, sample, write_picture, write_pictures
from unmask.errors import FaceError, OutputError, SourceError
from unmask.faces import make_finder
from unmask.faces.align import crop_face, template
from unmask.images import Limits, file_sha256
from unmask.prepare import Stage
from unmask.preprocess import CLIP_MEAN, CLIP_STD, Preprocess
from unmask.train import crops as crops_module
from unmask.train.alter import change_of
from unmask.train.batches import Share, by_processes, crop_batches, normalized, tensor_batches
from unmask.train.config import TrainConfig
from unmask.train.crops import CachedCrop, Crops, crops_of
from unmask.train.forge import forge_of
from unmask.train.pictures.augment import apply
from unmask.train.pictures.augmentation import parse_augmentation
from unmask.train.pictures.equalise import equalise
from unmask.train.pictures.selfblend import self_blended
from unmask.train.sampling import at_most_frames, sampler, slot_rng
from unmask.types import FaceSpec, Image, Sample

STAGE = Stage(
    mode="none",
    face=FaceSpec(size=32, antialias=True),
    preprocess=Preprocess(32, 32, "squash", "bilinear"),
    limits=Limits(),
    max_faces=1,
    min_face_px=32,
)


# Crops on disk


@pytest.fixture
def six(tmp_path) -> list[Sample]:
    write_pictures(tmp_path / "in", [f"{n}.png" for n in range(6)])
    return [sample(tmp_path / "in" / f"{n}.png", label=n % 2, split="train") for n in range(6)]


def cached(samples: list[Sample], cache: Path, stage: Stage = STAGE, **options: object) -> Crops:
    hashes = [file_sha256(each.path) if each.path.is_file() else "" for each in samples]
    return crops_of(samples, hashes, stage, cache=cache, workers=0, **options)


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """Names of the pictures that are decoded from here on."""
    names: list[str] = []
    prepare_all = crops_module.prepare_all

    def counting(samples, *arguments, **options):
        names.extend(each.path.name for each in samples)
        return prepare_all(samples, *arguments, **options)

    monkeypatch.setattr(crops_module, "prepare_all", counting)
    return names


def test_crops_are_the_resized_pictures(six, tmp_path):
    crops = cached(six, tmp_path / "cache")
    assert crops.samples == tuple(six)
    for number in range(6):
        crop = crops[number]
        assert (crop.image == STAGE.preprocess.resize(noise_image(number))).all()
        assert crop.landmarks is None


def test_a_picture_is_decoded_once(six, tmp_path, decoded):
    first = cached(six, tmp_path / "cache")
    decoded.clear()
    again = cached(six, tmp_path / "cache")
    assert decoded == []
    assert (again[3].image == first[3].image).all()


def test_the_same_bytes_are_decoded_once(six, tmp_path, decoded):
    twin = tmp_path / "twin.png"
    twin.write_bytes(six[0].path.read_bytes())
    crops = cached([*six, sample(twin, label=0)], tmp_path / "cache")
    assert len(decoded) == 6
    assert (crops[0].image == crops[6].image).all()


@pytest.mark.parametrize("content", [b"", b"PK", None])
def test_a_damaged_crop_is_made_again(six, tmp_path, decoded, content):
    crops = cached(six, tmp_path / "cache")
    path = next(crops.files[0].parents[1].rglob("*.npz"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    decoded.clear()
    cached(six, tmp_path / "cache")
    assert len(decoded) == 1
    assert path.read_bytes() == whole


def test_nothing_but_whole_crops_is_left(six, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(crops_module.np, "savez", full)
    with pytest.raises(OutputError, match=r"No space left .*--cache"):
        cached(six, tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "changed",
    [
        {"preprocess": Preprocess(40, 40, "squash", "bilinear")},
        {"preprocess": Preprocess(32, 32, "squash", "bicubic")},
        {"min_face_px": 40},
        {"mode": "largest", "face": FaceSpec(size=32, scale=1.5)},
    ],
)
def test_whatever_changes_a_crop_has_a_folder_of_its_own(six, tmp_path, changed):
    found = [cached(six, tmp_path, replace(STAGE, **each)).files for each in ({}, changed)]
    assert not set(found[0]) & set(found[1])


def test_mean_and_deviation_come_after_the_crop(six, tmp_path):
    other = replace(STAGE, preprocess=replace(STAGE.preprocess, mean=(0.1, 0.2, 0.3)))
    assert cached(six, tmp_path, other).files == cached(six, tmp_path).files


def test_d30_a_sample_without_a_crop_is_left_out_and_not_replaced(six, tmp_path):
    # D30: the published loader puts a random other frame in the place of one it cannot read.
    (tmp_path / "cut.png").write_bytes(b"GIF89a")
    bad = [sample(tmp_path / name, label=0) for name in ("cut.png", "gone.png")]
    crops = cached([bad[0], *six, bad[1]], tmp_path / "cache")
    assert crops.samples == tuple(six)
    assert [(each.path.name, reason.code) for each, reason in crops.left_out] == [
        ("cut.png", "damaged"), ("gone.png", "unreadable"),
    ]  # fmt: skip


def test_a_file_that_changed_since_it_was_hashed_is_left_out(six, tmp_path):
    crops = crops_of(six[:1], ["ab" * 32], STAGE, cache=tmp_path / "c", workers=0)
    assert [reason.code for _, reason in crops.left_out] == ["changed"]


def test_a_crop_that_vanished_is_told(six, tmp_path):
    crops = cached(six, tmp_path / "cache")
    for path in crops.files[0].parents[1].rglob("*.npz"):
        path.unlink()
    with pytest.raises(OutputError, match=r"crop of .*0\.png is gone from the cache"):
        crops[0]


def test_progress_is_told_once_per_sample(six, tmp_path):
    told: list[int] = []
    for _ in range(2):
        cached(six, tmp_path / "cache", advance=lambda: told.append(1))
    assert len(told) == 12


def test_a_face_keeps_its_points_in_pixels_of_the_crop(portrait, astronaut, tmp_path):
    stage = replace(STAGE, mode="largest", preprocess=Preprocess(64, 64, "squash", "bilinear"))
    crop = cached([sample(portrait, label=0)], tmp_path, stage)[0]
    image = astronaut[:300, 80:380]
    face = make_finder("yunet").find(image)[0]
    whole = crop_face(image, face, size=32, antialias=True)
    assert whole.matrix is not None
    points = face.landmarks @ whole.matrix[:, :2].T + whole.matrix[:, 2]
    np.testing.assert_allclose(crop.landmarks, 2 * points, atol=0.02)
    assert np.abs(crop.landmarks - 2 * template(32)).max() < 6


# The order of samples


def labelled(*rows: tuple[int, str], **known: object) -> list[Sample]:
    return [
        sample(Path(f"{number}"), label=label, dataset=dataset, split="train", **known)
        for number, (label, dataset) in enumerate(rows)
    ]


UNEVEN = labelled(*[(0, "a")] * 9, *[(0, "b")] * 3, *[(1, "a")] * 2, *[(1, "c")] * 5)


def test_shuffled_shows_every_sample_once_per_pass():
    at = sampler(UNEVEN, "shuffled", 0)
    first, second = ([at(19 * number + n) for n in range(19)] for number in (0, 1))
    assert sorted(first) == sorted(second) == list(range(19))
    assert first != second


def test_balanced_shows_classes_alike_and_data_sets_alike_within_a_class():
    at = sampler(UNEVEN, "balanced", 0)
    shown = Counter((UNEVEN[i].label, UNEVEN[i].dataset) for i in map(at, range(360)))
    assert shown == {(0, "a"): 90, (0, "b"): 90, (1, "a"): 90, (1, "c"): 90}
    assert len({at(slot) for slot in range(360)}) == 19


def test_every_balanced_batch_of_even_size_is_half_real():
    at = sampler(UNEVEN, "balanced", 0)
    for step in range(10):
        assert sum(UNEVEN[at(slot)].label for slot in range(8 * step, 8 * step + 8)) == 4


@pytest.mark.parametrize("how", ["balanced", "shuffled"])
def test_the_order_is_the_seed_s(how):
    one, same, other = ([sampler(UNEVEN, how, seed)(n) for n in range(40)] for seed in (0, 0, 1))
    assert one == same
    assert one != other


def paired(*rows: tuple[int, str]) -> list[Sample]:
    return [
        sample(Path(f"{n}"), label=label, columns=(("pair", name),) if name else ())
        for n, (label, name) in enumerate(rows)
    ]


def test_a_pair_stands_together():
    samples = paired((0, "x"), (1, "y"), (1, "x"), (0, "y"))
    at = sampler(samples, "paired", 0)
    for turn in range(10):
        real, fake = samples[at(2 * turn)], samples[at(2 * turn + 1)]
        assert (real.label, fake.label) == (0, 1)
        assert real.columns == fake.columns


def test_several_fakes_of_one_real_come_in_turn():
    samples = paired((0, "x"), (1, "x"), (1, "x"), (1, "x"))
    at = sampler(samples, "paired", 0)
    assert [at(2 * turn + 1) for turn in range(6)] == [1, 2, 3, 1, 2, 3]
    assert {at(2 * turn) for turn in range(6)} == {0}


@pytest.mark.parametrize(
    "rows",
    [
        [(0, "x"), (1, "x"), (0, ""), (0, "lonely"), (1, "")],
        [(0, "x"), (1, "x"), (1, ""), (1, "")],
        [(0, "x"), (1, "x"), (0, ""), (0, "")],
    ],
)
def test_what_has_no_partner_is_shown_too(rows):
    samples = paired(*rows)
    at = sampler(samples, "paired", 0)
    shown = [at(slot) for slot in range(24)]
    assert set(shown) == set(range(len(rows)))
    assert [samples[each].label for each in shown] == [0, 1] * 12


def test_pairs_of_one_name_in_two_data_sets_are_two():
    samples = [replace(each, dataset=name) for name in "ab" for each in paired((0, "x"), (1, "x"))]
    at = sampler(samples, "paired", 0)
    for turn in range(8):
        assert samples[at(2 * turn)].dataset == samples[at(2 * turn + 1)].dataset


def test_pairs_that_are_not_there_are_refused():
    with pytest.raises(SourceError, match="no such pair was found"):
        sampler(paired((0, "x"), (1, "y"), (1, "")), "paired", 0)


def test_one_class_alone_cannot_be_balanced():
    with pytest.raises(SourceError, match="balanced batches need real and fake"):
        sampler(labelled((0, "a")), "balanced", 0)


def test_d29_frames_of_a_video_are_evenly_spaced_and_validation_keeps_all():
    # D29: the published loader takes the first frames of each video.
    frames = [
        sample(Path(f"{video}{n}"), label=0, dataset="d", video=video, split=split)
        for video, split in (("a", "train"), ("b", "val"))
        for n in range(9)
    ]
    frames.append(sample(Path("alone"), label=1, split="train"))
    names = [each.path.name for each in at_most_frames(frames, 3)]
    assert names == ["a1", "a4", "a7", *(f"b{n}" for n in range(9)), "alone"]
    assert at_most_frames(frames, None) == frames


BLENDED = len(UNEVEN)
"""The first index of a blended real."""


@pytest.mark.parametrize("how", ["balanced", "shuffled"])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.8, 1.0])
def test_a_share_of_the_fakes_is_blended_reals(how, share):
    at = sampler(UNEVEN, how, 0, share)
    count = 8 * 5 * 19
    shown = [at(slot) for slot in range(count)]
    blended = [index - BLENDED for index in shown if index >= BLENDED]
    fakes = [index for index in shown if index < BLENDED and UNEVEN[index].label]
    assert {UNEVEN[index].label for index in blended} == {0}
    assert len(blended) == pytest.approx(share * (len(blended) + len(fakes)), abs=1)
    before = sampler(UNEVEN, how, 0)
    reals = [index for index in shown if index < BLENDED and not UNEVEN[index].label]
    assert reals == [i for i in map(before, range(count)) if not UNEVEN[i].label]


def test_blended_reals_and_fakes_come_from_their_data_sets_alike():
    at = sampler(UNEVEN, "balanced", 0, 0.5)
    shown = Counter()
    for index in map(at, range(720)):
        blended, own = divmod(index, BLENDED)
        shown[blended, UNEVEN[own].label, UNEVEN[own].dataset] += 1
    assert shown == {
        (0, 0, "a"): 180, (0, 0, "b"): 180, (0, 1, "a"): 90, (0, 1, "c"): 90,
        (1, 0, "a"): 90, (1, 0, "b"): 90,
    }  # fmt: skip
    assert {at(slot) for slot in range(720)} >= {BLENDED + i for i in range(12)}


def test_each_pass_replaces_other_fakes():
    at = sampler(UNEVEN, "shuffled", 0, 0.5)
    kept = [{at(19 * number + n) for n in range(19)} & set(range(12, 19)) for number in range(6)]
    assert len({frozenset(each) for each in kept}) > 1
    assert set().union(*kept) == set(range(12, 19))


@pytest.mark.parametrize("how", ["balanced", "shuffled"])
def test_without_blending_the_order_is_the_same(how):
    one, same = ([sampler(UNEVEN, how, 0, *share)(n) for n in range(60)] for share in ((), (0.0,)))
    assert one == same


def test_a_blended_real_stands_beside_itself_in_pairs():
    samples = paired((0, "x"), (1, "x"), (0, "y"), (1, "y"), (0, "z"), (1, "z"))
    at = sampler(samples, "paired", 0, 0.5)
    for turn in range(12):
        real, other = at(2 * turn), at(2 * turn + 1)
        assert other == (real + 6 if turn % 2 else real + 1)


def test_reals_alone_make_pairs_with_themselves():
    samples = paired((0, ""), (0, ""), (1, ""))
    at = sampler(samples, "paired", 0, 1.0)
    assert {(at(2 * turn), at(2 * turn + 1)) for turn in range(8)} == {(0, 3), (1, 4)}


@pytest.mark.parametrize("label", [0, 1])
def test_blending_needs_both_classes_in_any_order(label):
    with pytest.raises(SourceError, match="shuffled batches with pseudo-fakes need real and"):
        sampler(labelled((label, "a")), "shuffled", 0, 0.5)


# Batches


WHOLE = Share()
forked = pytest.mark.skipif(
    "fork" not in get_all_start_methods(), reason="needs processes that are forked"
)


def taken(batches, count: int, first: int = 0, share: Share = WHOLE):
    made = batches(first, share)
    found = [next(made) for _ in range(count)]
    made.close()
    return found


@pytest.fixture
def batches(six, tmp_path):
    crops = cached(six, tmp_path / "cache")

    def change(image: Image, rng: np.random.Generator):
        return np.roll(image, int(rng.integers(32)), axis=0)

    def forge(index: int, _rng: np.random.Generator):
        return crops[index].image[::-1]

    shuffled = sampler(crops.samples, "shuffled", 0)

    def make(workers: int = 0, change=change, at=shuffled, processes: bool = False):
        return crop_batches(
            crops, at, forge, change, STAGE.preprocess,
            batch_size=4, seed=5, workers=workers, processes=processes,
        )  # fmt: skip

    return make


@pytest.mark.parametrize("mean_std", [(CLIP_MEAN, CLIP_STD), ((0.485, 0.456, 0.406), (0.2,) * 3)])
def test_crops_are_normalised_on_the_device_to_the_same_bits(mean_std):
    preprocess = replace(STAGE.preprocess, mean=mean_std[0], std=mean_std[1])
    levels = np.arange(256, dtype=np.uint8)
    images = np.stack([levels, levels[::-1], np.roll(levels, 7)], axis=-1).reshape(1, 16, 16, 3)
    assert np.array_equal(
        normalized(torch.from_numpy(images), preprocess).numpy(), preprocess.normalize(images)
    )


def test_a_batch_is_normalised_crops_and_their_labels(batches, six):
    batch = taken(batches(change=lambda image, _rng: image), 1)[0]
    at = sampler(six, "shuffled", 0)
    images = [STAGE.preprocess(noise_image(at(slot))) for slot in range(4)]
    pixels, labels = batch.on(torch.device("cpu"))
    assert pixels.dtype == torch.float32
    assert (pixels.numpy() == np.stack(images)).all()
    assert labels.tolist() == [at(slot) % 2 for slot in range(4)]


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_give_the_same_batches(batches, workers):
    for one, other in zip(taken(batches(), 5), taken(batches(workers), 5), strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.labels, other.labels)


@forked
@pytest.mark.parametrize("workers", [1, 3])
def test_processes_give_the_same_batches(batches, workers):
    made = taken(batches(workers, processes=True), 5)
    for one, other in zip(taken(batches(), 5), made, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.labels, other.labels)


@forked
def test_ctrl_c_does_not_end_the_processes_that_alter_crops(batches):
    made = batches(2, processes=True)(0, WHOLE)
    with closing(made):
        next(made)
        for child in active_children():
            os.kill(child.pid, signal.SIGINT)
        rest = [next(made) for _ in range(6)]
    for one, other in zip(taken(batches(), 7)[1:], rest, strict=True):
        assert torch.equal(one.pixels, other.pixels)


@forked
def test_no_process_stays_when_batches_are_no_longer_wanted(batches):
    before = set(active_children())
    taken(batches(2, processes=True), 1)
    gc.collect()
    assert set(active_children()) == before


@forked
def test_what_fails_in_a_process_is_an_error_of_the_training(batches):
    def failing(_image: Image, _rng: np.random.Generator):
        raise FaceError("no landmarks")

    with pytest.raises(FaceError, match=r"^no landmarks$"):
        taken(batches(1, change=failing, processes=True), 1)


@pytest.mark.parametrize(("device", "expected"), [("cpu", False), ("mps", False), ("cuda", True)])
def test_processes_alter_crops_for_a_gpu_only(device, expected):
    assert by_processes(torch.device(device)) is (expected and "fork" in get_all_start_methods())


def test_batches_from_a_later_step_are_those_of_the_whole_stream(batches):
    for one, other in zip(taken(batches(), 6)[4:], taken(batches(), 2, first=4), strict=True):
        assert torch.equal(one.pixels, other.pixels)


def test_shares_are_the_step_in_parts(batches):
    whole = taken(batches(), 3)
    parts = [taken(batches(), 3, share=Share(number, 2)) for number in (0, 1)]
    for one, first, second in zip(whole, *parts, strict=True):
        assert torch.equal(one.pixels, torch.cat([first.pixels, second.pixels]))
        assert torch.equal(one.labels, torch.cat([first.labels, second.labels]))


def test_an_altered_crop_is_brought_to_size(batches):
    batch = taken(batches(change=lambda image, _rng: image[:20, :10]), 1)[0]
    assert batch.on(torch.device("cpu"))[0].shape == (4, 3, 32, 32)


def test_a_real_to_be_forged_is_a_fake_and_forged_before_it_is_changed(batches):
    made = batches(change=lambda image, _rng: image.copy(), at=[0, 1, 6, 2].__getitem__)
    batch = taken(made, 1)[0]
    assert batch.labels.tolist() == [0, 1, 1, 0]
    assert torch.equal(batch.pixels[2], batch.pixels[0].flip(0))


class Faces:
    """Aligned faces in memory: ``UNEVEN``."""

    samples = tuple(UNEVEN)

    def __getitem__(self, index: int) -> CachedCrop:
        return CachedCrop(noise_image(index, (64, 64)), template(64, 1.3).astype(np.float32))


@pytest.mark.parametrize("how", ["balanced", "shuffled"])
def test_steps_with_blended_reals_are_the_same_in_parts_and_after_a_resume(how):
    config = TrainConfig(augmentation="strong", equalise=True, self_blended=0.25, composites=0.25)
    at = sampler(UNEVEN, how, 3, 0.5)
    made = crop_batches(
        Faces(), at, forge_of(Faces(), config), change_of(config),
        replace(STAGE.preprocess, height=64, width=64), batch_size=8, seed=3, workers=2,
    )  # fmt: skip
    whole = taken(made, 4)
    parts = [taken(made, 2, first=2, share=Share(number, 2)) for number in (0, 1)]
    for step, halves in zip(whole[2:], zip(*parts, strict=True), strict=True):
        assert torch.equal(step.pixels, torch.cat([half.pixels for half in halves]))
        assert torch.equal(step.labels, torch.cat([half.labels for half in halves]))
    assert any(at(slot) >= len(UNEVEN) for slot in range(32))


def test_tensors_are_shared_out_too():
    pixels, labels = torch.arange(48.0).reshape(4, 3, 2, 2), torch.tensor([0, 1, 1, 0])
    found = taken(tensor_batches(pixels, labels), 2, share=Share(1, 2))
    assert torch.equal(found[1].pixels, pixels[2:])
    assert found[1].labels.tolist() == [1.0, 0.0]


# Alterations


def test_none_leaves_a_crop_as_it_is():
    crop = CachedCrop(noise_image(0), None)
    image = change_of(TrainConfig(augmentation="none"))(crop.image, slot_rng(0, 0))
    assert image is crop.image


def test_an_alteration_follows_from_seed_and_slot():
    crop = CachedCrop(noise_image(0, (120, 120)), None)
    change = change_of(TrainConfig(augmentation="standard", equalise=True))
    one, same, other = (change(crop.image, slot_rng(0, slot)) for slot in (3, 3, 4))
    assert (one == same).all()
    assert (one != other).any()


def test_a_crop_is_forged_then_equalised_then_augmented():
    config = TrainConfig(augmentation="standard, flip=1", equalise=True, self_blended=1)
    made = crop_batches(
        Faces(), lambda _slot: len(UNEVEN), forge_of(Faces(), config), change_of(config),
        replace(STAGE.preprocess, height=64, width=64), batch_size=1, seed=0, workers=0,
    )  # fmt: skip
    rng = slot_rng(0, 0)
    blended, _ = self_blended(Faces()[0].image, template(64, 1.3).astype(np.float32), rng)
    expected = apply(equalise(blended, rng), parse_augmentation("standard, flip=1"), rng)
    assert (taken(made, 1)[0].pixels[0].numpy() == expected).all()


def test_a_picture_s_crop_survives_any_name(tmp_path):
    path = write_picture(tmp_path / "ä b.png", noise_image(0))
    assert len(cached([sample(path, label=0)], tmp_path / "c").samples) == 1
