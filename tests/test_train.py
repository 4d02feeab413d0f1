import hashlib
import os
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import CLIPVisionModelWithProjection

import unmask
from tiny_detectors import (
    noise_image,
    published,
    sample,
    tiny_tower,
    write_picture,
    write_pictures,
)
from tiny_towers import CLIP_VISION
from unmask.errors import (
    ConfigError,
    IncompatibleWeights,
    MissingSource,
    OutputError,
    SourceError,
    UnknownDetector,
)
from unmask.images import Limits
from unmask.models.backbone import extract
from unmask.models.checkpoint import load_model
from unmask.models.configuration import FaceSpec
from unmask.prepare import Stage
from unmask.preprocess import Preprocess
from unmask.train.card import probe_card
from unmask.train.data import apart, cell_weights, read_labelled, unit
from unmask.train.features import Features, Rows, Tower, features_of
from unmask.train.pictures.augment import augment, augmenter
from unmask.train.probe import (
    Row,
    Validation,
    fit_head,
    fit_temperature,
    operating_points,
    validate,
)
from unmask.train.recipe import Candidate, Probe, ProbeOptions, default_features
from unmask.train.towers import feature_cache, load_tower
from unmask.types import Image, Sample


def labelled(*rows: tuple[int, str], **known: object) -> list[Sample]:
    """A sample per (label, data set)."""
    return [
        sample(Path(f"{number}.png"), label=label, dataset=dataset, **known)
        for number, (label, dataset) in enumerate(rows)
    ]


# Reading labelled data


def manifest(path: Path, columns: str, *rows: str) -> Path:
    for row in rows:
        write_picture(path.parent / row.split(",")[0], noise_image(0))
    path.write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    return path


def test_a_folder_of_real_and_fake_is_split_by_fifths_of_each_class(tmp_path):
    write_pictures(tmp_path / "real", [f"{n}.png" for n in range(20)])
    write_pictures(tmp_path / "fake", [f"{n}.png" for n in range(10)])
    found = Counter((each.label, each.split) for each in read_labelled([tmp_path], seed=0))
    assert found == {(0, "train"): 16, (0, "val"): 4, (1, "train"): 8, (1, "val"): 2}


def test_the_split_is_the_same_for_the_same_seed_and_another_for_another(tmp_path):
    for name in ("real", "fake"):
        write_pictures(tmp_path / name, [f"{n}.png" for n in range(20)])
    one, same, other = (read_labelled([tmp_path], seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one != other


@pytest.mark.parametrize("column", ["group", "video"])
def test_a_group_is_never_split(tmp_path, column):
    rows = [f"{n}.png,{n % 2},{n // 6}" for n in range(60)]
    found = read_labelled([manifest(tmp_path / "m.csv", f"path,label,{column}", *rows)], seed=3)
    parts = defaultdict(set)
    for each in found:
        parts[each.group or each.video].add(each.split)
    assert all(len(splits) == 1 for splits in parts.values())
    assert {split for splits in parts.values() for split in splits} == {"train", "val"}


def test_groups_that_hold_both_classes_do_not_flood_validation(tmp_path):
    # Two of ten groups of reals validate; both fakes' groups may be among them already.
    rows = [f"r{n}.png,0,g{n}" for n in range(10)] + [f"f{n}.png,1,g{n}" for n in range(10)]
    found = read_labelled([manifest(tmp_path / "m.csv", "path,label,group", *rows)], seed=0)
    assert Counter(each.split for each in found) == {"train": 16, "val": 4}


def test_the_same_folder_elsewhere_is_split_alike(tmp_path):
    parts = []
    for place in ("here", "there"):
        for label in ("real", "fake"):
            (tmp_path / place / label).mkdir(parents=True)
            for number in range(20):
                (tmp_path / place / label / f"{number}.png").write_bytes(b"x")
        samples = read_labelled([tmp_path / place], seed=0)
        parts.append([(each.path.parent.name, each.path.name, each.split) for each in samples])
    assert parts[0] == parts[1]


@pytest.mark.parametrize("seed", range(6))
def test_a_class_whose_groups_all_validate_already_adds_none(tmp_path, seed):
    rows = [f"r{n}.png,0,g{n}" for n in range(10)] + [f"f{n}.png,1,g{n}" for n in range(5)]
    found = read_labelled([manifest(tmp_path / "m.csv", "path,label,group", *rows)], seed=seed)
    groups = {each.group for each in found if each.split == "val"}
    assert len(groups) <= 3


def test_the_splits_of_a_manifest_are_kept_and_test_is_left_out(tmp_path):
    rows = ["a.png,0,train", "b.png,1,train", "c.png,0,val", "d.png,1,val", "e.png,1,test"]
    found = read_labelled([manifest(tmp_path / "m.csv", "path,label,split", *rows)], seed=0)
    assert [each.split for each in found] == ["train", "train", "val", "val"]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (["a.png,0,train", "b.png,1,"], "name the splits"),
        (["a.png,0,train", "b.png,1,dev"], "name the splits"),
        (["a.png,0,train", "b.png,1,train", "c.png,0,val"], "the part 'val'"),
        (["a.png,0,train", "b.png,0,val", "c.png,1,val"], "the part 'train'"),
        (["a.png,,train", "b.png,0,val"], "1 of 2 samples have no label, the first is"),
    ],
)
def test_data_that_cannot_be_learnt_from_is_refused(tmp_path, rows, sentence):
    path = manifest(tmp_path / "m.csv", "path,label,split", *rows)
    with pytest.raises(SourceError, match=sentence):
        read_labelled([path], seed=0)


def test_a_folder_without_labels_is_refused(tmp_path):
    write_pictures(tmp_path / "holiday", ["a.png"])
    with pytest.raises(SourceError, match="real/ and fake/"):
        read_labelled([tmp_path], seed=0)


def test_the_same_bytes_in_both_parts_stay_in_validation():
    rows = [(0, "train"), (0, "val"), (1, "train"), (1, "val"), (0, "train"), (1, "train")]
    samples = [sample(Path(f"{n}"), label=x, split=s) for n, (x, s) in enumerate(rows)]
    kept, repeated = apart(samples, ["a", "a", "b", "c", "d", ""])
    assert [each.source for each in repeated] == ["0"]
    assert kept == samples[1:]


def test_the_same_bytes_twice_in_one_part_and_files_that_cannot_be_read_stay():
    rows = [(0, "train"), (0, "train"), (1, "train"), (0, "val"), (1, "val")]
    samples = [sample(Path(f"{n}"), label=x, split=s) for n, (x, s) in enumerate(rows)]
    assert apart(samples, ["a", "a", "", "", ""]) == (samples, [])


def test_the_same_bytes_with_two_labels_are_refused():
    samples = labelled((0, ""), (1, ""))
    with pytest.raises(SourceError, match=r"0\.png and 1\.png have the same bytes"):
        apart(samples, ["a", "a"])


def test_a_class_whose_training_samples_all_validate_too_is_refused():
    rows = [(0, "train"), (0, "val"), (1, "train"), (1, "val")]
    samples = [sample(Path(f"{n}"), label=x, split=s) for n, (x, s) in enumerate(rows)]
    with pytest.raises(SourceError, match=r"1 training samples .* nothing to learn from"):
        apart(samples, ["a", "a", "b", "c"])


def test_data_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(MissingSource):
        read_labelled([tmp_path / "gone"], seed=0)


# Weights and units


def test_classes_count_alike_and_data_sets_alike_within_a_class():
    samples = labelled(*[(0, "a")] * 30, *[(0, "b")] * 10, *[(1, "a")] * 5)
    weights = cell_weights(samples)
    assert weights.mean() == pytest.approx(1)
    totals = Counter()
    for each, weight in zip(samples, weights, strict=True):
        totals[each.label, each.dataset] += weight
    assert totals[0, "a"] == pytest.approx(totals[0, "b"])
    assert totals[0, "a"] + totals[0, "b"] == pytest.approx(totals[1, "a"])


def test_frames_of_one_video_are_one_unit_and_pictures_one_each():
    frames = [sample(Path(f"{n}.png"), label=1, dataset="d", video="v") for n in range(3)]
    pictures = [sample(Path(f"{n}.png"), label=1, dataset="d") for n in range(3)]
    assert len({unit(each) for each in frames}) == 1
    assert len({unit(each) for each in pictures}) == 3


def test_videos_of_one_name_in_two_classes_are_two_units():
    assert unit(sample(Path("a"), label=0, video="v")) != unit(
        sample(Path("a"), label=1, video="v")
    )


# The cache


def keys(*numbers: int) -> list[str]:
    return [f"{number:064x}" for number in numbers]


def table(*numbers: int) -> np.ndarray:
    return np.array([[number, -number, 0.5] for number in numbers], np.float32)


def test_rows_are_found_again_by_another_process(tmp_path):
    Rows(tmp_path, 3).add(keys(1, 2), table(1, 2))
    rows = Rows(tmp_path, 3)
    rows.add(keys(3), table(3))
    assert (Rows(tmp_path, 3).take(keys(3, 1, 2)) == table(3, 1, 2)).all()
    assert keys(3)[0] in rows
    assert keys(4)[0] not in rows


def test_no_keys_take_no_rows(tmp_path):
    assert Rows(tmp_path, 3).take([]).shape == (0, 3)


def test_a_row_without_a_key_is_written_over(tmp_path):
    Rows(tmp_path, 3).add(keys(1), table(1))
    with (tmp_path / "rows.f16").open("ab") as file:  # died before the keys
        file.write(table(9, 9).astype(np.float16).tobytes())
    rows = Rows(tmp_path, 3)
    rows.add(keys(2), table(2))
    assert (Rows(tmp_path, 3).take(keys(1, 2)) == table(1, 2)).all()


@pytest.mark.parametrize("kept", [1, 64, 73])
def test_a_key_cut_short_does_not_count(tmp_path, kept):
    Rows(tmp_path, 3).add(keys(1, 2), table(1, 2))
    os.truncate(tmp_path / "keys.txt", 74 + kept)  # died within the second line
    rows = Rows(tmp_path, 3)
    assert keys(2)[0] not in rows
    rows.add(keys(3), table(3))
    assert (Rows(tmp_path, 3).take(keys(1, 3)) == table(1, 3)).all()


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


@pytest.mark.parametrize("content", [b"\0" * 6, b"\xff" * 6])
def test_a_damaged_row_is_computed_again(tmp_path, content):
    Rows(tmp_path, 3).add(keys(1, 2), table(1, 2))
    overwrite(tmp_path / "rows.f16", 0, content)
    rows = Rows(tmp_path, 3)
    assert [key in rows for key in keys(1, 2)] == [False, True]
    rows.add(keys(1), table(1))
    again = Rows(tmp_path, 3)
    assert all(key in again for key in keys(1, 2))
    assert (again.take(keys(2, 1)) == table(2, 1)).all()


@pytest.mark.parametrize("content", [b"\xff", b"\n", b"x"])
def test_a_damaged_key_does_not_count(tmp_path, content):
    Rows(tmp_path, 3).add(keys(1, 2), table(1, 2))
    overwrite(tmp_path / "keys.txt", 5, content)
    rows = Rows(tmp_path, 3)
    assert [key in rows for key in keys(1, 2)] == [False, True]


@pytest.mark.parametrize("size", [0, 6, 9])
def test_keys_without_their_rows_do_not_count(tmp_path, size):
    Rows(tmp_path, 3).add(keys(1, 2), table(1, 2))
    os.truncate(tmp_path / "rows.f16", size)
    rows = Rows(tmp_path, 3)
    assert [key in rows for key in keys(1, 2)] == [size > 0, False]
    rows.add(keys(3), table(3))
    assert (Rows(tmp_path, 3).take(keys(3)) == table(3)).all()


@pytest.mark.parametrize("value", [70000, -70000, np.inf, np.nan])
def test_a_value_beyond_float16_is_refused_and_nothing_is_kept(tmp_path, value):
    rows = Rows(tmp_path, 3)
    with pytest.raises(IncompatibleWeights, match="65504"):
        rows.add(keys(1), np.full((1, 3), value, np.float32))
    assert keys(1)[0] not in Rows(tmp_path, 3)


# Features


@pytest.fixture
def tower() -> Tower:
    return Tower(tiny_tower(), "ab" * 32, torch.device("cpu"), torch.float32, 4, 2)


@pytest.fixture
def seen(monkeypatch) -> list[int]:
    """Pictures per forward pass of feature extraction."""
    counted: list[int] = []

    def counting(model: torch.nn.Module, batch: torch.Tensor, names: list[str]) -> torch.Tensor:
        counted.append(len(batch))
        return extract(model, batch, names)

    monkeypatch.setattr("unmask.train.features.extract", counting)
    return counted


def whole(mode: str = "none") -> Stage:
    return Stage(
        mode="none" if mode == "none" else "largest",
        face=FaceSpec(size=32),
        preprocess=Preprocess(32, 32, "squash", "bilinear"),
        limits=Limits(),
        max_faces=1,
        min_face_px=32,
    )


NAMES = ("mean@1", "cls@2", "pooler")


@pytest.fixture
def six(tmp_path) -> list[Sample]:
    write_pictures(tmp_path / "in", [f"{n}.png" for n in range(6)])
    return [sample(tmp_path / "in" / f"{n}.png", label=n % 2) for n in range(6)]


def test_features_are_what_the_tower_gives(tmp_path, tower, six):
    found = features_of(six, NAMES, tower, whole(), cache=tmp_path / "cache")
    stage = whole()
    images = np.stack([stage.preprocess.resize(noise_image(n)) for n in range(6)])
    with torch.inference_mode():
        pixels = torch.from_numpy(stage.preprocess.normalize(images))
        expected = extract(tower.model, pixels, NAMES).numpy()
    assert found.samples == tuple(six)
    assert found.left_out == ()
    np.testing.assert_allclose(found.matrix(NAMES), expected, rtol=2e-3, atol=2e-3)  # float16


def test_columns_are_joined_in_the_order_asked_for(tmp_path, tower, six):
    found = features_of(six, NAMES, tower, whole(), cache=tmp_path / "cache")
    both = found.matrix(["pooler", "mean@1"])
    assert (both[:, :32] == found.columns["pooler"]).all()
    assert (both[:, 32:] == found.columns["mean@1"]).all()


def test_the_second_time_nothing_is_computed(tmp_path, tower, six, seen):
    first = features_of(six, NAMES, tower, whole(), cache=tmp_path / "cache")
    assert sum(seen) == 6
    seen.clear()
    again = features_of(six, NAMES, tower, whole(), cache=tmp_path / "cache")
    assert seen == []
    assert (again.matrix(NAMES) == first.matrix(NAMES)).all()


def test_only_new_pictures_are_computed(tmp_path, tower, six, seen):
    features_of(six[:4], NAMES, tower, whole(), cache=tmp_path / "cache")
    seen.clear()
    features_of(six, NAMES, tower, whole(), cache=tmp_path / "cache")
    assert sum(seen) == 2


def test_the_same_bytes_are_computed_once_and_have_a_row_each(tmp_path, tower, six, seen):
    found = features_of([*six, six[0]], NAMES, tower, whole(), cache=tmp_path / "cache")
    assert sum(seen) == 6
    assert (found.matrix(NAMES)[0] == found.matrix(NAMES)[6]).all()


def test_a_feature_asked_for_later_is_added(tmp_path, tower, six):
    features_of(six, NAMES[:1], tower, whole(), cache=tmp_path / "cache")
    found = features_of(six, NAMES, tower, whole(), cache=tmp_path / "cache")
    fresh = features_of(six, NAMES, tower, whole(), cache=tmp_path / "other")
    assert (found.matrix(NAMES) == fresh.matrix(NAMES)).all()


@pytest.mark.parametrize("changed", ["weights", "view", "seed", "preprocess", "stage"])
def test_whatever_changes_a_row_has_its_own_store(tmp_path, tower, six, seen, changed):
    options = {"view": 1, "seed": 0}
    stage = whole()
    features_of(six, NAMES, tower, stage, cache=tmp_path / "cache", **options)
    seen.clear()
    if changed == "weights":
        tower = replace(tower, sha256="cd" * 32)
    elif changed == "preprocess":
        stage = replace(stage, preprocess=Preprocess(32, 32, "squash", "bicubic"))
    elif changed == "stage":
        stage = replace(stage, min_face_px=40)
    else:
        options[changed] = 2
    features_of(six, NAMES, tower, stage, cache=tmp_path / "cache", **options)
    assert sum(seen) == 6


def test_samples_without_a_crop_are_left_out_with_the_reason(tmp_path, tower, six):
    (tmp_path / "cut.png").write_bytes(b"GIF89a")
    (tmp_path / "empty.png").write_bytes(b"")
    bad = [sample(tmp_path / name, label=0) for name in ("cut.png", "gone.png", "empty.png")]
    given = [bad[0], *six, *bad[1:], sample(tmp_path / "cut.png", label=1)]
    found = features_of(given, NAMES, tower, whole(), cache=tmp_path / "cache")
    assert found.samples == tuple(six)
    assert [(each.path.name, reason.code) for each, reason in found.left_out] == [
        ("cut.png", "damaged"), ("gone.png", "unreadable"), ("empty.png", "empty_file"),
        ("cut.png", "damaged"),
    ]  # fmt: skip


def test_pictures_without_a_face_are_left_out(tmp_path, tower, six, portrait):
    given = [*six[:2], sample(portrait, label=0)]
    found = features_of(given, NAMES, tower, whole("largest"), cache=tmp_path / "cache")
    assert [each.path for each in found.samples] == [portrait]
    assert {reason.code for _, reason in found.left_out} == {"no_face"}


def test_a_file_that_changes_meanwhile_is_left_out(tmp_path, tower, six, monkeypatch):
    monkeypatch.setattr("unmask.train.features.file_sha256", lambda path: path.stem.zfill(64))
    found = features_of(six, NAMES, tower, whole(), cache=tmp_path / "cache")
    assert {reason.code for _, reason in found.left_out} == {"changed"}


def test_a_cache_below_a_file_is_refused(tmp_path, tower, six):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"the feature cache .*file/cache.* cannot be used"):
        features_of(six, ["pooler"], tower, whole(), cache=tmp_path / "file" / "cache")


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), OSError(28, "No space left")])
def test_a_cache_that_cannot_be_written_is_refused(tmp_path, tower, six, monkeypatch, error):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Rows, "add", fail)
    with pytest.raises(OutputError, match=f"cannot be used: .*{error.strerror}.*--cache"):
        features_of(six, ["pooler"], tower, whole(), cache=tmp_path)


def test_progress_is_told_once_per_picture(tmp_path, tower, six):
    told: list[int] = []
    for _ in range(2):
        features_of(
            six, NAMES, tower, whole(), cache=tmp_path / "c", advance=lambda: told.append(1)
        )
    assert len(told) == 12


@pytest.mark.parametrize(("option", "value"), [("batch_size", 0), ("workers", -1)])
def test_a_tower_option_outside_its_range_is_refused(tower, option, value):
    with pytest.raises(ConfigError, match=str(value)):
        replace(tower, **{option: value})


# Augmentation


def test_the_same_picture_is_altered_the_same_way_each_time(astronaut):
    one, again = (augmenter(1, 0)(astronaut, "ab" * 32) for _ in range(2))
    assert (one == again).all()


@pytest.mark.parametrize("other", [(2, 0, "ab" * 32), (1, 1, "ab" * 32), (1, 0, "cd" * 32)])
def test_view_seed_and_content_each_alter_it_another_way(astronaut, other):
    view, seed, digest = other
    one, two = augmenter(1, 0)(astronaut, "ab" * 32), augmenter(view, seed)(astronaut, digest)
    assert one.shape != two.shape or (one != two).any()


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (600, 400)])
def test_an_altered_picture_is_still_a_picture(size):
    for seed in range(10):
        image = augment(np.full((*size, 3), 200, np.uint8), np.random.default_rng(seed))
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert min(image.shape[:2]) >= min(80, *size)


def test_an_altered_picture_keeps_its_colours():
    image = np.zeros((200, 200, 3), np.uint8)
    image[..., 0] = 200
    for seed in range(10):
        red, green, blue = augment(image, np.random.default_rng(seed)).mean(axis=(0, 1))
        assert red > green + 100
        assert red > blue + 100


# The head


@pytest.fixture(scope="module")
def separable() -> tuple[np.ndarray, list[Sample]]:
    """400 points whose class is the sign of the third of ten columns of very different scale."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(400, 10)) * 10.0 ** rng.integers(-2, 3, 10) + 7).astype(np.float32)
    labels = (x[:, 2] > np.median(x[:, 2])).astype(int)
    return x, labelled(*[(int(label), "d") for label in labels])


def test_the_direction_that_separates_is_found(separable):
    x, samples = separable
    head = fit_head(x, samples, strength=1.0)
    assert roc_auc_score([each.label for each in samples], head(x)) > 0.99
    assert np.argmax(np.abs(head.weight * x.std(axis=0))) == 2
    assert head.weight[2] > 0


def test_standardisation_is_folded_in_as_in_a_pipeline_of_scikit_learn(separable):
    x, samples = separable
    labels = [each.label for each in samples]  # balanced: all weights are 1
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    pipeline.fit(x.astype(np.float64), labels)
    head = fit_head(x, samples, strength=0.1)
    np.testing.assert_allclose(head(x), pipeline.decision_function(x), atol=2e-2)


def test_a_constant_column_does_no_harm(separable):
    x, samples = separable
    head = fit_head(np.c_[x, np.full(len(x), 3.0, np.float32)], samples, strength=1.0)
    assert np.isfinite(head.weight).all()


def test_a_class_that_is_rare_counts_as_much():
    rng = np.random.default_rng(1)
    samples = labelled(*[(0, "d")] * 900, *[(1, "d")] * 100)
    x = rng.normal(size=(1000, 1)).astype(np.float32)
    x[900:] += 1
    logits = fit_head(x, samples, strength=1.0)(x)
    assert np.mean(logits[:900] > 0) == pytest.approx(np.mean(logits[900:] < 0), abs=0.08)


# Validation


def test_a_video_counts_once_by_the_mean_of_its_frames():
    frames = [
        sample(Path(f"{video}{n}"), label=label, dataset="d", video=video)
        for video, label in (("a", 0), ("b", 0), ("c", 1))
        for n in range(3)
    ]
    # The single frame of 9 would outrank c, were frames counted.
    found = validate(np.array([9.0, -9, -9, 0, 0, 0, 1, 1, 1]), frames)
    assert found.rows == (Row("d", 2, 1, 1.0, by_video=True),)


def test_each_data_set_has_its_row_and_the_mean_is_over_rows():
    samples = labelled((0, "a"), (1, "a"), (0, "b"), (1, "b"))
    found = validate(np.array([0.0, 1, 1, 0]), samples)
    assert [(row.dataset, row.auc) for row in found.rows] == [("a", 1.0), ("b", 0.0)]
    assert found.macro_auc == 0.5
    assert not found.rows[0].by_video


def test_data_sets_of_one_class_stand_together_in_the_last_row():
    samples = labelled((0, "photos"), (1, "made"), (0, "mixed"), (1, "mixed"), (0, "photos"))
    found = validate(np.array([0.0, 1, 0, 1, 0]), samples)
    assert [(row.dataset, row.n_real, row.n_fake) for row in found.rows] == [
        ("mixed", 1, 1), ("made + photos", 2, 1),
    ]  # fmt: skip


def test_a_data_set_of_one_class_without_a_counterpart_has_no_row():
    samples = labelled((0, "photos"), (0, "mixed"), (1, "mixed"))
    assert [row.dataset for row in validate(np.array([0.0, 0, 1]), samples).rows] == ["mixed"]


def test_the_recall_is_that_above_what_a_twentieth_of_the_reals_exceed():
    reals = np.arange(100.0)
    fakes = np.array([94.0, 94.5, 95.5, 200])
    samples = labelled(*[(0, "d")] * 100, *[(1, "d")] * 4)
    found = validate(np.concatenate([reals, fakes]), samples)
    assert found.recall_at_fpr5 == pytest.approx(0.75)  # the threshold is 94


# Calibration


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_of_made_up_logits_is_found_again(temperature):
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, 20000)
    labels = rng.random(20000) < 1 / (1 + np.exp(-true))
    samples = labelled(*[(int(label), "d") for label in labels])
    assert fit_temperature(true * temperature, samples) == pytest.approx(temperature, rel=0.05)


def test_operating_points_stand_at_quantiles_of_the_classes():
    p_fake = np.concatenate([np.arange(100) / 250, 0.3 + np.arange(100) / 250])
    samples = labelled(*[(0, "d")] * 100, *[(1, "d")] * 100)
    five, one = operating_points(p_fake, samples, source="here").points
    assert (five.name, one.name, five.source) == ("fpr5", "fpr1", "here")
    for point, rate in ((five, 0.05), (one, 0.01)):
        assert np.mean(p_fake[:100] >= point.fake_at) == pytest.approx(rate)
        assert np.mean(p_fake[100:] < point.real_below) == pytest.approx(rate, abs=0.0101)
        assert point.real_below < point.fake_at
        assert (point.target_fpr, point.target_fnr) == (rate, rate)
    assert one.fake_at > five.fake_at
    assert one.real_below < five.real_below


def test_operating_points_carry_counts_and_the_hash_of_their_data(tmp_path):
    # That of a table of scores of the same files, labels and data sets.
    labels = [0] * 20 + [1]
    paths = [tmp_path / f"{n}.png" for n in range(21)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]))
    samples = [Sample(str(p), p, label=y, dataset="d") for p, y in zip(paths, labels, strict=True)]
    (point,) = operating_points(np.linspace(0, 1, 21), samples, source="here").points
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    text = "\n".join(sorted(f"{h}\t{y}\td" for h, y in zip(hashes, labels, strict=True)))
    assert (point.n_real, point.n_fake) == (20, 1)
    assert point.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert point.datasets == ("d",)


@pytest.mark.parametrize(
    ("n_real", "names"), [(19, []), (20, ["fpr5"]), (99, ["fpr5"]), (100, ["fpr5", "fpr1"])]
)
def test_points_that_the_reals_do_not_resolve_are_left_out_as_calibrate_refuses_them(n_real, names):
    samples = labelled(*[(0, "d")] * n_real, (1, "d"))
    found = operating_points(np.linspace(0, 0.9, n_real + 1), samples, source="here")
    assert [point.name for point in found.points] == names
    told = [f"at {share} % false alarms" for share in (5, 1)]
    assert [any(each in line for line in found.left_out) for each in told] == [
        "fpr5" not in names, "fpr1" not in names
    ]  # fmt: skip
    assert all(f"{n_real} are there" in line for line in found.left_out if "needs" in line)


def test_without_any_point_it_is_said_what_decides():
    found = operating_points(np.array([0.1, 0.9]), labelled((0, "d"), (1, "d")), source="here")
    assert "P(fake) from 0.5 is called fake" in found.left_out[-1]
    assert "unmask calibrate" in found.left_out[-1]


@pytest.mark.parametrize("column", ["group", "video"])
def test_reals_of_one_group_count_once_for_a_point(column):
    samples = [
        replace(sample, **{column: f"g{number // 2}" if number < 30 else ""})
        for number, sample in enumerate(labelled(*[(0, "d")] * 30, (1, "d")))
    ]
    found = operating_points(np.linspace(0, 0.9, 31), samples, source="here")
    assert found.points == ()
    assert "15 are there" in found.left_out[0]


def test_reals_of_the_same_bytes_count_once_for_a_point(tmp_path):
    paths = [write_picture(tmp_path / f"{n}.png", noise_image(min(n, 5))) for n in range(25)]
    samples = [Sample(str(p), p, label=0, dataset="d") for p in paths] + labelled((1, "d"))
    found = operating_points(np.linspace(0, 0.9, 26), samples, source="here")
    assert "6 are there" in found.left_out[0]


def test_operating_points_of_classes_apart_leave_no_band_upside_down():
    p_fake = np.concatenate([np.linspace(0, 0.1, 100), np.linspace(0.9, 1, 100)])
    samples = labelled(*[(0, "d")] * 100, *[(1, "d")] * 100)
    points = operating_points(p_fake, samples, source="here").points
    assert len(points) == 2
    for point in points:
        assert point.real_below <= point.fake_at
        assert np.mean(p_fake[100:] >= point.fake_at) == 1


# The tower


@pytest.fixture(scope="module")
def tinyclip(tmp_path_factory) -> Path:
    """A published-looking vision tower: weights, configuration, processor."""
    model = CLIPVisionModelWithProjection(CLIP_VISION)
    model.vision_model.load_state_dict(tiny_tower().state_dict())
    return published(model, tmp_path_factory.mktemp("towers") / "tinyclip")


LOADING = {
    "revision": None,
    "offline": True,
    "device": "cpu",
    "dtype": "auto",
    "batch_size": 4,
    "workers": 1,
}


def test_a_tower_is_loaded_with_its_mean_and_told_by_name(tinyclip):
    tower, preprocess, source = load_tower(str(tinyclip), **LOADING)
    assert source.id == "tinyclip"
    assert source.sha256 == tower.sha256
    assert preprocess.mean == Preprocess.openai_clip(32).mean
    assert (preprocess.resize_rule, preprocess.height) == ("squash", 32)
    assert not any(parameter.requires_grad for parameter in tower.model.parameters())


def test_the_tower_of_a_detector_can_be_taken(face_folder):
    tower, _, source = load_tower(str(face_folder), **LOADING)
    assert tower.model.config.hidden_size == 32
    assert source.id == str(face_folder)


def test_the_projection_of_a_clip_can_be_learnt_from(train, tmp_path):
    assert train("-o", tmp_path / "mine", "--views", 0, "--feature", "projection").code == 0
    assert unmask.load(tmp_path / "mine", device="cpu").model.spec.features == ("projection",)


def test_a_tower_that_is_not_there_is_refused():
    with pytest.raises(UnknownDetector):
        load_tower("no_such_tower", **LOADING)


def test_features_are_kept_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("UNMASK_HOME", str(tmp_path))
    assert feature_cache() == tmp_path / "features"
    monkeypatch.delenv("UNMASK_HOME")
    assert feature_cache().parts[-2:] == ("unmask", "features")


@pytest.mark.parametrize("depth", [1, 2, 3, 12, 24, 40])
def test_default_features_exist_in_a_tower_of_any_depth(depth):
    config = tiny_tower().config
    config.num_hidden_layers = depth
    for features in default_features(config):
        assert len(set(features)) == len(features) > 0
        assert all(1 <= int(name.split("@")[1]) <= depth for name in features)


@pytest.mark.parametrize(
    "options", [{"views": -1}, {"views": 101}, {"seed": -1}, {"scales": ()}, {"scales": (1.0, 0.0)}]
)
def test_recipe_options_outside_their_range_are_refused(options):
    with pytest.raises(ConfigError, match="must be"):
        ProbeOptions(**options)


@pytest.mark.parametrize("names", [(), ("mean@1", "mean@1")])
def test_a_list_without_features_or_with_one_twice_is_refused(names):
    with pytest.raises(ConfigError, match="name at least one, each once"):
        ProbeOptions(features=(names,))


# The whole


def striped(seed: int) -> Image:
    """A picture with fine stripes: what an upsampler may leave behind."""
    image = noise_image(seed).astype(int)
    image[:, ::2] += 45
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """24 pictures of each class, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("data") / "set"
    for number in range(24):
        write_picture(folder / "real" / f"{number:02}.png", noise_image(number))
        write_picture(folder / "fake" / f"{number:02}.png", striped(100 + number))
    (folder / "real" / "damaged.png").write_bytes(b"GIF89a")
    return folder


@pytest.fixture
def train(cli, data, tinyclip, tmp_path):
    """``unmask train`` on the made up pictures."""
    return lambda *arguments: cli(
        "train", data, "--backbone", tinyclip, "--faces", "none", "--device", "cpu",
        "--cache", tmp_path / "cache", *arguments,
    )  # fmt: skip


def test_training_writes_a_detector_that_tells_the_classes_apart(train, cli, data, tmp_path):
    outcome = train("-o", tmp_path / "mine", "--views", 1)
    assert outcome.code == 0
    lines = outcome.err.splitlines()
    begun = [line for line in lines if line.startswith("features, ")]
    assert begun[0] == "features, whole picture: 39 items"
    *warnings, left_out, wrote = (line for line in lines if line not in begun)
    assert [left_out, wrote] == [
        f"left out: {data / 'real' / 'damaged.png'} (damaged)", f"wrote {tmp_path / 'mine'}",
    ]  # fmt: skip
    detector = unmask.load(tmp_path / "mine", device="cpu")
    assert detector.domain == "image"
    assert detector.ref.trained
    assert detector.operating_points == ()  # 5 reals to validate on
    assert [line.split(":")[0] for line in warnings] == ["warning"] * 3
    card = (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
    assert "- no operating point at 5 % false alarms" in card
    assert "At P(fake) 0.5, of single validation pictures" in card
    found = list(unmask.Pipeline(detector)(unmask.read_sources([data])))
    assert Counter(each.status for each in found) == {"ok": 48, "unreadable": 1}
    scored = [each for each in found if each.status == "ok"]
    assert roc_auc_score([each.label for each in scored], [each.p_fake for each in scored]) > 0.9
    assert cli("scan", "-d", tmp_path / "mine", data / "real" / "00.png").code == 0


def test_a_point_is_stored_where_the_reals_suffice(cli, tinyclip, tmp_path):
    rows = ["path,label,split"]
    for n in range(24):
        write_picture(tmp_path / f"{n}.png", (striped if n < 4 else noise_image)(n))
        rows.append(f"{n}.png,{int(n < 4)},{'train' if n in (0, 1, 4, 5) else 'val'}")
    for n in range(24, 26):
        write_picture(tmp_path / f"{n}.png", noise_image(n))
        rows.append(f"{n}.png,0,val")
    (tmp_path / "m.csv").write_text("\n".join(rows), encoding="utf-8")
    outcome = cli("train", tmp_path / "m.csv", "-o", tmp_path / "mine", "--backbone", tinyclip,
                  "--faces", "none", "--views", 0, "--feature", "mean@1", "--device", "cpu",
                  "--cache", tmp_path / "cache")  # fmt: skip
    (point,) = unmask.load(tmp_path / "mine", device="cpu").operating_points
    assert (point.name, point.source, point.n_real) == ("fpr5", "validation part of m.csv", 20)
    card = (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
    assert "At the first one, of single validation pictures" in card
    for text in (card, outcome.err):
        assert "no operating point at 1 % false alarms: it needs 100 reals" in text
        assert "5 % false alarms: it needs" not in text


def test_the_folder_tells_how_it_came_about(train, tmp_path):
    train("-o", tmp_path / "mine", "--views", 1, "--license", "mit", "--name", "Mine",
          "--terms", "Made up.", "--seed", 3)  # fmt: skip
    spec = load_model(tmp_path / "mine").spec
    record = spec.training
    assert (record["recipe"], record["data"], record["seed"]) == ("probe", "set", 3)
    assert sum(record["samples"].values()) == 48
    assert record["left_out"] == {"damaged": 1}
    assert record["chosen"]["views"] == 1
    assert len(record["tried"]) == 3 * 4 + 1  # and the best of them, with altered copies
    assert spec.backbone_source.id == "tinyclip"
    assert spec.license == "mit"
    card = (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
    for part in ("# Mine", 'license: "mit"', "Made up.", "unmask train", "tinyclip",
                 "altered copies", "1 samples were left out"):  # fmt: skip
        assert part in card


def test_repeated_bytes_and_few_units_are_told_and_recorded(cli, tinyclip, tmp_path):
    rows = ["path,label,split"]
    for n, (label, split) in enumerate([(0, "train"), (1, "train"), (0, "val"), (1, "val")] * 2):
        write_picture(tmp_path / f"{n}.png", (striped if label else noise_image)(n))
        rows.append(f"{n}.png,{label},{split}")
    (tmp_path / "twin.png").write_bytes((tmp_path / "2.png").read_bytes())
    (tmp_path / "m.csv").write_text("\n".join([*rows, "twin.png,0,train"]), encoding="utf-8")
    outcome = cli("train", tmp_path / "m.csv", "-o", tmp_path / "mine", "--backbone", tinyclip,
                  "--faces", "none", "--views", 0, "--feature", "mean@1", "--device", "cpu",
                  "--license", "a\nb", "--cache", tmp_path / "cache")  # fmt: skip
    assert outcome.code == 0
    assert "twin.png (also_in_validation)" in outcome.err
    assert "an AUC of 2 real and 2 fake pictures says little" in outcome.err
    assert load_model(tmp_path / "mine").spec.training["left_out"] == {"also_in_validation": 1}
    card = (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---")[1])["license"] == "a\nb"


def test_training_again_gives_the_same_detector(train, tmp_path, seen):
    train("-o", tmp_path / "one", "--views", 1)
    seen.clear()
    train("-o", tmp_path / "two", "--views", 1)
    assert seen == []
    one, two = (unmask.load(tmp_path / name, device="cpu") for name in ("one", "two"))
    assert one.ref.sha256 == two.ref.sha256


def test_features_and_no_altered_copies_can_be_asked_for(train, tmp_path):
    train("-o", tmp_path / "mine", "--views", 0, "--feature", "mean@1,cls@2")
    spec = load_model(tmp_path / "mine").spec
    assert spec.features == ("mean@1", "cls@2")
    assert spec.backbone_config["num_hidden_layers"] == 2
    assert spec.training["chosen"]["altered"] is None


def test_the_written_detector_gives_the_logits_of_the_fitted_head(train, data, tmp_path, tower):
    train("-o", tmp_path / "mine", "--views", 0, "--feature", "mean@1,pooler")
    detector = unmask.load(tmp_path / "mine", device="cpu")
    images = np.stack([detector.preprocess.resize(noise_image(n)) for n in range(4)])
    pixels = torch.from_numpy(detector.preprocess.normalize(images))
    with torch.inference_mode():
        features = extract(tower.model, pixels, ["mean@1", "pooler"]).numpy()
    linear = detector.model.head.linear
    expected = features @ linear.weight[0].numpy() + float(linear.bias)
    np.testing.assert_allclose(detector.logits(images), expected, atol=0.05)  # float16 tower


def test_a_folder_that_holds_something_is_refused_before_any_work(train, tmp_path, seen):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious", encoding="utf-8")
    for arguments in ([], ["--overwrite"]):
        outcome = train("-o", tmp_path / "mine", *arguments)
        assert outcome.code == 2
        assert "something else than a detector" in outcome.err
    assert seen == []
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_detector_is_replaced_where_that_is_asked_for(train, tmp_path):
    train("-o", tmp_path / "mine", "--views", 0, "--feature", "mean@1")
    assert train("-o", tmp_path / "mine", "--views", 0, "--feature", "cls@2").code == 2
    assert (
        train("-o", tmp_path / "mine", "--views", 0, "--feature", "cls@2", "--overwrite").code == 0
    )
    assert load_model(tmp_path / "mine").spec.features == ("cls@2",)


@pytest.mark.parametrize("place", [".", "..", "mine", "real"])
def test_the_output_is_kept_apart_from_the_data(train, data, place):
    before = sorted(data.rglob("*"))
    outcome = train("-o", data / place, "--overwrite")
    assert outcome.code == 2
    assert f"and the input {data} are the same or one lies in the other" in outcome.err
    assert sorted(data.rglob("*")) == before


@pytest.mark.parametrize("place", [".", "mine"])
def test_the_output_is_kept_apart_from_the_cache(train, tmp_path, place):
    outcome = train("-o", tmp_path / "cache" / place)
    assert outcome.code == 2
    assert "the cache" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--faces", "largest"], "gave no crop"),
        (["--views", "-1"], "views is -1"),
        (["--views", "101"], "views is 101"),
        (["--seed", "-1"], "seed is -1"),
        (["--faces", "largest", "--scale", "0"], "must be above 0"),
        (["--feature", "middle"], "'middle' is not understood"),
        (["--feature", "mean@99"], "block 99"),
        (["--batch-size", "0"], "batch_size is 0"),
    ],
)
def test_wrong_use_of_training_is_exit_code_2_and_writes_nothing(
    train, tmp_path, arguments, sentence
):
    outcome = train("-o", tmp_path / "mine", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert sentence in outcome.err
    assert not (tmp_path / "mine").exists()


def test_training_on_faces_learns_from_aligned_faces(cli, tinyclip, astronaut, tmp_path):
    folder = tmp_path / "set"
    for number in range(6):
        face = astronaut[: 300 + number, 80:380]
        write_picture(folder / "real" / f"{number}.png", face)
        write_picture(folder / "fake" / f"{number}.png", face // 2 + 60)
    outcome = cli(
        "train", folder, "-o", tmp_path / "mine", "--backbone", tinyclip, "--views", 1,
        "--feature", "mean@2", "--compare-whole", "--cache", tmp_path / "cache",
    )  # fmt: skip
    assert outcome.code == 0
    spec = load_model(tmp_path / "mine").spec
    assert spec.domain == "face"
    assert spec.face.scale in (1.0, 1.3)
    assert spec.face.size == 32
    assert spec.face.antialias
    assert spec.training["whole_picture"]["input"] == "whole picture"
    inputs = {each["input"] for each in spec.training["tried"]}
    assert inputs == {"aligned face, scale 1", "aligned face, scale 1.3"}


def test_a_data_folder_may_have_any_name(cli, data, tinyclip, tmp_path):
    odd = tmp_path / os.fsdecode(b"set\xff")
    odd.symlink_to(data, target_is_directory=True)
    output = tmp_path / "mine"
    outcome = cli("train", odd, "-o", output, "--backbone", tinyclip, "--faces", "none",
                  "--views", 0, "--feature", "mean@1", "--cache", tmp_path / "cache")  # fmt: skip
    assert outcome.code == 0
    assert load_model(output).spec.training["data"] == "set\\udcff"


# The card


def test_the_card_has_a_dash_where_altered_copies_left_no_faces(train, tmp_path):
    train("-o", tmp_path / "mine", "--views", 0, "--feature", "mean@1")
    model = load_model(tmp_path / "mine")
    plain = Validation((Row("a", 2, 2, 0.9, False), Row("b", 2, 2, 0.8, False)), 0.5)
    altered = Validation((Row("b", 2, 2, 0.7, False),), 0.4)
    chosen = Candidate("aligned face", ("mean@1",), 0.1, 1, plain, altered)
    probe = Probe(model, chosen, (chosen,), None, {}, (), {})
    card = probe_card(probe, name="x", terms="y", command="z")
    assert "| a | 2 | 2 | picture | 0.900 | - |" in card
    assert "| b | 2 | 2 | picture | 0.800 | 0.700 |" in card
    assert "Of a, b there are fewer than 20 reals" in card
    assert "The tower began as that of `tinyclip`: the terms of its weights" in card
    enough = Validation((Row("a", 20, 2, 0.9, False),), 0.5)
    card = probe_card(replace(probe, chosen=replace(chosen, validation=enough, altered=None)),
                      name="x", terms="y", command="z")  # fmt: skip
    assert "fewer than" not in card


def test_features_without_samples_have_no_rows():
    empty = Features((), {"mean@1": np.empty((0, 3), np.float32)}, ())
    assert empty.matrix(["mean@1"]).shape == (0, 3)
