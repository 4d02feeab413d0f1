"""Labelled data in every form: data sets, videos and groups by full identity."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unmask.errors import ConfigError, ManifestError, MissingSource, SourceError
from unmask.labelled import evenly, read_labelled, read_listing
from unmask.labels import parse_labels, plain_split
from unmask.sources import read_sources
from unmask.types import Sample


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def text(name: str, *lines: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return name


def one(samples: list[Sample], name: str) -> Sample:
    (found,) = [sample for sample in samples if sample.path.as_posix().endswith(name)]
    return found


# evenly


@pytest.mark.parametrize(
    ("total", "count", "expected"),
    [(32, 4, [4, 12, 20, 28]), (5, 1, [2]), (3, 3, [0, 1, 2]), (2, 8, [0, 1]), (0, 3, [])],
)
def test_frames_are_evenly_spaced(total: int, count: int, expected: list[int]) -> None:
    assert evenly(range(total), count) == expected


def test_d29_fewer_frames_are_not_the_first_ones() -> None:
    # D29: the step of the reference is always 1, so it takes the first n frames.
    assert evenly(range(300), 8)[-1] > 270


@pytest.mark.parametrize("total", [9, 10, 31, 100])
def test_no_frame_is_taken_twice(total: int) -> None:
    assert len(set(evenly(range(total), 9))) == 9


def test_no_frame_asked_for_is_an_error() -> None:
    with pytest.raises(ConfigError, match="0 frames of a video"):
        evenly([1], 0)


def test_no_frame_asked_for_is_an_error_for_a_folder_too() -> None:
    touch("d/real/a.png", "d/fake/b.png")
    with pytest.raises(ConfigError, match="0 frames of a video"):
        read_labelled("d", frames=0)


def test_each_video_is_thinned_by_itself_and_pictures_stay() -> None:
    rows = [f"{video}/{i}.png,fake,{video}" for video in "ab" for i in range(9)]
    text("m.csv", "path,label,video", *rows, "c.png,real,")
    samples = read_labelled("m.csv", frames=3)
    assert [sample.path.as_posix() for sample in samples] == [
        "a/1.png", "a/4.png", "a/7.png", "b/1.png", "b/4.png", "b/7.png", "c.png",
    ]  # fmt: skip


# rows that repeat or contradict each other


def test_a_row_that_stands_twice_counts_once_and_is_told() -> None:
    text("m.csv", "path,label", "a.png,real", "b.png,fake", "./a.png,real")
    found = read_listing("m.csv")
    assert [sample.source for sample in found.samples] == ["a.png", "b.png"]
    assert found.repeated == 1


def test_a_row_that_stands_in_two_manifests_counts_once() -> None:
    for name in ("m.csv", "n.csv"):
        text(name, "path,label,dataset", "a.png,real,x", f"{name}.png,fake,x")
    found = read_listing(["m.csv", "n.csv"])
    assert (len(found.samples), found.repeated) == (3, 1)


def test_a_file_in_two_splits_is_two_samples() -> None:
    # A leak to be found by who looks for it, not a row to be dropped.
    text("m.csv", "path,label,split", "a.png,real,train", "a.png,real,test")
    assert read_listing("m.csv").repeated == 0


def test_a_file_with_two_labels_is_an_error_that_names_both_rows() -> None:
    text("m.csv", "path,label", "a.png,real", "b.png,fake", "a.png,fake")
    with pytest.raises(
        SourceError, match=r"a\.png is real by m\.csv, line 2 and fake by m\.csv, l"
    ):
        read_labelled("m.csv")


def test_a_file_with_two_labels_in_two_data_sets_is_an_error() -> None:
    touch("d/real/a.png", "d/fake/b.png")
    text("m.csv", "path,label,dataset", "x/../d/real/a.png,fake,other")
    with pytest.raises(SourceError, match=r"is real by d and fake by m\.csv, line 2"):
        read_labelled(["d", "m.csv"])


def test_a_file_with_a_label_in_one_list_alone_is_no_contradiction() -> None:
    text("m.csv", "path,label", "a.png,real", "a.png,")
    assert [sample.label for sample in read_labelled("m.csv")] == [0, None]


def test_the_rows_of_a_split_keep_their_lines() -> None:
    rows = ("a.png,real,val", "b.png,real,test", "c.png,fake,test", "b.png,fake,test")
    text("m.csv", "path,label,split", *rows)
    with pytest.raises(SourceError, match=r"real by m\.csv, line 3 and fake by m\.csv, line 5"):
        read_labelled("m.csv", split="test")


def test_a_video_without_frames_has_its_full_identity() -> None:
    frames = {"label": "FF-DF", "frames": []}
    held = {"FF-DF": {"test": {"7": frames}}, "FF-real": {"test": {"8": real_video()}}}
    text("ff.json", json.dumps({"FF": held}))
    touch("8/0.png")
    (empty,) = read_listing("ff.json").without_frames
    assert (empty.dataset, empty.video, empty.group) == ("FF", "FF/FF-DF/7", "FF/FF-DF/7")


def real_video() -> dict[str, object]:
    return {"label": "FF-real", "frames": ["8/0.png"]}


# data sets and identities


def test_the_data_set_of_a_directory_is_its_name() -> None:
    touch("cdf/real/1.jpg", "lfw/real/1.jpg", "cdf/fake/2.jpg")
    samples = read_labelled(["cdf", "lfw/"])
    assert Counter(sample.dataset for sample in samples) == {"cdf": 2, "lfw": 1}


def test_directories_of_one_name_are_two_data_sets() -> None:
    touch("a/test/real/1.jpg", "b/test/fake/1.jpg")
    samples = read_labelled(["a/test", "b/test"])
    assert [sample.dataset for sample in samples] == ["a/test", "b/test"]


def test_a_directory_with_the_name_of_a_listed_data_set_is_another_one() -> None:
    touch("cdf/real/1.jpg")
    text("m.csv", "path,label,dataset", "x.jpg,real,cdf")
    samples = read_labelled(["m.csv", "cdf"])
    assert [sample.dataset for sample in samples] == ["cdf", "cdf (folder)"]


def test_a_data_set_that_two_manifests_name_is_one() -> None:
    text("a.csv", "path,label,dataset", "x.jpg,real,cdf")
    text("b.csv", "path,label,dataset", "y.jpg,fake,cdf")
    assert {sample.dataset for sample in read_labelled(["a.csv", "b.csv"])} == {"cdf"}


def test_a_manifest_without_data_sets_has_the_name_of_its_folder() -> None:
    text("lists/m.csv", "path,label", "x.jpg,real")
    assert read_labelled("lists/m.csv")[0].dataset == "lists"


def test_manifests_of_one_folder_without_data_sets_are_told_apart() -> None:
    text("lists/a.csv", "path,label", "x.jpg,real")
    text("lists/b.csv", "path,label", "y.jpg,real")
    samples = read_labelled(["lists/a.csv", "lists/b.csv"])
    assert [sample.dataset for sample in samples] == ["lists/a.csv", "lists/b.csv"]


def test_a_picture_by_itself_is_its_own_group_wherever_the_data_lie(here: Path) -> None:
    touch("d/real/1.jpg", "d/fake/1.jpg")
    expected = ["d/fake/1.jpg", "d/real/1.jpg"]
    assert [sample.group for sample in read_labelled("d")] == expected
    assert [sample.group for sample in read_labelled(here / "d")] == expected


def test_a_frame_belongs_to_the_group_of_its_video() -> None:
    touch("d/real/frames/v1/0.png", "d/fake/frames/v1/0.png")
    samples = read_labelled("d")
    assert [sample.group for sample in samples] == ["d/fake/frames/v1", "d/real/frames/v1"]


def test_d32_folders_of_one_name_below_frames_are_different_videos() -> None:
    # D32: the reference merges videos whose folders have the same name.
    touch("d/DF_fake/frames/000/0.png", "d/F2F_fake/frames/000/0.png")
    assert len({sample.video for sample in read_labelled("d")}) == 2


def test_folders_are_videos_on_request_only() -> None:
    touch("d/real/v1/0.png", "d/real/v1/1.png")
    assert {sample.video for sample in read_labelled("d")} == {""}
    assert {sample.video for sample in read_labelled("d", video_folders=True)} == {"d/real/v1"}


def test_d32_a_video_name_counts_within_class_and_generator_of_a_manifest() -> None:
    rows = ["1.png,fake,ff,DF,000", "2.png,fake,ff,F2F,000", "3.png,real,ff,,000"]
    text("m.csv", "path,label,dataset,generator,video", *rows)
    videos = [sample.video for sample in read_labelled("m.csv")]
    assert videos == ["ff/fake/DF/000", "ff/fake/F2F/000", "ff/real/000"]


def test_a_group_of_a_manifest_counts_within_its_data_set() -> None:
    text("m.csv", "path,label,dataset,group", "1.png,fake,a,id3", "2.png,real,b,id3")
    assert [sample.group for sample in read_labelled("m.csv")] == ["a/id3", "b/id3"]


def test_a_pattern_is_read_from_its_fixed_part_on() -> None:
    touch("d/real/1.jpg", "d/fake/2.jpg")
    samples = read_labelled("d/*/*.jpg")
    assert [(sample.dataset, sample.label) for sample in samples] == [("d", 1), ("d", 0)]


def test_a_file_has_the_label_of_its_folder() -> None:
    touch("d/fake/2.jpg")
    (sample,) = read_labelled("d/fake/2.jpg")
    assert (sample.dataset, sample.label) == ("fake", 1)


def test_a_sample_without_a_label_is_there_too() -> None:
    touch("d/real/1.jpg", "d/other/2.jpg")
    assert [sample.label for sample in read_labelled("d")] == [None, 0]


def test_no_label_anywhere_is_an_error() -> None:
    touch("d/a/1.jpg")
    with pytest.raises(SourceError, match="none of the 1 samples has a label, the first is d/a/1"):
        read_labelled("d")


def test_no_input_is_an_error() -> None:
    with pytest.raises(MissingSource, match="No input"):
        read_labelled([])


@pytest.mark.parametrize("second", ["d", "d/", "./d"])
def test_an_input_given_twice_is_an_error(second: str) -> None:
    touch("d/real/1.jpg")
    with pytest.raises(ConfigError, match="given twice"):
        read_labelled(["d", second])


def test_a_link_to_an_input_is_that_input() -> None:
    touch("d/real/a.png", "d/fake/b.png")
    Path("e").symlink_to("d")
    with pytest.raises(ConfigError, match="given twice"):
        read_labelled(["d", "e"])


@pytest.mark.parametrize("option", [{"root": ["x"]}, {"compression": "c23"}])
def test_an_option_of_data_sets_without_one_is_an_error(option: dict[str, object]) -> None:
    touch("d/real/1.jpg")
    with pytest.raises(ConfigError, match=r"is for DeepfakeBench data sets \(\.json\)"):
        read_labelled("d", **option)


def test_a_manifest_without_rows_is_an_error() -> None:
    with pytest.raises(MissingSource, match="lists no sample"):
        read_labelled(text("m.csv", "path,label"))


def test_a_misspelt_input_is_missing() -> None:
    with pytest.raises(MissingSource, match="no such file"):
        read_labelled("nowhere")


# splits


def test_one_split_is_chosen_by_any_of_its_names() -> None:
    text("m.csv", "path,label,split", "a.jpg,real,val", "b.jpg,fake,test", "c.jpg,fake,validation")
    samples = read_labelled("m.csv", split="validation")
    assert [sample.path.name for sample in samples] == ["a.jpg", "c.jpg"]


def test_directories_name_splits() -> None:
    touch("d/train/real/1.jpg", "d/test/fake/2.jpg", "d/test/real/3.jpg")
    samples = read_labelled("d", split="test")
    assert [sample.path.name for sample in samples] == ["2.jpg", "3.jpg"]


@pytest.mark.parametrize("split", [None, "all"])
def test_all_splits_are_read_unless_one_is_chosen(split: str | None) -> None:
    touch("d/train/real/1.jpg", "d/test/fake/2.jpg")
    assert len(read_labelled("d", split=split)) == 2


@pytest.mark.parametrize(
    ("given", "words"), [("d", "It names no split"), ("e", r"no sample .*Did you mean 'test'")]
)
def test_an_input_without_the_split_is_an_error(given: str, words: str) -> None:
    touch("d/real/1.jpg", "e/test/real/1.jpg")
    with pytest.raises(SourceError, match=words):
        read_labelled(given, split="tests")


def test_another_split_name_stays_as_it_is() -> None:
    assert [plain_split(name) for name in ("Valid", "fold3")] == ["val", "fold3"]


# labels of the user's own


def test_class_names_are_given_a_meaning() -> None:
    assert parse_labels(["GAN=v2=fake", "coco = Real"]) == {"GAN=v2": 1, "coco": 0}


@pytest.mark.parametrize("text", ["GAN", "=fake", "GAN=2", "GAN="])
def test_a_meaning_of_another_form_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="expected NAME=real or NAME=fake"):
        parse_labels([text])


def test_a_class_with_two_meanings_is_an_error() -> None:
    with pytest.raises(ConfigError, match="given as real and as fake"):
        parse_labels(["a=real", "a=fake"])


def test_a_directory_name_that_is_given_a_meaning_decides() -> None:
    touch("d/coco/1.jpg", "d/RealVisXL/2.jpg")
    samples = read_labelled("d", labels={"coco": 0, "RealVisXL": 1})
    assert [sample.label for sample in samples] == [1, 0]


def test_a_label_of_a_manifest_that_is_given_a_meaning_counts() -> None:
    text("m.csv", "path,label", "a.jpg,swap")
    assert read_labelled("m.csv", labels={"swap": 1})[0].label == 1


# UniversalFakeDetect


def test_class_folders_make_one_data_set_for_each_parent() -> None:
    touch("u/cyclegan/horse/0_real/1.png", "u/cyclegan/horse/1_fake/1.png", "u/dalle/1_fake/2.png")
    samples = read_labelled("u")
    assert [(s.dataset, s.generator, s.label) for s in samples] == [
        ("cyclegan/horse", "", 0), ("cyclegan/horse", "cyclegan", 1), ("dalle", "dalle", 1),
    ]  # fmt: skip


def test_class_folders_right_in_the_directory_have_its_name() -> None:
    touch("dalle/0_real/1.png", "dalle/1_fake/2.png")
    samples = read_labelled("dalle")
    assert [(s.dataset, s.generator) for s in samples] == [("dalle", ""), ("dalle", "dalle")]


def test_a_split_above_class_folders_is_no_part_of_the_name() -> None:
    touch("u/test/progan/0_real/1.png")
    (sample,) = read_labelled("u")
    assert (sample.dataset, sample.split) == ("progan", "test")


def test_generators_of_one_name_in_two_trees_are_two_data_sets() -> None:
    touch("a/progan/0_real/1.png", "b/progan/0_real/1.png")
    samples = read_labelled(["a", "b"])
    assert [sample.dataset for sample in samples] == ["a/progan", "b/progan"]


# Hugging Face imagefolder


def test_a_table_labels_the_pictures_of_its_folder() -> None:
    touch("h/train/1.png", "h/test/sub/2.png")
    text("h/train/metadata.csv", "file_name,label,age", "1.png,real,30")
    text("h/test/metadata.jsonl", '{"file_name": "sub/2.png", "label": "fake"}')
    samples = read_labelled("h")
    assert [(s.path.name, s.label, s.split) for s in samples] == [
        ("2.png", 1, "test"), ("1.png", 0, "train"),
    ]  # fmt: skip
    assert one(samples, "1.png").columns == (("age", "30"),)


def test_a_table_may_be_parquet() -> None:
    touch("h/1.png")
    pq.write_table(pa.table({"file_name": ["1.png"], "label": ["fake"]}), "h/metadata.parquet")
    assert [sample.label for sample in read_labelled("h")] == [1]


def test_a_listed_picture_that_is_missing_is_a_sample_too() -> None:
    text("h/metadata.csv", "file_name,label", "gone.png,fake")
    assert [sample.path.name for sample in read_labelled("h")] == ["gone.png"]


def test_a_picture_that_no_row_names_has_no_label() -> None:
    touch("h/fake/1.png", "h/fake/2.png", "h/README.md")
    text("h/metadata.csv", "file_name,label", "fake/1.png,fake")
    assert [(s.path.name, s.label) for s in read_labelled("h")] == [("1.png", 1), ("2.png", None)]


def test_a_table_without_labels_leaves_them_to_the_directories() -> None:
    touch("h/real/1.png", "h/fake/2.png")
    text("h/metadata.csv", "file_name,age", "real/1.png,30")
    assert sorted((s.path.name, s.label) for s in read_labelled("h")) == [
        ("1.png", 0),
        ("2.png", 1),
    ]


@pytest.mark.parametrize("number", ["0", "1", "0.0"])
def test_numbers_of_classes_need_a_meaning(number: str) -> None:
    touch("h/1.png")
    text("h/metadata.jsonl", f'{{"file_name": "1.png", "label": {number}}}')
    with pytest.raises(ManifestError, match="say what its numbers mean"):
        read_labelled("h")


def test_numbers_of_classes_with_a_meaning_count() -> None:
    touch("h/1.png")
    text("h/metadata.jsonl", '{"file_name": "1.png", "label": 0}')
    assert read_labelled("h", labels={"0": 1, "1": 0})[0].label == 1


def test_two_rows_for_one_picture_are_an_error() -> None:
    text("h/metadata.csv", "file_name,label", "1.png,fake", "1.png,real")
    with pytest.raises(ManifestError, match=r"line 3: .* has a row already"):
        read_labelled("h")


def test_a_table_about_something_else_is_an_error_that_says_what_to_do() -> None:
    touch("h/real/1.png")
    text("h/metadata.csv", "speaker,age", "x,30")
    with pytest.raises(ManifestError, match=r"no column 'file_name'.* Rename the table"):
        read_labelled("h")


def test_the_table_itself_given_as_a_manifest_asks_for_its_folder() -> None:
    text("h/metadata.csv", "file_name,label", "1.png,fake")
    with pytest.raises(ManifestError, match="imagefolder, give its folder"):
        read_labelled("h/metadata.csv")


def test_columns_of_a_table_give_split_group_and_video() -> None:
    text("h/metadata.csv", "file_name,label,split,group,video", "1.png,fake,validation,g,v")
    (sample,) = read_labelled("h")
    assert (sample.split, sample.group, sample.video) == ("val", "h/g", "h/fake/v")


# DeepfakeBench


def bench(name: str = "set.json") -> str:
    frames = [f"f/{i}.png" for i in range(8)]
    touch(*frames)
    video = {"label": "FF-DF", "frames": frames}
    found = {"FF": {"FF-DF": {"test": {"c23": {"000_003": video}, "c40": {"000_003": video}}}}}
    return text(name, json.dumps(found))


def test_a_data_set_file_has_the_names_it_gives() -> None:
    (sample,) = read_labelled(bench(), compression="c23", split="test", frames=1)
    assert (sample.dataset, sample.group, sample.video, sample.path.name) == (
        "FF", "FF/FF-DF/000_003", "FF/FF-DF/c23/000_003", "4.png",
    )  # fmt: skip


def test_a_root_is_passed_on(here: Path) -> None:
    (here / "moved").mkdir()
    Path(bench()).rename("moved/set.json")
    samples = read_labelled("moved/set.json", compression="c23", root=[str(here)])
    assert samples[0].path == here / "f/0.png"


def test_scan_and_train_read_a_data_set_file_too() -> None:
    assert len(list(read_sources(bench()))) == 16


def test_any_other_json_file_is_an_error_for_them_too() -> None:
    with pytest.raises(ManifestError, match="Expected a DeepfakeBench data set"):
        read_sources(text("x.json", "[]"))
