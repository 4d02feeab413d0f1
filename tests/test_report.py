import csv
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tiny_results import ALL, DAMAGED, FAKE, HOSTILE_NAMES, NO_FACE, OPEN, REAL, named
from unmask.errors import OutputError
from unmask.files import one_line, replacing, valid_text
from unmask.report import (
    FORMATS,
    check_format,
    from_json,
    make_folder,
    open_writer,
    summary,
    table_row,
    to_json,
)
from unmask.types import Reason, Result


def written(path: Path, results: Sequence[Result]) -> str:
    writer = open_writer(path)
    for result in results:
        writer.write(result)
    writer.close()
    return path.read_text(encoding="utf-8")


# JSON


@pytest.mark.parametrize("result", ALL, ids=lambda result: result.source)
def test_json_gives_back_the_same_result(result):
    line = to_json(result)
    assert "\n" not in line
    assert from_json(line) == result


def test_json_holds_the_fields_of_the_contract():
    document = json.loads(to_json(FAKE))
    assert list(document) == [
        "source", "sha256", "kind", "status", "label", "logit", "p_fake", "verdict", "reasons",
        "faces", "frames", "detector", "preprocessing", "operating_point", "elapsed_ms",
        "versions", "schema_version",
    ]  # fmt: skip
    assert document["faces"][0]["box_xyxy"] == [10.0, 12.0, 40.0, 44.0]
    assert document["frames"] == {"sampled": 1, "scored": 1}


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_json_of_any_name_is_one_line_that_can_be_read(name):
    line = to_json(named(name))
    assert len(line.splitlines()) == 1
    assert json.loads(line)["source"] == valid_text(name)
    assert from_json(line).source == valid_text(name)


def test_a_detector_folder_may_have_any_name():
    odd = replace(FAKE, detector=replace(FAKE.detector, id=os.fsdecode(b"\xff")))
    assert from_json(to_json(odd)).detector.id == "\\udcff"


# Names


def test_valid_text_spells_out_broken_bytes_and_nothing_else():
    assert valid_text(os.fsdecode(b"a\xff\xfe.png")) == "a\\udcff\\udcfe.png"
    assert valid_text("ü\n文🙂") == "ü\n文🙂"


def test_one_line_spells_out_control_characters_and_nothing_else():
    assert one_line("a\n\x1b[2J\u2028\udcff") == "a\\n\\x1b[2J\\u2028\\udcff"
    assert one_line("ü 文🙂\\n") == "ü 文🙂\\n"


# Formats


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_input_has_its_entry(tmp_path, suffix):
    text = written(tmp_path / f"out{suffix}", ALL)
    for result in ALL:
        assert Path(result.source).name in text


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_results_make_a_file_all_the_same(tmp_path, suffix):
    written(tmp_path / f"out{suffix}", [])
    assert (tmp_path / f"out{suffix}").exists()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_no_name_breaks_a_format(tmp_path, suffix, name):
    assert written(tmp_path / f"out{suffix}", [named(name), FAKE])


@pytest.mark.parametrize("suffix", FORMATS)
def test_nothing_else_is_left_in_the_folder(tmp_path, suffix):
    written(tmp_path / f"out{suffix}", ALL)
    assert [each.name for each in tmp_path.iterdir()] == [f"out{suffix}"]


def test_jsonl_is_one_result_per_line(tmp_path):
    text = written(tmp_path / "out.jsonl", ALL)
    assert [from_json(line) for line in text.splitlines()] == list(ALL)


def test_json_is_one_document_with_a_summary(tmp_path):
    document = json.loads(written(tmp_path / "out.json", ALL))
    assert document["summary"]["status"] == {"ok": 3, "no_face": 1, "unreadable": 1}
    assert [each["source"] for each in document["results"]] == [each.source for each in ALL]
    assert from_json(json.dumps(document["results"][2])) == FAKE


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_lines_are_on_disk_as_they_come(tmp_path, suffix):
    writer = open_writer(tmp_path / f"out{suffix}")
    writer.write(FAKE)
    assert FAKE.source in (tmp_path / f"out{suffix}").read_text(encoding="utf-8")
    writer.close()


@pytest.mark.parametrize("suffix", [".json", ".txt", ".html"])
def test_a_document_takes_the_place_of_the_old_one_only_when_it_is_whole(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    path.write_text("old", encoding="utf-8")
    writer = open_writer(path)
    writer.write(FAKE)
    assert path.read_text(encoding="utf-8") == "old"
    writer.close()
    assert path.read_text(encoding="utf-8") != "old"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_tells_the_numbers(tmp_path):
    written(tmp_path / "out.csv", ALL)
    real, _, fake, no_face, damaged = rows(tmp_path / "out.csv")
    assert (fake["p_fake"], fake["logit"], fake["label"], fake["faces"]) == (
        "0.924142", "2.500000", "fake", "1",
    )  # fmt: skip
    assert (real["label"], real["verdict"]) == ("real", "real")
    assert (no_face["p_fake"], no_face["logit"], no_face["reasons"]) == ("", "", "no_face")
    assert (damaged["status"], damaged["sha256"]) == ("unreadable", "")
    assert fake["detector_sha256"] == FAKE.detector.sha256


def test_csv_joins_reasons(tmp_path):
    two = replace(OPEN, reasons=(Reason("a", "x"), Reason("b", "y")))
    written(tmp_path / "out.csv", [two])
    assert rows(tmp_path / "out.csv")[0]["reasons"] == "a;b"


def test_csv_gives_back_every_name(tmp_path):
    written(tmp_path / "out.csv", [named(name) for name in HOSTILE_NAMES])
    found = [row["source"] for row in rows(tmp_path / "out.csv")]
    assert found == [valid_text(name) for name in HOSTILE_NAMES]


def test_the_text_file_is_that_of_the_original_scripts(tmp_path):
    lines = written(tmp_path / "out.txt", ALL).splitlines()
    assert lines[0] == "Deepfake Detection Results"
    assert any("fake/a.png" in line and "True: FAKE" in line for line in lines)


@pytest.mark.parametrize("name", ["out", "out.xlsx", "out.jsnol"])
def test_an_unknown_suffix_offers_the_formats(tmp_path, name):
    with pytest.raises(OutputError, match=r"no output format.*json"):
        check_format(tmp_path / name)
    with pytest.raises(OutputError, match="no output format"):
        open_writer(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_the_suffix_may_be_in_capitals(tmp_path):
    assert written(tmp_path / "out.JSONL", [FAKE])


def test_folders_on_the_way_are_made(tmp_path):
    assert written(tmp_path / "a" / "b" / "out.csv", [FAKE])


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be made or written to"):
        make_folder(tmp_path / "file" / "folder")


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path, monkeypatch):
    def refuse(**_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("unmask.report.tempfile.TemporaryFile", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        make_folder(tmp_path)


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path):
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        open_writer(tmp_path / "out.csv")


def test_replacing_leaves_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")

    def fail() -> None:
        with replacing(path) as file:
            file.write("half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


# Summary and table


def test_the_summary_counts_verdicts_of_scored_inputs_only():
    assert summary(ALL) == {
        "status": {"ok": 3, "no_face": 1, "unreadable": 1},
        "verdict": {"real": 1, "inconclusive": 1, "fake": 1},
    }


def test_a_row_of_the_table_tells_verdict_and_score():
    assert table_row(FAKE).split() == ["fake", "0.924", "1", "ok", "in/fake/a.png"]
    assert table_row(REAL).split() == ["real", "0.076", "0", "ok", "in/real/b.png"]


def test_a_row_without_a_score_tells_why():
    assert table_row(NO_FACE).split() == ["-", "no_face", "in/d.png", "(no_face)"]
    assert table_row(DAMAGED).endswith("in/e.png  (damaged)")


def test_a_row_tells_each_reason_once():
    twice = replace(OPEN, reasons=(Reason("a", "x"), Reason("b", "y"), Reason("a", "z")))
    assert table_row(twice).endswith("(a, b)")


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_a_row_is_one_line_and_harmless_to_a_terminal(name):
    row = table_row(named(name))
    assert row.isprintable()
    assert row.encode()
