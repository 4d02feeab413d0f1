"""DeepfakeBench data sets: which frames, of which video, class, split and level."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from unmask.dataset_json import (
    BENCH_LABELS,
    Roots,
    parse_roots,
    read_dataset_file,
    read_dataset_json,
)
from unmask.errors import ConfigError, ManifestError, MissingSource
from unmask.types import Sample


def video(label: str, *frames: str) -> dict[str, object]:
    return {"label": label, "frames": list(frames)}


CELEB = {
    "Celeb-DF-v2": {
        "CelebDFv2_real": {
            "train": {"id1_0001": video("CelebDFv2_real", "real/id1/000.png")},
            "val": {},
            "test": {"id0_0000": video("CelebDFv2_real", "real/id0/000.png", "real/id0/001.png")},
        },
        "CelebDFv2_fake": {
            "train": {},
            "val": {},
            "test": {"id0_id1_0000": video("CelebDFv2_fake", "fake/id0_id1/000.png")},
        },
    }
}


def levels(name: str, label: str) -> dict[str, object]:
    return {level: {name: video(label, f"{label}/{level}/{name}/000.png")} for level in LEVELS}


LEVELS = ("c23", "c40", "raw")
FF = {
    "FaceForensics++": {
        "FF-real": {"test": levels("000", "FF-real")},
        "FF-DF": {"test": levels("000_003", "FF-DF")},
        "FF-F2F": {"test": levels("000_003", "FF-F2F")},
    }
}


def write(folder: Path, found: object, name: str = "set.json", *, files: bool = True) -> Path:
    """The data set on disk, and an empty file for each of its frames."""
    path = folder / name
    path.write_text(found if isinstance(found, str) else json.dumps(found), encoding="utf-8")
    for frame in frames_in(found) if files else ():
        (folder / frame).parent.mkdir(parents=True, exist_ok=True)
        (folder / frame).touch()
    return path


def frames_in(found: object) -> list[str]:
    if isinstance(found, Mapping):
        own = found.get("frames", [])
        return [*own, *(each for value in found.values() for each in frames_in(value))]
    return []


def read(folder: Path, found: object, name: str = "set.json", **options: object) -> list[Sample]:
    return list(read_dataset_json(write(folder, found, name), **options))


def test_a_frame_is_a_sample_with_all_that_the_file_says(tmp_path: Path) -> None:
    assert read(tmp_path, CELEB, split="test")[-1] == Sample(
        source=str(tmp_path / "fake/id0_id1/000.png"),
        path=tmp_path / "fake/id0_id1/000.png",
        label=1,
        dataset="Celeb-DF-v2",
        generator="CelebDFv2_fake",
        group="CelebDFv2_fake/id0_id1_0000",
        video="CelebDFv2_fake/id0_id1_0000",
        split="test",
        columns=(("class", "CelebDFv2_fake"),),
    )


def test_all_splits_are_read_unless_one_is_chosen(tmp_path: Path) -> None:
    assert {sample.split for sample in read(tmp_path, CELEB)} == {"train", "test"}


def test_a_split_has_its_other_names_too(tmp_path: Path) -> None:
    found = {"d": {"FF-DF": {"validation": {"v": video("FF-DF", "1.png")}}}}
    assert [sample.split for sample in read(tmp_path, found, split="val")] == ["val"]


def test_one_compression_level_is_read(tmp_path: Path) -> None:
    samples = read(tmp_path, FF, compression="c40")
    assert [sample.path.parent.parent.name for sample in samples] == ["c40"] * 3


def test_the_level_is_a_column(tmp_path: Path) -> None:
    samples = read(tmp_path, FF, compression="raw")
    assert dict(samples[0].columns) == {"class": "FF-real", "compression": "raw"}


def test_several_levels_and_none_chosen_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"holds the compression levels c23, c40, raw\. Choose one"
    ):
        read(tmp_path, FF)


def test_all_levels_are_read_side_by_side_on_request(tmp_path: Path) -> None:
    assert len(read(tmp_path, FF, compression="all")) == 9


def test_a_single_level_need_not_be_chosen(tmp_path: Path) -> None:
    found = {"d": {"FF-DF": {"test": {"c23": {"v": video("FF-DF", "1.png")}}}}}
    assert len(read(tmp_path, found)) == 1


def test_data_without_levels_are_read_whatever_level_is_asked(tmp_path: Path) -> None:
    assert len(read(tmp_path, CELEB, compression="c40", split="test")) == 3


@pytest.mark.parametrize("name", ["FF-DF_c40.json", "FaceForensics++_c40.json"])
def test_a_file_named_c40_stands_for_that_level(tmp_path: Path, name: str) -> None:
    samples = read(tmp_path, FF, name)
    assert {dict(sample.columns)["compression"] for sample in samples} == {"c40"}


def test_a_data_set_named_c40_stands_for_that_level(tmp_path: Path) -> None:
    samples = read(tmp_path, {"FaceForensics++_c40": FF["FaceForensics++"]})
    assert {dict(sample.columns)["compression"] for sample in samples} == {"c40"}


def test_a_named_level_and_another_one_asked_for_contradict(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is the level c40, and c23 is asked for"):
        read(tmp_path, FF, "FaceForensics++_c40.json", compression="c23")


def test_a_level_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no compression 'c20'.* 'c23'"):
        read(tmp_path, FF, compression="c20")


def test_a_split_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no split 'tset'\. Did you mean 'test'"):
        read(tmp_path, CELEB, split="tset")


def test_d32_videos_of_one_name_in_two_classes_or_levels_stay_apart(tmp_path: Path) -> None:
    # D32: the reference groups by the bare folder name, which DF, F2F, FS and NT share.
    samples = read(tmp_path, FF, compression="all")
    assert len({sample.video for sample in samples}) == 9


def test_the_levels_of_one_video_are_one_group(tmp_path: Path) -> None:
    samples = read(tmp_path, FF, compression="all")
    assert {s.group for s in samples} == {"FF-real/000", "FF-DF/000_003", "FF-F2F/000_003"}


@pytest.mark.parametrize(("name", "label"), sorted(BENCH_LABELS.items()))
def test_class_names_of_the_benchmark_are_known(tmp_path: Path, name: str, label: int) -> None:
    assert ("real" in name.lower()) == (label == 0)
    found = {"d": {name: {"test": {"v": video(name, "1.png")}}}}
    assert [sample.label for sample in read(tmp_path, found)] == [label]


def test_an_unknown_class_is_an_error_that_asks_for_its_meaning(tmp_path: Path) -> None:
    found = {"d": {"biggan": {"test": {"v": video("biggan", "1.png")}}}}
    with pytest.raises(ManifestError, match="Say which: biggan=real or biggan=fake"):
        read(tmp_path, found)


def test_d35_other_generators_are_fake_and_named_not_further_classes(tmp_path: Path) -> None:
    # D35: the reference numbers generators 2 to 8 in front of a head with two classes.
    found = {"d": {"biggan": {"test": {"v": video("biggan", "1.png")}}}}
    (sample,) = read(tmp_path, found, labels={"biggan": 1})
    assert (sample.label, sample.generator) == (1, "biggan")


def test_a_video_without_a_label_has_that_of_its_class(tmp_path: Path) -> None:
    found = {"d": {"FF-real": {"test": {"v": {"frames": ["1.png"]}}}}}
    assert read(tmp_path, found)[0].label == 0


def test_frames_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    found = {"d": {"FF-DF": {"test": {"v": video("FF-DF", "v/10.png", "v/9.png", "v/100.png")}}}}
    assert [sample.path.name for sample in read(tmp_path, found)] == ["9.png", "10.png", "100.png"]


def test_d30_a_missing_frame_is_a_sample_too(tmp_path: Path) -> None:
    # D30: the reference replaces it by a random other one.
    write(tmp_path, CELEB)
    (tmp_path / "real/id0/000.png").unlink()
    samples = list(read_dataset_json(tmp_path / "set.json", split="test"))
    assert len(samples) == 3


def test_no_frame_at_all_in_its_place_is_an_error_that_asks_for_a_root(tmp_path: Path) -> None:
    path = write(tmp_path, CELEB, files=False)
    with pytest.raises(MissingSource, match="none of its 4 frames is there; the first would be"):
        list(read_dataset_json(path))


def test_several_data_sets_in_one_file_are_read(tmp_path: Path) -> None:
    samples = read(tmp_path, {**CELEB, **FF}, compression="c23")
    assert {sample.dataset for sample in samples} == {"Celeb-DF-v2", "FaceForensics++"}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([1], "the file is"),
        ({"summary": {"a": 1}}, "summary/a is 1"),
        ({"schema_version": 1, "results": []}, "schema_version is 1"),
        ({"d": {"FF-DF": {"v1": {}}}}, "has 'v1' where a split stands"),
        ({"d": {"FF-DF": {"test": {"v": {"label": "FF-DF"}}}}}, "no label and list of frames"),
        ({"d": {"FF-DF": {"test": {"v": {"label": 3, "frames": []}}}}}, "no label and list"),
        ({"d": {"FF-DF": {"test": {"v": video("FF-DF", 7)}}}}, "has the frame 7"),
        ({"d": {"FF-DF": {"test": {"v": 5}}}}, "FF-DF/test/v is 5"),
        ({}, "lists no video"),
        ({"d": {"FF-DF": {"test": {}}}}, "lists no video"),
    ],
)
def test_another_json_file_is_an_error(tmp_path: Path, found: object, words: str) -> None:
    path = write(tmp_path, found, files=False)
    with pytest.raises(ManifestError, match=words):
        list(read_dataset_json(path))


def test_what_was_expected_is_said(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"Expected a DeepfakeBench data set: \{data set: "):
        read(tmp_path, [1])


def test_a_missing_file_is_a_missing_source(tmp_path: Path) -> None:
    with pytest.raises(MissingSource, match="no such file"):
        list(read_dataset_json(tmp_path / "gone.json"))


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "set.json").mkdir()
    with pytest.raises(ManifestError, match="cannot be read"):
        list(read_dataset_json(tmp_path / "set.json"))


# roots


def test_a_directory_is_where_relative_paths_start(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    write(tmp_path / "frames", CELEB)
    path = write(tmp_path, CELEB, files=False)
    roots = parse_roots([str(tmp_path / "frames")])
    assert next(read_dataset_json(path, roots=roots)).path.is_relative_to(tmp_path / "frames")


def test_a_beginning_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "new/v").mkdir(parents=True)
    (tmp_path / "new/v/1.png").touch()
    found = {"d": {"FF-DF": {"test": {"v": video("FF-DF", "/old/rgb/v/1.png")}}}}
    path = write(tmp_path, found, files=False)
    (sample,) = read_dataset_json(path, roots=parse_roots([f"/old/rgb={tmp_path}/new"]))
    assert sample.path == tmp_path / "new/v/1.png"


def test_windows_separators_are_understood(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v/1.png").touch()
    found = {"d": {"FF-DF": {"test": {"v": video("FF-DF", "v\\1.png")}}}}
    path = write(tmp_path, found, files=False)
    assert next(read_dataset_json(path)).path == tmp_path / "v/1.png"


def test_the_longest_beginning_that_fits_counts() -> None:
    roots = parse_roots(["a=x", "a/b=y"])
    assert [str(old) for old, _ in roots.moved] == ["a/b", "a"]


def test_only_whole_names_are_a_beginning(tmp_path: Path) -> None:
    path = write(tmp_path, CELEB)
    with pytest.raises(ConfigError, match="no frame lies below rea; the first is real/id1/000"):
        list(read_dataset_json(path, roots=Roots(moved=parse_roots(["rea=x"]).moved)))


def test_a_directory_with_an_equals_sign_is_a_directory(tmp_path: Path) -> None:
    folder = tmp_path / "a=b"
    folder.mkdir()
    assert parse_roots([str(folder)]) == Roots(folder=folder)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["a", "b"], "two roots for relative paths"),
        (["a=x", "a/=y"], "given two roots"),
        (["=x"], "expected OLD=NEW"),
        (["a="], "expected OLD=NEW"),
    ],
)
def test_roots_that_contradict_are_an_error(texts: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_roots(texts)


def test_a_video_without_frames_is_told_apart_from_the_samples(tmp_path: Path) -> None:
    found = {"d": {"FF-DF": {"test": {"2": video("FF-DF", "2.png"), "3": video("FF-DF")}}}}
    listed = read_dataset_file(write(tmp_path, found))
    assert [each.video for each in listed.samples] == ["FF-DF/2"]
    (empty,) = listed.without_frames
    assert (empty.video, empty.label, empty.dataset, empty.split) == ("FF-DF/3", 1, "d", "test")
    assert empty.source == str(tmp_path / "set.json/FF-DF/test/3/(no frames)")


VIDEO = '{"label": "FF-DF", "frames": ["1.png"]}'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'{{"d": {{"FF-DF": {{"test": {{"v": {VIDEO}, "v": {VIDEO}}}}}}}}}', "test names 'v' tw"),
        (f'{{"d": {{"FF-DF": {{"test": {{"v": {VIDEO}}}, "test": {{}}}}}}}}', "names 'test' twice"),
        (
            '{"d": {"FF-DF": {"test": {"v": {"label": "FF-DF", "frames": [], "frames": []}}}}}',
            "v names 'frames' twice",
        ),
        (
            f'{{"d": {{"FF-DF": {{"test": {{"c23": {{"v": {VIDEO}, "v": {VIDEO}}}}}}}}}}}',
            "test/c23 names 'v' twice",
        ),
    ],
)
def test_two_members_of_one_name_are_an_error(tmp_path: Path, text: str, words: str) -> None:
    # JSON keeps the last of them, so that a video would be gone without a word.
    with pytest.raises(ManifestError, match=words):
        read(tmp_path, text)
