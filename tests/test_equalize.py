"""``unmask equalize``: after it, files tell nothing of the label, and nothing is lost."""

import csv
import json
import shutil
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from tiny_detectors import noise_image, write_picture
from uneven_sets import write_uneven
from unmask.audit.columns import TOGETHER
from unmask.audit.run import AuditOptions, audit
from unmask.equalize.journal import Plan, Row, plan_line, read_journal
from unmask.equalize.run import EqualizeOptions, alike, choose_side, encoded, parse_range
from unmask.errors import ConfigError, OutputError
from unmask.manifest import read_manifest
from unmask.sources import read_sources


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    return write_uneven(tmp_path_factory.mktemp("uneven"), n=30)


def rows_of(folder):
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def files_of(folder):
    return sorted(path for path in (folder / "pictures").rglob("*") if path.is_file())


@pytest.fixture
def equal(cli, uneven, tmp_path):
    outcome = cli("equalize", uneven, tmp_path / "out")
    assert outcome.code == 0, outcome.err
    return tmp_path / "out"


def test_after_it_files_no_longer_separate_the_classes(uneven, equal):
    options = AuditOptions(n_bootstrap=100)
    before, after = (
        {each.group: each for each in audit(read_sources([data]), options).separability}
        for data in (uneven, equal / "manifest.csv")
    )
    assert before["all"].auc == before["format"].auc == before["name"].auc == 1.0
    for group in (*TOGETHER, "all", "name", "metadata"):
        assert after[group].low <= 0.5 or after[group].auc < 0.6, group


def test_both_classes_have_one_format_size_and_kind_of_name(equal):
    pictures = [PillowImage.open(path) for path in files_of(equal)]
    assert {(picture.format, picture.size) for picture in pictures} == {("JPEG", (57, 57))}
    assert {len(path.name) for path in files_of(equal)} == {20}


def test_nothing_but_pixels_is_in_the_copies(cli, tmp_path):
    exif = PillowImage.Exif()
    exif[0x0131] = "Camera"
    path = tmp_path / "in" / "real" / "a.jpg"
    path.parent.mkdir(parents=True)
    PillowImage.fromarray(noise_image(0)).save(path, exif=exif, dpi=(300, 300), comment=b"x")
    cli("equalize", tmp_path / "in", tmp_path / "out")
    with PillowImage.open(files_of(tmp_path / "out")[0]) as picture:
        assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_qualities_are_drawn_from_one_range_for_both_classes(equal):
    qualities = {label: [] for label in ("real", "fake")}
    for row in rows_of(equal):
        qualities[row["label"]].append(int(row["quality"]))
    for drawn in qualities.values():
        assert min(drawn) >= 70
        assert max(drawn) <= 95
        assert len(set(drawn)) > 10


def test_folders_keep_their_labels(equal):
    labels = {path.parent.name for path in files_of(equal)}
    assert labels == {"real", "fake"}


def test_the_manifest_says_where_each_copy_comes_from(uneven, equal):
    import hashlib

    rows = rows_of(equal)
    assert len(rows) == 60
    for row in rows:
        source = uneven / row["source"].removeprefix(str(uneven) + "/")
        assert hashlib.sha256(source.read_bytes()).hexdigest() == row["source_sha256"]
        assert (equal / row["path"]).exists()


def test_group_video_and_split_are_kept(cli, tmp_path):
    write_picture(tmp_path / "in" / "a.png", noise_image(0))
    (tmp_path / "in" / "m.csv").write_text(
        "path,label,dataset,generator,group,video,split\na.png,fake,d,gan,g,v,val\n"
    )
    cli("equalize", tmp_path / "in" / "m.csv", tmp_path / "out")
    (sample,) = read_manifest(tmp_path / "out" / "manifest.csv")
    known = (
        sample.label,
        sample.dataset,
        sample.generator,
        sample.group,
        sample.video,
        sample.split,
    )
    assert known == (1, "d", "gan", "g", "v", "val")


def test_the_same_seed_gives_the_same_files(cli, uneven, tmp_path, equal):
    cli("equalize", uneven, tmp_path / "again")
    one, two = (
        {path.name: path.read_bytes() for path in files_of(folder)}
        for folder in (equal, tmp_path / "again")
    )
    assert one == two


def test_a_range_of_sizes_is_drawn_from(cli, uneven, tmp_path):
    cli("equalize", uneven, tmp_path / "out", "--size", "32-48")
    sides = {int(row["side"]) for row in rows_of(tmp_path / "out")}
    assert min(sides) >= 32
    assert max(sides) <= 48
    assert len(sides) > 5


def test_png_has_no_quality(cli, uneven, tmp_path):
    cli("equalize", uneven, tmp_path / "out", "--format", "png")
    assert {row["quality"] for row in rows_of(tmp_path / "out")} == {""}
    assert {path.suffix for path in files_of(tmp_path / "out")} == {".png"}


def test_what_cannot_be_read_is_listed(cli, tmp_path):
    write_picture(tmp_path / "in" / "real" / "a.png", noise_image(0))
    (tmp_path / "in" / "fake").mkdir()
    (tmp_path / "in" / "fake" / "b.jpg").write_bytes(b"\xff\xd8\xff")
    outcome = cli("equalize", tmp_path / "in", tmp_path / "out")
    assert outcome.code == 1
    with (tmp_path / "out" / "left_out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["label"], row["code"]) == ("fake", "damaged")
    assert "b.jpg" in outcome.err


def test_many_left_out_are_counted(cli, tmp_path):
    write_picture(tmp_path / "in" / "real" / "a.png", noise_image(0))
    for number in range(12):
        (tmp_path / "in" / f"{number}.jpg").write_bytes(b"\xff\xd8\xff")
    assert "2 more" in cli("equalize", tmp_path / "in", tmp_path / "out").err


def test_enlarged_pictures_are_told(cli, uneven, tmp_path):
    assert (
        "30 real pictures are smaller"
        in cli("equalize", uneven, tmp_path / "out", "--size", "72").err
    )


def test_a_folder_that_is_not_empty_is_left_alone(cli, uneven, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    outcome = cli("equalize", uneven, tmp_path / "out")
    assert outcome.code == 2
    assert "not empty" in outcome.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_folder_of_something_else_is_not_resumed(cli, uneven, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    outcome = cli("equalize", uneven, tmp_path / "out", "--resume")
    assert "not begun by equalize" in outcome.err


def test_a_resumed_run_writes_only_what_is_missing(cli, uneven, equal):
    journal = equal / ".equalize.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:21]) + lines[21][:30])  # broken off in the middle of a line
    before = {path: path.stat().st_mtime_ns for path in files_of(equal)}
    kept = [json.loads(line)["path"] for line in lines[1:21]]
    lost = equal / json.loads(lines[40])["path"]
    lost.unlink()
    (equal / "manifest.csv").unlink()
    assert cli("equalize", uneven, equal, "--resume").code == 0
    assert len(rows_of(equal)) == len(files_of(equal)) == 60
    assert all((equal / path).stat().st_mtime_ns == before[equal / path] for path in kept)
    assert len(journal.read_text().splitlines()) == 61


def test_a_resumed_run_makes_a_destroyed_copy_anew(cli, uneven, equal):
    whole = {path: path.read_bytes() for path in files_of(equal)}
    cut, other = files_of(equal)[3], files_of(equal)[4]
    cut.write_bytes(cut.read_bytes()[:100])
    other.write_bytes(b"")
    assert cli("equalize", uneven, equal, "--resume").code == 0
    assert {path: path.read_bytes() for path in files_of(equal)} == whole


def journal_of(folder, lines):
    (folder / ".equalize.jsonl").write_bytes(b"".join(lines))


FOREIGN = [
    b"",
    b"not json\n",
    b"[]\n",
    b'{"a": 1}\n',
    b"\xff\xfe\n",
    b"[" * 100_000 + b"\n",
    b"null\n",
]


@pytest.mark.parametrize("text", FOREIGN, ids=range(len(FOREIGN)))
def test_a_journal_without_a_plan_is_refused(cli, uneven, tmp_path, text):
    (tmp_path / "out").mkdir()
    journal_of(tmp_path / "out", [text])
    outcome = cli("equalize", uneven, tmp_path / "out", "--resume")
    assert outcome.code == 2
    assert "line 1" in outcome.err
    assert "Give another folder" in outcome.err


@pytest.mark.parametrize("text", [*FOREIGN[1:], b"\n"], ids=range(len(FOREIGN)))
def test_a_damaged_line_of_a_journal_is_refused(cli, uneven, equal, text):
    lines = (equal / ".equalize.jsonl").read_bytes().splitlines(keepends=True)
    journal_of(equal, [*lines[:5], text, *lines[5:]])
    before = {path: path.read_bytes() for path in files_of(equal)}
    outcome = cli("equalize", uneven, equal, "--resume")
    assert outcome.code == 2
    assert "line 6" in outcome.err
    assert {path: path.read_bytes() for path in files_of(equal)} == before


WRONG = [
    ("source", 3),
    ("label", 2),
    ("label", True),
    ("path", ""),
    ("path", None),
    ("source_sha256", "abc"),
    ("sha256", "F" * 64),
    ("width", 0),
    ("height", -1),
    ("height", 1.5),
    ("side", "57"),
    ("quality", 0),
    ("code", "damaged"),
    ("reason", None),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_line_of_a_journal_with_a_wrong_value_is_refused(tmp_path, name, value):
    plan = Plan("in", (57, 57), (70, 95), "jpeg", 0)
    sound = Row("in/a", 0, "pictures/a.jpg", "0" * 64, "1" * 64, 64, 64, 57, 80)
    path = tmp_path / "journal"
    path.write_text(f"{plan_line(plan)}\n{json.dumps(asdict(sound))}\n")
    assert read_journal(path) == (plan, [sound])
    path.write_text(f"{plan_line(plan)}\n{json.dumps({**asdict(sound), name: value})}\n")
    with pytest.raises(OutputError, match=f"line 2: {name} is"):
        read_journal(path)


@given(st.binary(max_size=300), st.integers(0, 700))
@settings(max_examples=100, deadline=None)
def test_whatever_stands_in_a_journal_is_read_or_refused(data, at):
    plan = plan_line(Plan("in", (57, 57), (70, 95), "jpeg", 0))
    row = json.dumps(asdict(Row("in/a", 0, "p", "0" * 64, "1" * 64, 64, 64, 57, 80)))
    text = f"{plan}\n{row}\n{row}\n".encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal")
        path.write_bytes(text[:at] + data + text[at + len(data) :])
        with suppress(OutputError):
            plan_and_rows = read_journal(path)
            assert isinstance(plan_and_rows[0], Plan)


def test_a_journal_that_names_another_copy_is_not_believed(cli, uneven, equal):
    # As one does that was edited: the copy stands elsewhere, with the hash that is told.
    lines = (equal / ".equalize.jsonl").read_bytes().splitlines(keepends=True)
    row = json.loads(lines[7])
    shutil.copy(equal / row["path"], equal / "pictures" / "other.jpg")
    journal_of(
        equal, [*lines[:7], json.dumps({**row, "path": "pictures/other.jpg"}).encode() + b"\n"]
    )
    assert cli("equalize", uneven, equal, "--resume").code == 0
    assert row["path"] in {each["path"] for each in rows_of(equal)}
    assert "pictures/other.jpg" not in {each["path"] for each in rows_of(equal)}


def test_a_label_that_was_corrected_is_that_of_the_kept_copy(cli, tmp_path):
    write_picture(tmp_path / "in" / "a.png", noise_image(0))
    for label in ("real", "fake"):
        (tmp_path / "in" / "m.csv").write_text(f"path,label\na.png,{label}\n")
        outcome = cli("equalize", tmp_path / "in" / "m.csv", tmp_path / "out", "--resume")
    assert "0 real, 1 fake" in outcome.err
    assert rows_of(tmp_path / "out")[0]["label"] == "fake"


@pytest.mark.parametrize(("other", "words"), [("fake", "fake and real"), ("real", "twice, real")])
def test_a_picture_that_is_listed_twice_is_refused(cli, tmp_path, other, words):
    write_picture(tmp_path / "in" / "a.png", noise_image(0))
    rows = f"path,label\na.png,real\n../in/a.png,{other}\n"
    (tmp_path / "in" / "m.csv").write_text(rows)
    outcome = cli("equalize", tmp_path / "in" / "m.csv", tmp_path / "out")
    assert outcome.code == 2
    assert words in outcome.err
    assert not (tmp_path / "out").exists()


def test_one_picture_under_two_names_and_labels_is_refused(cli, tmp_path):
    write_picture(tmp_path / "in" / "real" / "a.png", noise_image(0))
    (tmp_path / "in" / "fake").mkdir()
    shutil.copy(tmp_path / "in" / "real" / "a.png", tmp_path / "in" / "fake" / "b.png")
    outcome = cli("equalize", tmp_path / "in", tmp_path / "out", "--size", 32)
    assert outcome.code == 2
    assert "byte for byte" in outcome.err
    (tmp_path / "in" / "fake" / "b.png").unlink()
    resumed = cli("equalize", tmp_path / "in", tmp_path / "out", "--size", 32, "--resume")
    assert (resumed.code, len(rows_of(tmp_path / "out"))) == (0, 1)


def two_labels(tmp_path):
    """Pictures, of which one stands under both labels."""
    for number in range(3):
        write_picture(tmp_path / "in" / "real" / f"{number}.png", noise_image(number))
        write_picture(tmp_path / "in" / "fake" / f"{number}.png", noise_image(10 + number))
    shutil.copy(tmp_path / "in" / "real" / "0.png", tmp_path / "in" / "fake" / "9.png")
    return tmp_path / "in", tmp_path / "out"


def test_the_copy_of_an_input_that_was_removed_goes_when_resumed(cli, tmp_path):
    src, dst = two_labels(tmp_path)
    assert cli("equalize", src, dst, "--size", 32).code == 2
    (src / "fake" / "9.png").unlink()
    resumed = cli("equalize", src, dst, "--size", 32, "--resume")
    assert (resumed.code, len(rows_of(dst))) == (0, 6)
    assert files_of(dst) == sorted(dst / row["path"] for row in rows_of(dst))
    assert "removed: 1 copy whose input is no longer there" in resumed.err


def test_the_copy_of_an_input_that_cannot_be_read_any_more_goes_when_resumed(cli, tmp_path):
    src, dst = two_labels(tmp_path)
    (src / "fake" / "9.png").unlink()
    assert cli("equalize", src, dst, "--size", 32).code == 0
    (src / "fake" / "1.png").write_bytes(b"")
    (src / "real" / "2.png").write_bytes(b"")
    resumed = cli("equalize", src, dst, "--size", 32, "--resume")
    assert (resumed.code, len(rows_of(dst)), len(files_of(dst))) == (1, 4, 4)
    assert "removed: 2 copies whose inputs are no longer there" in resumed.err


def test_an_input_that_comes_back_is_copied_again(cli, tmp_path):
    src, dst = two_labels(tmp_path)
    (src / "fake" / "9.png").rename(tmp_path / "9.png")
    for count in (6, 5, 6):
        assert cli("equalize", src, dst, "--size", 32, "--resume").code == 0
        assert len(files_of(dst)) == len(rows_of(dst)) == count
        away, here = tmp_path / "away.png", src / "fake" / "1.png"
        (here if here.exists() else away).rename(away if here.exists() else here)


def test_a_file_that_is_not_as_it_was_written_stays_and_is_told(cli, tmp_path):
    src, dst = two_labels(tmp_path)
    (src / "fake" / "9.png").unlink()
    assert cli("equalize", src, dst, "--size", 32).code == 0
    copies = {row["source"]: dst / row["path"] for row in rows_of(dst)}
    gone = src / "fake" / "1.png"
    gone.unlink()
    copies[str(gone)].write_bytes(b"mine")
    (dst / "pictures" / "notes.txt").write_text("mine")
    resumed = cli("equalize", src, dst, "--size", 32, "--resume")
    assert resumed.code == 0
    assert copies[str(gone)].read_bytes() == b"mine"
    assert (dst / "pictures" / "notes.txt").exists()
    assert "removed" not in resumed.err
    assert "warning: 2 files are not in the manifest" in resumed.err
    assert "pictures/notes.txt" in resumed.err


def test_a_source_that_changed_is_copied_anew(cli, uneven, tmp_path):
    shutil.copytree(uneven, tmp_path / "in")
    cli("equalize", tmp_path / "in", tmp_path / "out", "--size", "32")
    before = {row["source"]: row["source_sha256"] for row in rows_of(tmp_path / "out")}
    changed = next((tmp_path / "in" / "fake").iterdir())
    write_picture(changed, noise_image(999))
    cli("equalize", tmp_path / "in", tmp_path / "out", "--size", "32", "--resume")
    after = {row["source"]: row["source_sha256"] for row in rows_of(tmp_path / "out")}
    assert [source for source in after if after[source] != before[source]] == [str(changed)]
    lines = (tmp_path / "out" / ".equalize.jsonl").read_text().splitlines()
    cli("equalize", tmp_path / "in", tmp_path / "out", "--size", "32", "--resume")
    assert (tmp_path / "out" / ".equalize.jsonl").read_text().splitlines() == lines


def test_other_options_do_not_resume(cli, uneven, equal):
    outcome = cli("equalize", uneven, equal, "--resume", "--seed", "1")
    assert outcome.code == 2
    assert "other options" in outcome.err


def test_what_lies_outside_the_manifests_folder_goes_elsewhere(cli, tmp_path):
    write_picture(tmp_path / "far" / "a.png", noise_image(0))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "m.csv").write_text("path,label\n../far/a.png,real\n")
    cli("equalize", tmp_path / "in" / "m.csv", tmp_path / "out")
    assert rows_of(tmp_path / "out")[0]["path"].startswith("pictures/elsewhere/")


def test_a_destination_within_the_source_is_refused(cli, uneven):
    outcome = cli("equalize", uneven, uneven / "out")
    assert outcome.code == 2
    assert "lies within" in outcome.err


def test_a_destination_beside_the_manifest_is_refused(cli, uneven):
    (uneven / "m.csv").write_text("path,label\nreal/img_0.jpg,real\n")
    outcome = cli("equalize", uneven / "m.csv", uneven / "out")
    (uneven / "m.csv").unlink()
    assert outcome.code == 2
    assert "lies within" in outcome.err


def test_a_destination_below_a_pattern_is_refused(cli, uneven):
    outcome = cli("equalize", uneven / "*" / "*.png", uneven / "fake" / "out")
    assert outcome.code == 2
    assert "lies within" in outcome.err


def test_an_input_within_the_destination_is_refused(cli, tmp_path):
    write_picture(tmp_path / "out" / "pictures" / "a.png", noise_image(0))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "m.csv").write_text("path,label\n../out/pictures/a.png,real\n")
    outcome = cli("equalize", tmp_path / "in" / "m.csv", tmp_path / "out", "--resume")
    assert outcome.code == 2
    assert "the input" in outcome.err


def test_standard_input_has_no_folders_to_keep(cli, tmp_path):
    assert cli("equalize", "-", tmp_path / "out").code == 2


def test_a_disk_that_is_full_is_told(cli, uneven, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unmask.equalize.run._write", full)
    outcome = cli("equalize", uneven, tmp_path / "out")
    assert outcome.code == 2
    assert "No space left" in outcome.err


def test_the_side_suits_the_smaller_class(uneven):
    assert choose_side(read_sources([uneven])) == 57  # nine tenths of 64


def test_without_a_picture_no_side_can_be_chosen(tmp_path):
    (tmp_path / "a.txt").write_text("no picture")
    with pytest.raises(ConfigError, match="give --size"):
        choose_side(read_sources([tmp_path]))


def test_the_middle_square_is_kept():
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, 20:40] = 200
    assert (alike(image, 20) == 200).all()


def test_a_copy_is_4_2_0_whatever_the_quality():
    import io

    from PIL import JpegImagePlugin

    for quality in (60, 95):
        with PillowImage.open(io.BytesIO(encoded(noise_image(0), "jpeg", quality))) as picture:
            assert JpegImagePlugin.get_sampling(picture) == 2


@pytest.mark.parametrize("text", ["", "a", "10-", "1.5", "10-20-30"])
def test_a_range_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="expected one whole number"):
        parse_range(text, "size")


@pytest.mark.parametrize(
    "wrong",
    [
        {"sides": (8, 8)},
        {"sides": (64, 32)},
        {"qualities": (0, 50)},
        {"qualities": (50, 101)},
        {"workers": 0},
    ],
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match="expected"):
        EqualizeOptions(**wrong)
