"""Copies, shared groups and look-alikes."""

import numpy as np
import pytest
from PIL import Image as PillowImage

from tiny_detectors import noise_image, sample, write_picture
from unmask.audit.embedding import alike_pairs, embed
from unmask.audit.fingerprint import near_pairs, perceptual_hash, thumbnail_of
from unmask.audit.leaks import copies_of, identical_pairs, shared_groups, units_of
from unmask.evaluate.perturb import perturb
from unmask.images import Limits


def photo(seed):
    return noise_image(seed, (128, 128))


def pairs_among(images):
    found = near_pairs(
        [perceptual_hash(each) for each in images],
        np.stack([thumbnail_of(each) for each in images]),
    )
    return np.concatenate(list(found)).tolist()


@pytest.mark.parametrize(
    ("kind", "severity"),
    [("jpeg", 5), ("webp", 5), ("resize", 4), ("blur", 4), ("noise", 5), ("social", 5)],
)
def test_a_copy_is_found_after_it_was(kind, severity):
    assert pairs_among([photo(0), perturb(photo(0), kind, severity, seed=0)]) == [[0, 1]]


def test_a_copy_of_another_size_is_found():
    small = np.asarray(PillowImage.fromarray(photo(0)).resize((61, 61)))
    assert pairs_among([photo(0), small]) == [[0, 1]]


def test_different_pictures_are_no_copies():
    assert pairs_among([photo(seed) for seed in range(60)]) == []


def test_a_picture_in_other_colours_is_no_copy():
    assert pairs_among([photo(0), photo(0)[..., ::-1]]) == []


def test_flat_pictures_of_one_colour_are_copies():
    grey = np.full((64, 64, 3), 90, np.uint8)
    assert pairs_among([grey, grey + 1]) == [[0, 1]]


def test_pairs_are_found_across_blocks():
    images = [photo(seed) for seed in range(5)]
    hashes = [perceptual_hash(each) for each in images] * 150
    thumbnails = np.stack([thumbnail_of(each) for each in images] * 150)
    found = np.concatenate(list(near_pairs(hashes, thumbnails)))
    assert len(found) == 5 * 150 * 149 // 2
    assert (found[:, 0] < found[:, 1]).all()


def test_files_of_equal_bytes_are_paired_with_the_first():
    assert identical_pairs(["a", "b", "a", "a"]).tolist() == [[0, 2], [0, 3]]


def named(name, **known):
    return sample(f"{name}.jpg", **known)


PAIR = np.array([[0, 1]])


def test_a_pair_says_what_it_crosses():
    samples = [named("a", label=0, split="train"), named("b", label=1, split="val")]
    (copy,) = copies_of(samples, "near", PAIR)
    assert (copy.across_splits, copy.across_labels, copy.across_groups) == (True, True, True)


def test_frames_of_one_video_may_look_alike():
    samples = [named("a", video="v", dataset="d"), named("b", video="v", dataset="d")]
    assert copies_of(samples, "near", PAIR) == []


def test_equal_bytes_are_told_even_within_a_group():
    samples = [named("a", group="g"), named("b", group="g")]
    assert len(copies_of(samples, "identical", PAIR)) == 1


def test_groups_of_two_data_sets_are_two():
    samples = [named("a", group="g", dataset="x"), named("b", group="g", dataset="y")]
    assert len(copies_of(samples, "near", PAIR)) == 1


def test_an_unknown_split_or_label_is_not_crossed():
    (copy,) = copies_of([named("a", label=0, split="val"), named("b")], "near", PAIR)
    assert (copy.across_splits, copy.across_labels) == (False, False)


def test_a_group_in_two_splits_is_shared():
    samples = [
        named("a", group="g", split="train", dataset="d"),
        named("b", group="g", split="val", dataset="d"),
        named("c", group="h", split="val", dataset="d"),
    ]
    (shared,) = shared_groups(samples)
    assert (shared.group, shared.splits, shared.n_pictures) == ("g", ("train", "val"), 2)


def test_a_video_in_two_splits_is_shared_whatever_its_group():
    samples = [
        named("a", group="g", video="v", split="train"),
        named("b", group="h", video="v", split="val"),
    ]
    assert [each.group for each in shared_groups(samples)] == ["v"]


def test_copies_and_groups_are_one_unit():
    samples = [named("a", group="g"), named("b", group="g"), named("c"), named("d")]
    units = units_of(samples, [np.array([[1, 2]])])
    assert units[0] == units[1] == units[2] != units[3]


def test_pictures_without_a_group_are_units_of_their_own():
    assert len(set(units_of([named("a"), named("b")], []).tolist())) == 2


def test_embeddings_that_point_the_same_way_are_alike():
    rows = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
    rows[7] = rows[3] * 1.1
    assert alike_pairs(rows).tolist() == [[3, 7]]


def test_the_embedding_is_that_of_the_detectors_tower(tmp_path, image_detector):
    names = ["a.png", "b.png", "c.png"]
    samples = [sample(write_picture(tmp_path / n, photo(i))) for i, n in enumerate(names)]
    advanced = []
    rows = embed(
        samples,
        detector=image_detector,
        limits=Limits(),
        workers=2,
        advance=lambda: advanced.append(1),
    )
    assert rows.shape == (3, 64)
    assert len(advanced) == 3
    resized = image_detector.preprocess.resize(photo(1))
    head = image_detector.model.head
    import torch

    logit = head(torch.from_numpy(rows[1:2])).detach().numpy().ravel()[0]
    assert logit == pytest.approx(image_detector.logits(resized[None])[0], abs=1e-4)
