"""``unmask align`` as it is called."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from skimage import data
from typer.testing import CliRunner, Result

from unmask.cli import app
from unmask.errors import ConfigError, FaceError, MissingSource, OutputError
from unmask.faces.align import template

FACE = data.astronaut()[20:240, 115:335]
FLAT = np.full((40, 50, 3), 128, np.uint8)


def write(path: Path, image: np.ndarray = FACE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(image).save(path)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["align", *map(str, arguments)])


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "align.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def crops(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


@pytest.fixture
def src(tmp_path) -> Path:
    return tmp_path / "src"


@pytest.fixture
def dst(tmp_path) -> Path:
    return tmp_path / "dst"


def test_the_crops_keep_the_folders_of_the_source(src, dst):
    write(src / "a.jpg")
    write(src / "real" / "b.png")
    assert run(src, dst).exit_code == 0
    assert crops(dst) == ["a.png", "real/b.png"]


def test_one_file_gives_one_crop(src, dst):
    run(write(src / "a.jpg"), dst)
    assert crops(dst) == ["a.png"]


def test_a_pattern_keeps_the_folders_below_its_fixed_part(src, dst):
    write(src / "real" / "a.jpg")
    write(src / "fake" / "a.jpg")
    run(src / "*" / "*.jpg", dst)
    assert crops(dst) == ["fake/a.png", "real/a.png"]


def test_names_that_differ_in_their_ending_get_a_crop_each(src, dst):
    for name in ("a.bmp", "a.jpg", "a.jpg.webp"):
        write(src / name)
    run(src, dst)
    assert crops(dst) == ["a.jpg.png", "a.jpg.webp.png", "a.png"]


def test_a_file_that_is_listed_twice_gets_two_crops(src, dst):
    path = write(src / "a.jpg")
    listed = CliRunner().invoke(app, ["align", "-", str(dst)], input=f"{path}\n" * 4)
    assert listed.exit_code == 0
    assert crops(dst) == ["a.jpg.2.png", "a.jpg.3.png", "a.jpg.png", "a.png"]


def test_every_input_has_a_row_in_order(src, dst):
    write(src / "a.png")
    write(src / "b.png", FLAT)
    (src / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (src / "d.txt").write_text("no picture")
    run(src, dst)
    assert [Path(row["source"]).name for row in rows(dst)] == ["a.png", "b.png", "c.png", "d.txt"]
    assert [row["status"] for row in rows(dst)] == ["ok", "no_face", "unreadable", "unsupported"]


def test_an_input_without_a_crop_has_a_reason_and_nothing_else(src, dst):
    write(src / "b.png", FLAT)
    run(src, dst)
    (row,) = rows(dst)
    assert row["reason"] == "no_face: yunet found no face"
    assert [row[name] for name in ("face", "box_xyxy", "matrix", "output")] == [""] * 4


def test_the_exit_code_is_1_where_an_input_gave_no_crop(src, dst):
    write(src / "a.png")
    write(src / "b.png", FLAT)
    done = run(src, dst)
    assert done.exit_code == 1
    assert "1 crops of 1 inputs; without a crop: 1 no_face" in done.stderr


def test_the_table_holds_box_and_matrix_of_the_crop(src, dst):
    write(src / "a.png")
    run(src, dst)
    (row,) = rows(dst)
    left, top, right, bottom = json.loads(row["box_xyxy"])
    matrix = np.array(json.loads(row["matrix"]))
    x, y = matrix @ ((left + right) / 2, (top + bottom) / 2, 1)
    assert (row["face"], row["output"]) == ("0", "a.png")
    assert abs(x - 128) < 40
    assert abs(y - 128) < 40


@pytest.mark.parametrize("size", [64, 256])
def test_the_crops_have_the_size_asked_for(src, dst, size):
    run(write(src / "a.png"), dst, "--size", size)
    assert PillowImage.open(dst / "a.png").size == (size, size)


def test_a_larger_scale_shows_more(src, dst):
    path = write(src / "a.png")
    run(path, dst / "one", "--scale", 1.3)
    run(path, dst / "two", "--scale", 2.6)
    zoom = [np.array(json.loads(rows(dst / each)[0]["matrix"]))[0, 0] for each in ("one", "two")]
    assert zoom[0] / zoom[1] == pytest.approx(2, rel=1e-5)


def two_faces() -> np.ndarray:
    small = PillowImage.fromarray(FACE).resize((110, 110))
    canvas = np.zeros((220, 330, 3), np.uint8)
    canvas[:, :220], canvas[:110, 220:] = FACE, np.asarray(small)
    return canvas


def test_by_default_the_largest_face_is_cut_out(src, dst):
    run(write(src / "a.png", two_faces()), dst)
    assert crops(dst) == ["a.png"]


def test_all_faces_are_cut_out_on_request(src, dst):
    run(write(src / "a.png", two_faces()), dst, "--faces", "all")
    assert crops(dst) == ["a.face1.png", "a.png"]
    assert [row["face"] for row in rows(dst)] == ["0", "1"]


def test_a_face_that_cannot_be_aligned_has_a_row(src, dst, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise FaceError("in one place")

    write(src / "a.png")
    monkeypatch.setattr("unmask.faces.align.crop_face", fail)
    assert run(src, dst).exit_code == 1
    (row,) = rows(dst)
    assert (row["status"], row["reason"]) == ("low_quality", "no_alignment: in one place")


def test_a_folder_that_is_not_empty_is_refused(src, dst):
    write(src / "a.png")
    write(dst / "other.png")
    done = run(src, dst)
    assert isinstance(done.exception, OutputError)
    assert "is not empty" in str(done.exception)


def test_overwrite_writes_into_it(src, dst):
    write(src / "a.png")
    write(dst / "a.png", FLAT)
    write(dst / "other.png", FLAT)
    assert run(src, dst, "--overwrite").exit_code == 0
    assert PillowImage.open(dst / "a.png").size == (256, 256)
    assert PillowImage.open(dst / "other.png").size == (50, 40)


def test_crops_within_the_source_are_refused(src):
    write(src / "a.png")
    done = run(src, src / "crops")
    assert isinstance(done.exception, ConfigError)
    assert not (src / "crops").exists()


def test_a_destination_that_is_a_file_is_refused(src, dst):
    write(src / "a.png")
    dst.write_bytes(b"")
    done = run(src, dst)
    assert isinstance(done.exception, OutputError)
    assert "cannot be written" in str(done.exception)


def test_a_crop_that_cannot_be_written_is_an_error(src, dst):
    write(src / "a" / "b.png")
    dst.mkdir()
    (dst / "a").write_bytes(b"a file where a folder is needed")
    done = run(src, dst, "--overwrite")
    assert isinstance(done.exception, OutputError)


def test_a_missing_source_writes_nothing(src, dst):
    assert isinstance(run(src, dst).exception, MissingSource)
    assert not dst.exists()


@pytest.mark.parametrize("options", [("--finder", "yunett"), ("--scale", "0")])
def test_impossible_options_write_nothing(src, dst, options):
    write(src / "a.png")
    assert isinstance(run(src, dst, *options).exception, ConfigError)
    assert not dst.exists()


def test_an_interrupted_run_keeps_what_it_has(src, dst, monkeypatch):
    write(src / "a.png")
    write(src / "b.png")
    first = iter([True, False])

    def one_frame(path: Path) -> object:
        if not next(first):
            raise KeyboardInterrupt
        return read_frame(path)

    from unmask.images import read_frame

    monkeypatch.setattr("unmask.images.read_frame", one_frame)
    assert run(src, dst).exit_code == 130
    assert [row["output"] for row in rows(dst)] == ["a.png"]


def test_a_name_that_is_no_text_is_spelt_out(src, dst):
    path = write(src / "x" / "a.png")
    path.parent.rename(src / os.fsdecode(b"\xff"))
    assert run(src, dst).exit_code == 0
    assert rows(dst)[0]["output"] == r"\udcff/a.png"


def test_as_a_process_it_says_what_is_wrong_with_exit_code_2(dst):
    command = [sys.executable, "-m", "unmask", "align", "missing.png", str(dst)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("unmask: missing.png: no such file")


def test_the_crop_is_the_face_upright(src, dst):
    turned = np.ascontiguousarray(np.rot90(data.astronaut()[20:240, 115:335], 1))
    half = PillowImage.fromarray(turned).rotate(-60, expand=True)
    run(write(src / "a.png", np.asarray(half)), dst)
    from unmask.faces.yunet import YuNet

    face = YuNet().find(np.asarray(PillowImage.open(dst / "a.png")))[0]
    assert np.abs(face.landmarks - template(256)).max() < 20
