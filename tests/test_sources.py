"""Which files an input means, in which order, and with which label."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from unmask import sources
from unmask.errors import ConfigError, ManifestError, MissingSource, SourceError
from unmask.sources import (
    IMAGE_SUFFIXES,
    REFERENCE_SUFFIXES,
    label_from_directories,
    read_sources,
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def names(*inputs: str, **options: object) -> list[str]:
    return [sample.source for sample in read_sources(inputs, **options)]


def labels(*inputs: str, **options: object) -> dict[str, int | None]:
    return {sample.source: sample.label for sample in read_sources(inputs, **options)}


# files and directories


def test_file_is_one_sample_named_as_given(here: Path) -> None:
    touch("a.jpg")
    (sample,) = read_sources(["./a.jpg"])
    assert (sample.source, sample.path) == ("./a.jpg", Path("a.jpg"))


def test_directory_gives_all_its_files_sorted_by_path(here: Path) -> None:
    touch("d/b.jpg", "d/a/2.png", "d/a/1.png", "d/a.jpg", "d/c/x/1.gif")
    found = names("d")
    assert found == ["d/a/1.png", "d/a/2.png", "d/a.jpg", "d/b.jpg", "d/c/x/1.gif"]
    assert found == sorted(found, key=lambda name: Path(name).parts)


@pytest.mark.parametrize(("given", "first"), [("d/", "d/a.jpg"), (".", "./d/a.jpg")])
def test_source_is_the_input_joined_with_the_rest(here: Path, given: str, first: str) -> None:
    touch("d/a.jpg")
    assert names(given) == [first]


def test_every_file_counts_even_if_it_is_no_picture(here: Path) -> None:
    touch("d/a.jpg", "d/notes.txt", "d/noextension", "d/list.csv")
    assert len(names("d")) == 4


def test_hidden_files_and_directories_are_left_out(here: Path) -> None:
    touch("d/a.jpg", "d/.DS_Store", "d/.git/b.jpg")
    assert names("d") == ["d/a.jpg"]


def test_hidden_file_that_is_named_is_taken(here: Path) -> None:
    touch(".a.jpg")
    assert names(".a.jpg") == [".a.jpg"]


def test_suffixes_choose_files_whatever_their_case(here: Path) -> None:
    touch("d/a.JPG", "d/b.tif", "d/c.txt")
    assert names("d", suffixes=REFERENCE_SUFFIXES) == ["d/a.JPG"]


def test_without_recursion_only_the_directory_itself_is_read(here: Path) -> None:
    touch("d/a.jpg", "d/e/b.jpg")
    assert names("d", recursive=False) == ["d/a.jpg"]


def test_what_can_not_be_opened_is_a_sample_too(here: Path) -> None:
    touch("d/a.jpg")
    os.mkfifo("d/pipe")
    Path("d/dangling.jpg").symlink_to("nowhere.jpg")
    Path("d/itself.jpg").symlink_to("itself.jpg")
    assert names("d") == ["d/a.jpg", "d/dangling.jpg", "d/itself.jpg", "d/pipe"]


def test_links_to_directories_are_followed(here: Path) -> None:
    touch("elsewhere/a.jpg")
    Path("d").mkdir()
    Path("d/real").symlink_to("../elsewhere")
    assert labels("d") == {"d/real/a.jpg": 0}


def test_loops_of_links_end(here: Path) -> None:
    touch("d/a.jpg", "d/e/b.jpg")
    Path("d/e/up").symlink_to("..")
    Path("d/e/self").symlink_to(".")
    assert names("d") == ["d/a.jpg", "d/e/b.jpg"]


def test_directory_under_two_names_is_read_once(here: Path) -> None:
    touch("d/one/a.jpg")
    Path("d/two").symlink_to("one")
    assert names("d") == ["d/one/a.jpg"]


def test_sub_directory_that_cannot_be_listed_is_a_sample(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch("d/a.jpg", "d/locked/b.jpg", "d/z.jpg")
    refuse(monkeypatch, "d/locked")
    assert names("d") == ["d/a.jpg", "d/locked", "d/z.jpg"]


def test_input_directory_that_cannot_be_listed_is_an_error(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch("d/a.jpg")
    refuse(monkeypatch, "d")
    with pytest.raises(SourceError, match="d: cannot be listed: no rights"):
        names("d")


def refuse(monkeypatch: pytest.MonkeyPatch, directory: str) -> None:
    real = os.scandir

    def scandir(path: str) -> Iterator[os.DirEntry[str]]:
        if path == directory:
            raise PermissionError(13, "no rights")
        return real(path)

    monkeypatch.setattr(sources.os, "scandir", scandir)


def test_directories_are_listed_as_they_are_needed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch("d/a/1.jpg", "d/b/2.jpg", "d/c/3.jpg")
    listed: list[str] = []
    real = os.scandir
    monkeypatch.setattr(sources.os, "scandir", lambda path: listed.append(path) or real(path))
    list(islice(read_sources(["d"]), 1))
    assert listed == ["d", "d/a"]


def test_every_input_is_given_out_in_order_even_twice(here: Path) -> None:
    touch("b.jpg", "a.jpg")
    assert names("b.jpg", "a.jpg", "b.jpg") == ["b.jpg", "a.jpg", "b.jpg"]


# patterns


def test_pattern_gives_its_matches_sorted(here: Path) -> None:
    touch("d/2.jpg", "d/1.jpg", "d/3.png")
    assert names("d/*.jpg") == ["d/1.jpg", "d/2.jpg"]


def test_pattern_over_all_levels_gives_each_file_once(here: Path) -> None:
    touch("d/1.jpg", "d/e/2.jpg")
    assert names("d/**") == ["d/1.jpg", "d/e/2.jpg"]


def test_pattern_that_matches_directories_reads_them(here: Path) -> None:
    touch("d/x1/a.jpg", "d/x2/b.jpg", "d/y/c.jpg")
    assert names("d/x*") == ["d/x1/a.jpg", "d/x2/b.jpg"]


def test_pattern_obeys_suffixes(here: Path) -> None:
    touch("d/1.jpg", "d/2.txt")
    assert names("d/*", suffixes=IMAGE_SUFFIXES) == ["d/1.jpg"]


def test_pattern_without_a_match_is_missing(here: Path) -> None:
    with pytest.raises(MissingSource, match="the pattern matches no files"):
        names("*.jpg")


def test_file_whose_name_looks_like_a_pattern_is_that_file(here: Path) -> None:
    touch("a[1].jpg", "a1.jpg")
    assert names("a[1].jpg") == ["a[1].jpg"]


# standard input


def test_dash_reads_one_path_per_line(here: Path) -> None:
    touch("a.jpg")
    lines = io.StringIO("a.jpg\r\n\nwith space .jpg \nreal/x.jpg")
    assert labels("-", stdin=lines) == {"a.jpg": None, "with space .jpg ": None, "real/x.jpg": 0}


def test_listed_path_that_is_missing_is_still_a_sample(here: Path) -> None:
    assert names("-", stdin=io.StringIO("gone.jpg\n")) == ["gone.jpg"]


def test_dash_reads_standard_input_when_none_is_given(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a.jpg\n"))
    assert names("-") == ["a.jpg"]


def test_empty_standard_input_is_an_error(here: Path) -> None:
    with pytest.raises(MissingSource, match="standard input is empty"):
        names("-", stdin=io.StringIO("\n"))


# manifests


@pytest.mark.parametrize("name", ["m.csv", "M.CSV"])
def test_manifest_is_read_as_one(here: Path, name: str) -> None:
    Path(name).write_text("path,label\nfake/gone.jpg,real\n")
    assert labels(name) == {"fake/gone.jpg": 0}


def test_bad_header_of_a_manifest_fails_before_anything_is_given_out(here: Path) -> None:
    touch("a.jpg")
    Path("m.csv").write_text("lable,path\n")
    with pytest.raises(ManifestError):
        read_sources(["a.jpg", "m.csv"])


def test_manifest_without_rows_is_an_error(here: Path) -> None:
    Path("m.csv").write_text("path\n")
    with pytest.raises(MissingSource, match="lists no sample"):
        names("m.csv")


# what is missing


def test_missing_input_fails_before_anything_is_given_out(here: Path) -> None:
    touch("a.jpg")
    with pytest.raises(MissingSource):
        read_sources(["a.jpg", "gone.jpg"])


def test_missing_file_names_its_near_siblings(here: Path) -> None:
    touch("photos/holiday.jpg", "photos/work.jpg")
    with pytest.raises(MissingSource, match=r"holyday\.jpg: no such .*mean 'holiday\.jpg'"):
        names("photos/holyday.jpg")


@pytest.mark.parametrize(
    ("name", "words"), [("img_07.jpgg", "Did you mean 'img_07.jpg'"), ("zzz", "40 other entries")]
)
def test_missing_file_in_a_large_directory_has_a_short_message(
    here: Path, name: str, words: str
) -> None:
    touch(*(f"d/img_{i:02}.jpg" for i in range(40)))
    with pytest.raises(MissingSource, match=words) as caught:
        names(f"d/{name}")
    assert len(str(caught.value)) < 200


def test_missing_parent_is_named(here: Path) -> None:
    with pytest.raises(MissingSource, match="directory nowhere does not exist"):
        names("nowhere/a.jpg")


def test_missing_source_is_a_file_not_found_error(here: Path) -> None:
    with pytest.raises(FileNotFoundError):
        names("gone.jpg")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no files in this directory"),
        ({"recursive": False}, "sub-directories were not read"),
        ({"suffixes": frozenset({".png"})}, r"no files ending in \.png"),
    ],
)
def test_directory_without_files_is_an_error_that_says_what_was_looked_for(
    here: Path, options: dict[str, object], words: str
) -> None:
    touch("d/e/a.jpg") if options else Path("d").mkdir()
    with pytest.raises(MissingSource, match=words):
        names("d", **options)


def test_no_input_is_an_error() -> None:
    with pytest.raises(MissingSource, match="No input"):
        names()


# labels


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("real", 0),
        ("REAL", 0),
        ("fake", 1),
        ("0_real", 0),
        ("1_fake", 1),
        ("real2", 0),
        ("fake_gan", 1),
        ("Celeb-real", 0),
        ("YouTube-real", 0),
        ("Celeb-synthesis", 1),
        ("original_sequences", 0),
        ("manipulated_sequences", 1),
        ("Deepfakes", 1),
        ("DeepFakes", 1),
        ("FaceSwap", 1),
        ("face_swap", 1),
        ("face swap", 1),
        ("RealFaces", 0),
        ("fakeImages", 1),
        ("nature", 0),
        ("ai", 1),
        ("AI", 1),
        ("realistic_fakes", 1),
        ("unreal", None),
        ("un-real", None),
        ("not_real", None),
        ("surreal", None),
        ("RealVisXL", None),
        ("real_vs_fake", None),
        ("nature_photos", None),
        ("ai_lab", None),
        ("deepfake-detection-challenge", None),
        ("images", None),
        ("réal", None),
        ("re\u0301al", None),
        ("face1swap", 1),
        ("", None),
    ],
)
def test_directory_name_decides(name: str, label: int | None) -> None:
    assert label_from_directories(Path("root", name, "x.jpg"), Path("root")) == label


def test_nearest_deciding_directory_wins() -> None:
    path = Path("root/fake/real/c23/images/1.jpg")
    assert label_from_directories(path, Path("root")) == 0


def test_name_with_words_of_both_lists_leaves_it_to_the_parent() -> None:
    path = Path("root/fake/real_and_fake/1.jpg")
    assert label_from_directories(path, Path("root")) == 1


def test_file_name_is_never_looked_at() -> None:
    assert label_from_directories(Path("root/fake.jpg"), Path("root")) is None


def test_file_outside_the_root_is_refused() -> None:
    with pytest.raises(ValueError, match="not in the subpath"):
        label_from_directories(Path("other/1.jpg"), Path("root"))


def test_genimage_tree_is_labelled(here: Path) -> None:
    touch("gen/val/ai/1.png", "gen/val/nature/2.jpg")
    assert list(labels("gen").values()) == [1, 0]


def test_faceforensics_tree_is_labelled(here: Path) -> None:
    touch(
        "ff/original_sequences/youtube/c23/images/000/1.png",
        "ff/manipulated_sequences/Face2Face/c23/images/000_003/1.png",
    )
    assert list(labels("ff").values()) == [1, 0]


def test_labels_of_a_pattern_end_at_its_fixed_part(here: Path) -> None:
    touch("fake/set/x/1.jpg", "fake/set/real/2.jpg")
    assert labels("fake/set/*/*.jpg") == {"fake/set/real/2.jpg": 0, "fake/set/x/1.jpg": None}


def test_labels_of_a_pattern_begin_at_its_fixed_part(here: Path) -> None:
    touch("d/real/x/1.jpg")
    assert labels("d/real/*/1.jpg") == {"d/real/x/1.jpg": 0}


def test_dot_has_the_name_of_the_working_directory(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch("fake/1.jpg")
    monkeypatch.chdir("fake")
    assert labels(".", "1.jpg") == {"./1.jpg": 1, "1.jpg": 1}


# defects of the original script


def test_d3_an_unlabelled_file_shifts_no_label(here: Path) -> None:
    touch("d/fake/b.jpg", "d/other/a.jpg", "d/real/c.jpg")
    assert labels("d") == {"d/fake/b.jpg": 1, "d/other/a.jpg": None, "d/real/c.jpg": 0}


def test_d5_realistic_fakes_are_fake_and_unreal_says_nothing(here: Path) -> None:
    touch("d/realistic_fakes/1.jpg", "d/unreal/2.jpg")
    assert list(labels("d").values()) == [1, None]


def test_d5_names_above_the_input_and_file_names_do_not_decide(here: Path) -> None:
    touch("fake/d/sub/real.jpg")
    assert labels("fake/d") == {"fake/d/sub/real.jpg": None}


def test_d6_a_stray_image_in_the_root_hides_no_sub_directory(here: Path) -> None:
    touch("d/stray.jpg", "d/fake/1.jpg", "d/real/2.jpg")
    assert list(labels("d")) == ["d/fake/1.jpg", "d/real/2.jpg", "d/stray.jpg"]


def test_d7_more_than_a_hundred_files_come_whole_and_in_order(here: Path) -> None:
    touch(*(f"d/{i:03}.jpg" for i in range(250)))
    assert names("d") == [f"d/{i:03}.jpg" for i in range(250)]


def test_d8_a_single_image_has_the_label_of_its_directory(here: Path) -> None:
    touch("d/fake/1.jpg")
    assert labels("d/fake/1.jpg") == {"d/fake/1.jpg": 1}


def test_d8_a_single_image_asks_only_its_own_directory(here: Path) -> None:
    touch("fake/d/1.jpg")
    assert labels("fake/d/1.jpg") == {"fake/d/1.jpg": None}


@pytest.mark.parametrize("given", ["x/real", "x/real/", "x/fake/../real"])
def test_d9_the_input_directory_itself_can_be_the_label(here: Path, given: str) -> None:
    touch("x/real/1.jpg", "x/fake/2.jpg")
    assert list(labels(given).values()) == [0]


def test_reference_suffixes_are_those_of_the_original_script() -> None:
    assert sorted(REFERENCE_SUFFIXES) == [".bmp", ".jpeg", ".jpg", ".png", ".tiff", ".webp"]
    assert REFERENCE_SUFFIXES < IMAGE_SUFFIXES


# hostile inputs


def test_one_name_need_not_be_in_a_list(here: Path) -> None:
    touch("a.jpg")
    assert [sample.source for sample in read_sources("a.jpg")] == ["a.jpg"]
    assert [sample.source for sample in read_sources(Path("a.jpg"))] == ["a.jpg"]


def test_an_empty_name_is_an_error(here: Path) -> None:
    with pytest.raises(MissingSource, match="empty name"):
        read_sources([""])


def test_standard_input_twice_is_an_error_up_front() -> None:
    with pytest.raises(ConfigError, match="given twice"):
        read_sources(["-", "-"])


@pytest.mark.parametrize("pattern", ["d/**", "d/**/*", "d/**/**", "**", "*/**/*.jpg"])
def test_loops_of_links_below_all_levels_end_and_give_each_file_once(
    here: Path, pattern: str
) -> None:
    touch("d/1.jpg", "d/e/2.jpg", "d/e/f/3.jpg")
    for number in range(8):
        Path(f"d/loop{number}").symlink_to(here / "d", target_is_directory=True)
        Path(f"d/e/loop{number}").symlink_to(here, target_is_directory=True)
    assert names(pattern) == ["d/1.jpg", "d/e/2.jpg", "d/e/f/3.jpg"]


def test_hidden_directories_are_no_level_of_a_pattern(here: Path) -> None:
    touch("d/1.jpg", "d/.h/2.jpg")
    assert names("d/**/*.jpg") == ["d/1.jpg"]


def test_a_match_within_a_match_is_not_listed_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch("d/a/b/c/1.jpg")
    walked: list[str] = []
    real = sources._entries
    monkeypatch.setattr(
        sources, "_entries", lambda at, *rest: walked.append(at) or list(real(at, *rest)).__iter__()
    )
    assert names("d/**") == ["d/a/b/c/1.jpg"]
    assert len(walked) <= 6
