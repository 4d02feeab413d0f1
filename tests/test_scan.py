import csv
import errno
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from running import Cli, environment, process
from tiny_detectors import noise_image, write_picture, write_pictures
from unmask.cli import main
from unmask.cli.outputs import locked
from unmask.ledger import ledger_path
from unmask.models.detector import Detector
from unmask.report import FORMATS, from_json
from unmask.types import Image, Result

SUFFIXES = (".jsonl", ".csv", ".json", ".txt", ".html")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Five pictures."""
    return write_pictures(tmp_path / "in", [f"{name}.png" for name in "abcde"])


@pytest.fixture
def scan(cli: Cli, image_folder: Path) -> Cli:
    """``unmask scan`` with the tiny detector of whole pictures."""
    return lambda *arguments: cli("scan", "-d", image_folder, "--device", "cpu", *arguments)


def results(path: Path) -> list[Result]:
    return [from_json(line) for line in path.read_text(encoding="utf-8").splitlines()]


def names(path: Path) -> list[str]:
    return [Path(result.source).name for result in results(path)]


# What is printed, and exit codes


def test_all_scored_is_exit_code_0(scan, folder):
    assert scan(folder).code == 0


def test_a_table_is_printed_where_no_output_is_named(scan, folder):
    lines = scan(folder).out.splitlines()
    assert lines[0].split() == ["verdict", "P(fake)", "faces", "status", "source"]
    assert [name in line for name, line in zip("abcde", lines[1:], strict=True)] == [True] * 5


def test_stderr_holds_the_sum_and_nothing_else(scan, folder):
    lines = scan(folder, "--threshold", "0").err.splitlines()
    assert lines == ["5 scored: 5 fake, 0 real, 0 inconclusive"]


def test_a_damaged_file_is_exit_code_1_and_counted(scan, folder):
    (folder / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    outcome = scan(folder)
    assert outcome.code == 1
    assert "4 scored" in outcome.err
    assert "not scored: 1 unreadable" in outcome.err
    assert len(outcome.out.splitlines()) == 6


def test_a_damaged_file_in_the_middle_changes_nothing_for_the_others(scan, folder, tmp_path):
    scan(folder, "-o", tmp_path / "whole.jsonl", "--batch-size", 2)
    (folder / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    scan(folder, "-o", tmp_path / "damaged.jsonl", "--batch-size", 2)
    whole, damaged = results(tmp_path / "whole.jsonl"), results(tmp_path / "damaged.jsonl")
    assert [each.status for each in damaged] == ["ok", "ok", "unreadable", "ok", "ok"]
    for one, other in zip(whole, damaged, strict=True):
        assert one.source == other.source
        assert other.logit is None or one.logit == pytest.approx(other.logit, abs=1e-5)


def test_json_lines_on_stdout_are_results_and_nothing_else(scan, folder):
    outcome = scan(folder, "--json")
    assert [Path(from_json(line).source).name for line in outcome.out.splitlines()] == [
        "a.png", "b.png", "c.png", "d.png", "e.png",
    ]  # fmt: skip


def test_with_an_output_nothing_is_printed_but_where_it_is(scan, folder, tmp_path):
    outcome = scan(folder, "-o", tmp_path / "out.csv")
    assert outcome.out == ""
    assert outcome.err.splitlines()[1:] == [f"wrote {tmp_path / 'out.csv'}"]


def test_a_table_can_be_had_beside_an_output(scan, folder, tmp_path):
    assert len(scan(folder, "-o", tmp_path / "out.csv", "--table").out.splitlines()) == 6


def test_the_same_scan_writes_every_format(scan, folder, tmp_path):
    outputs = [tmp_path / f"out{suffix}" for suffix in SUFFIXES]
    assert scan(folder, *(part for path in outputs for part in ("-o", path))).code == 0
    assert names(outputs[0]) == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    assert len(list(csv.DictReader(outputs[1].open(encoding="utf-8")))) == 5
    assert len(json.loads(outputs[2].read_text(encoding="utf-8"))["results"]) == 5
    for path in outputs[3:]:
        assert "e.png" in path.read_text(encoding="utf-8")


# Wrong use: exit code 2, a sentence, nothing written


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gone.png"], "no such file"),
        (["in", "-d", "no_such_detector"], "no detector 'no_such_detector'"),
        (["in", "-o", "out.xlsx"], "no output format"),
        (["in", "-o", "in/a.png/out.csv"], "cannot be made"),
        (["in", "-o", "folder.csv"], "is a folder"),
        (["in", "-o", "out.csv", "-o", "out.csv"], "given twice"),
        (["in", "--resume"], "--resume needs the output"),
        (["in", "-o", "out.csv", "--resume", "--overwrite"], "contradict"),
        (["in", "-o", "old.csv"], "old.csv exists"),
        (["in", "-o", "old.csv", "--resume"], "has no ledger"),
        (["in", "--threshold", "fpr7"], "no operating point 'fpr7'"),
        (["in", "--threshold", "7"], "no probability"),
        (["in", "--operating-point", "fpr7"], "no operating point 'fpr7'"),
        (["in", "--operating-point", "fpr5", "--threshold", "0.5"], "contradict each other"),
        (["in", "--batch-size", "0"], "batch_size is 0"),
        (["in", "--faces", "all", "--finder", "nobody"], "no face finder 'nobody'"),
        (["in", "--device", "abacus"], "abacus"),
        (["gone.png", "-o", "old.csv", "--overwrite"], "no such file"),
        (["in", "-o", "old.csv", "-o", "out.xlsx", "--overwrite"], "no output format"),
        (["in", "-d", "no_such_detector", "-o", "old.csv", "--overwrite"], "no detector"),
        (["old.csv", "-o", "old.csv", "--overwrite"], "would replace the input"),
        (["in", "in/../old.csv", "-o", "old.csv", "--overwrite"], "would replace the input"),
        (["hard.csv", "-o", "old.csv", "--overwrite"], "would replace the input"),
        (["in", "-o", "out.csv", "-o", "in/../out.csv"], "given twice"),
        (["in", "-o", "out.csv", "-o", "old.csv", "--resume"], "has no ledger"),
        (["in", "--max-pixels", "0"], "max_pixels is 0"),
        (["in", "--batch-size", "4097"], "1 to 4096"),
        (["in", "--min-face-px", "nan"], "min_face_px is nan"),
        (["in", "--json", "--table"], "--json and --table"),
        (["in", "--faces", "none", "--finder", "yunet"], "no --finder to choose"),
        ([""], "empty name"),
        (["-", "-"], "given twice"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_wrong_use_is_exit_code_2_and_writes_nothing(
    scan, folder, tmp_path, monkeypatch, arguments, sentence
):
    monkeypatch.chdir(tmp_path)
    Path("old.csv").write_text("precious", encoding="utf-8")
    Path("hard.csv").hardlink_to("old.csv")
    Path("folder.csv").mkdir()
    before = sorted(tmp_path.rglob("*"))
    outcome = scan(*arguments)
    assert outcome.code == 2
    assert outcome.err.startswith("unmask: ")
    assert sentence in outcome.err
    assert outcome.out == ""
    assert Path("old.csv").read_text(encoding="utf-8") == "precious"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("arguments", [[], ["x", "--faces", "some"], ["x", "--no-such-option"]])
def test_what_the_parser_refuses_is_exit_code_2(scan, arguments):
    assert scan(*arguments).code == 2


def test_an_untrained_head_is_refused_with_what_to_do(cli, untrained_folder, folder):
    outcome = cli("scan", "-d", untrained_folder, folder)
    assert outcome.code == 2
    assert "unmask train" in outcome.err
    assert "--allow-untrained" in outcome.err


def test_an_untrained_head_that_is_allowed_is_stamped_on_each_result(cli, untrained_folder, folder):
    outcome = cli("scan", "-d", untrained_folder, folder, "--allow-untrained", "--json")
    found = [from_json(line) for line in outcome.out.splitlines()]
    assert len(found) == 5
    for result in found:
        assert "untrained_head" in [reason.code for reason in result.reasons]
        assert result.verdict == "inconclusive"
        assert result.detector.trained is False


# Options


def test_options_reach_the_pipeline(cli, face_folder, two_faces):
    outcome = cli("scan", "-d", face_folder, two_faces, "--json", "--max-faces", 1,
                  "--threshold", "fpr1", "--faces", "all")  # fmt: skip
    result = from_json(outcome.out)
    assert [face.logit is None for face in result.faces] == [False, True]
    assert result.operating_point.name == "fpr1"


@pytest.mark.parametrize("option", ["--threshold", "--operating-point"])
def test_an_operating_point_is_chosen_by_name_as_in_an_evaluation(scan, folder, option):
    result = from_json(scan(folder / "a.png", "--json", option, "fpr1").out)
    assert result.operating_point.name == "fpr1"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--min-face-px", "1000"], "low_quality"),
        (["--max-pixels", "100"], "unsupported"),
        (["--max-bytes", "100"], "unsupported"),
        (["--faces", "largest"], "ok"),
    ],
)
def test_limits_reach_the_pipeline(cli, face_folder, portrait, arguments, status):
    outcome = cli("scan", "-d", face_folder, portrait, "--json", *arguments)
    assert from_json(outcome.out).status == status
    assert outcome.code == (0 if status == "ok" else 1)


def test_sub_folders_can_be_left_out(scan, folder):
    write_pictures(folder / "deeper", ["z.png"])
    assert len(scan(folder, "--json").out.splitlines()) == 6
    assert len(scan(folder, "--json", "--no-recursive").out.splitlines()) == 5


def test_labels_of_folders_are_in_the_results(scan, tmp_path):
    write_pictures(tmp_path / "set" / "real", ["a.png"])
    write_pictures(tmp_path / "set" / "fake", ["a.png"], first_seed=5)
    found = [from_json(line) for line in scan(tmp_path / "set", "--json").out.splitlines()]
    assert [result.label for result in found] == [1, 0]


# Standard input


def given(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def test_a_list_on_standard_input_is_scanned_in_its_order(scan, folder, monkeypatch):
    given(monkeypatch, f"{folder}/d.png\n{folder}/gone.png\n{folder}/a.png\n".encode())
    outcome = scan("-", "--json")
    found = [from_json(line) for line in outcome.out.splitlines()]
    assert [(Path(each.source).name, each.status) for each in found] == [
        ("d.png", "ok"), ("gone.png", "unreadable"), ("a.png", "ok"),
    ]  # fmt: skip
    assert outcome.code == 1


def test_names_on_standard_input_need_not_be_utf8(scan, tmp_path, monkeypatch):
    path = os.fsencode(tmp_path) + b"/\xff.png"
    write_picture(tmp_path / "a.png", noise_image(0)).rename(os.fsdecode(path))
    given(monkeypatch, path + b"\n")
    outcome = scan("-", "--json")
    assert from_json(outcome.out).status == "ok"


def test_a_closed_standard_input_is_an_error_only_where_it_is_read(scan, folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert scan(folder).code == 0
    outcome = scan("-")
    assert (outcome.code, "closed" in outcome.err) == (2, True)


# Names


def test_no_file_name_breaks_a_scan(scan, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    data = write_picture(tmp_path / "a.png", noise_image(0)).read_bytes()
    odd = [b"\xff.png", b"two\nlines.png", b'"quoted",.png', b"<b>.png", b"\x1b[2J.png"]
    for name in odd:
        (folder / os.fsdecode(name)).write_bytes(data)
    (folder / os.fsdecode(b"damaged\xff.png")).write_bytes(b"GIF89a")
    outputs = [tmp_path / f"out{suffix}" for suffix in SUFFIXES]
    outcome = scan(folder, "--table", *(part for path in outputs for part in ("-o", path)))
    assert outcome.code == 1
    assert len(outcome.out.splitlines()) == 7
    assert "\\udcff.png" in outcome.out
    assert len(results(outputs[0])) == 6
    again = scan(folder, "-o", outputs[0], "--resume")
    assert again.code == 1
    assert len(results(outputs[0])) == 6


# Resume and overwrite


def test_an_existing_output_is_not_touched(scan, folder, tmp_path):
    output = tmp_path / "out.jsonl"
    scan(folder, "-o", output)
    before = output.read_bytes()
    write_pictures(folder, ["f.png"], first_seed=9)
    outcome = scan(folder, "-o", output)
    assert outcome.code == 2
    assert "--resume" in outcome.err
    assert "--overwrite" in outcome.err
    assert output.read_bytes() == before


def test_a_ledger_alone_is_not_overwritten_either(scan, folder, tmp_path):
    output = tmp_path / "out.jsonl"
    scan(folder, "-o", output)
    output.unlink()
    assert scan(folder, "-o", output).code == 2
    assert scan(folder, "-o", output, "--resume").code == 0
    assert len(results(output)) == 5


def test_resume_scores_only_what_is_new(scan, folder, tmp_path, crops):
    output = tmp_path / "out.jsonl"
    scan(folder, "-o", output)
    write_pictures(folder, ["aa.png"], first_seed=9)
    (folder / "copy.png").write_bytes((folder / "a.png").read_bytes())
    crops.clear()
    assert scan(folder, "-o", output, "--resume").code == 0
    assert sum(crops) == 1
    assert names(output) == ["a.png", "aa.png", "b.png", "c.png", "copy.png", "d.png", "e.png"]


def test_resume_without_anything_to_go_on_with_begins(scan, folder, tmp_path):
    assert scan(folder, "-o", tmp_path / "out.jsonl", "--resume").code == 0
    assert len(results(tmp_path / "out.jsonl")) == 5


def test_resume_with_other_settings_is_refused(scan, folder, tmp_path):
    output = tmp_path / "out.jsonl"
    scan(folder, "-o", output)
    before = output.read_bytes()
    outcome = scan(folder, "-o", output, "--resume", "--threshold", "0.9")
    assert outcome.code == 2
    assert "operating_point" in outcome.err
    assert output.read_bytes() == before


def test_resume_may_use_other_workers_and_batches(scan, folder, tmp_path, crops):
    output = tmp_path / "out.jsonl"
    scan(folder, "-o", output)
    crops.clear()
    assert scan(folder, "-o", output, "--resume", "--batch-size", 1, "--workers", 3).code == 0
    assert crops == []


def test_a_changed_file_is_scored_again(scan, folder, tmp_path, crops):
    output = tmp_path / "out.jsonl"
    scan(folder, "-o", output)
    write_picture(folder / "c.png", noise_image(77))
    crops.clear()
    scan(folder, "-o", output, "--resume")
    assert crops == [1]


def test_overwrite_starts_over(scan, folder, tmp_path, crops):
    output = tmp_path / "out.jsonl"
    scan(folder, "-o", output)
    crops.clear()
    assert scan(folder, "-o", output, "--overwrite").code == 0
    assert sum(crops) == 5
    assert len(results(output)) == 5


def test_the_same_bytes_under_two_names_are_scored_once(scan, folder, tmp_path, crops):
    for name in ("a2.png", "z.png"):
        (folder / name).write_bytes((folder / "a.png").read_bytes())
    scan(folder, "-o", tmp_path / "out.jsonl", "--batch-size", 1)
    assert sum(crops) == 5
    found = results(tmp_path / "out.jsonl")
    assert len(found) == 7
    assert len({each.logit for each in found if each.sha256 == found[0].sha256}) == 1


def test_resume_does_not_replace_what_no_scan_wrote(scan, folder, tmp_path):
    output, other = tmp_path / "out.jsonl", tmp_path / "other.csv"
    scan(folder, "-o", output)
    other.write_text("precious", encoding="utf-8")
    outcome = scan(folder, "-o", output, "-o", other, "--resume")
    assert (outcome.code, "was not written by the scan" in outcome.err) == (2, True)
    assert other.read_text(encoding="utf-8") == "precious"
    other.unlink()
    for _ in range(2):  # the second time it is known
        assert scan(folder, "-o", output, "-o", other, "--resume").code == 0


def test_two_scans_do_not_write_one_output_at_once(scan, folder, tmp_path):
    output = tmp_path / "out.csv"
    with locked([output]):
        outcome = scan(folder, "-o", output)
    assert (outcome.code, "in use by another scan" in outcome.err) == (2, True)
    assert not output.exists()
    assert scan(folder, "-o", output).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "in", "out.csv", "out.csv.ledger.sqlite",
    ]  # fmt: skip


def test_a_bad_row_ends_a_scan_after_what_stands_before_it(scan, folder, tmp_path):
    rows = [f"in/{name}.png,real" for name in "abc"]
    manifest, output = tmp_path / "list.csv", tmp_path / "out.jsonl"
    manifest.write_text("\n".join(["path,label", *rows, "in/d.png,maybe"]), encoding="utf-8")
    outcome = scan(manifest, "-o", output)
    assert outcome.code == 2
    assert "line 5" in outcome.err
    assert "The 3 results before it are kept" in outcome.err
    assert names(output) == ["a.png", "b.png", "c.png"]
    manifest.write_text("\n".join(["path,label", *rows, "in/d.png,fake"]), encoding="utf-8")
    assert scan(manifest, "-o", output, "--resume").code == 0


def test_an_empty_list_leaves_nothing_and_removes_nothing(scan, folder, tmp_path, monkeypatch):
    given(monkeypatch, b"")
    assert scan("-", "-o", tmp_path / "out.csv").code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    scan(folder, "-o", tmp_path / "out.csv")
    given(monkeypatch, b"")
    assert scan("-", "-o", tmp_path / "out.csv", "--overwrite").code == 2
    assert (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("name", [b"a\0b.png", b"\xed\xa0\x80.png"])
def test_a_listed_name_that_no_file_can_have_is_a_result(scan, tmp_path, monkeypatch, name):
    given(monkeypatch, name + b"\n")
    outcome = scan("-", "-o", tmp_path / "out.jsonl")
    assert outcome.code == 1
    assert [each.status for each in results(tmp_path / "out.jsonl")] == ["unreadable"]


@pytest.mark.parametrize("suffix", [".json", ".txt", ".html", ".csv"])
def test_a_disk_that_is_full_at_the_end_is_a_sentence(scan, folder, tmp_path, monkeypatch, suffix):
    kind = FORMATS[suffix]

    def full(_self: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(kind, "close", full)
    outcome = scan(folder, "-o", tmp_path / f"out{suffix}")
    assert outcome.code == 2
    assert "--resume goes on" in outcome.err


# Streams


def test_a_full_standard_output_is_one_sentence(image_folder, folder):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "unmask", "scan", str(folder), "-d", str(image_folder)],
            env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "standard output cannot be written" in done.stderr


def test_a_closed_standard_error_changes_no_exit_code(scan, folder, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert scan(folder).code == 0
    monkeypatch.setattr(sys, "stderr", None)
    assert scan("gone.png").code == 2


def test_a_reader_that_goes_away_does_not_stop_what_is_written(scan, folder, tmp_path, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Closed())
    assert scan(folder, "--table", "-o", tmp_path / "out.jsonl").code == 0
    assert len(results(tmp_path / "out.jsonl")) == 5


# Interrupted


def test_a_request_to_end_is_an_interruption(scan, folder, tmp_path, monkeypatch):
    calls = iter(range(10))
    logits = Detector.logits

    def ended(self: Detector, images: Image) -> np.ndarray:
        if next(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        return logits(self, images)

    monkeypatch.setattr(Detector, "logits", ended)
    before = signal.getsignal(signal.SIGTERM)
    outcome = scan(folder, "-o", tmp_path / "out.jsonl", "--batch-size", 2)
    assert outcome.code == 130
    assert names(tmp_path / "out.jsonl") == ["a.png", "b.png", "c.png", "d.png"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_interruption_does_not_lose_the_message(scan, folder, tmp_path, monkeypatch):
    interrupt_at(monkeypatch, 2)

    def again(_self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FORMATS[".json"], "close", again)
    outcome = scan(folder, "-o", tmp_path / "out.json", "--batch-size", 2)
    assert outcome.code == 130
    assert "wrote" not in outcome.err
    assert outcome.err.endswith("interrupted; the same command with --resume goes on\n")


def test_an_interruption_before_the_scan_is_one_word(scan, folder, monkeypatch):
    def stopped(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("unmask.models.detector.load", stopped)
    outcome = scan(folder)
    assert (outcome.code, outcome.err) == (130, "interrupted\n")


def test_an_interruption_while_the_package_is_imported_is_one_word(tmp_path):
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from unmask.__main__ import main\n"
        "main()"
    )
    done = process("-c", code)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def interrupt_at(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    calls = 0
    logits = Detector.logits

    def stopping(self: Detector, images: Image) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return logits(self, images)

    monkeypatch.setattr(Detector, "logits", stopping)


def test_an_interrupted_scan_writes_what_it_has(scan, folder, tmp_path, monkeypatch):
    outputs = [tmp_path / f"out{suffix}" for suffix in SUFFIXES]
    interrupt_at(monkeypatch, 3)
    outcome = scan(folder, "--batch-size", 2, *(part for path in outputs for part in ("-o", path)))
    assert outcome.code == 130
    assert "4 scored" in outcome.err
    assert outcome.err.endswith("interrupted; the same command with --resume goes on\n")
    assert names(outputs[0]) == ["a.png", "b.png", "c.png", "d.png"]
    for path in outputs:
        assert "d.png" in path.read_text(encoding="utf-8")


def test_an_interrupted_scan_without_output_promises_nothing(scan, folder, monkeypatch):
    interrupt_at(monkeypatch, 1)
    outcome = scan(folder)
    assert outcome.code == 130
    assert outcome.err.endswith("interrupted\n")


def test_a_resumed_scan_equals_an_uninterrupted_one(scan, folder, tmp_path, monkeypatch):
    scan(folder, "-o", tmp_path / "whole.jsonl", "--batch-size", 2)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        assert scan(folder, "-o", tmp_path / "parts.jsonl", "--batch-size", 2).code == 130
    assert scan(folder, "-o", tmp_path / "parts.jsonl", "--batch-size", 2, "--resume").code == 0
    whole, parts = results(tmp_path / "whole.jsonl"), results(tmp_path / "parts.jsonl")
    assert [(each.source, each.logit, each.verdict) for each in whole] == [
        (each.source, each.logit, each.verdict) for each in parts
    ]


# Processes

COUNT = 60
BATCH = 4
DRIVER = """
import sys, time
from unmask.models.detector import Detector
logits = Detector.logits
log = open(sys.argv.pop(1), "a")
def slow(self, images):
    print(len(images), file=log, flush=True)
    time.sleep(0.05)
    return logits(self, images)
Detector.logits = slow
from unmask.cli import main
main()
"""


@dataclass(frozen=True)
class Stopped:
    """What a scan left that was stopped in the middle, and the command that goes on with it."""

    output: Path
    code: int
    err: str
    passed: int
    """Crops that went through the tower, or were about to."""
    remembered: int
    command: tuple[object, ...]


def stop(root: Path, detector: Path, by: signal.Signals) -> Stopped:
    """Begins a scan of 60 pictures and stops it by a signal after at least 10."""
    write_pictures(root / "in", [f"{number:02}.png" for number in range(COUNT)])
    output, log, driver = root / "out.jsonl", root / "log", root / "driver.py"
    driver.write_text(DRIVER, encoding="utf-8")
    command = ("scan", root / "in", "-d", detector, "-o", output, "--batch-size", BATCH,
               "--device", "cpu")  # fmt: skip
    scan = subprocess.Popen(
        [sys.executable, str(driver), str(log), *map(str, command)],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not output.exists() or output.read_bytes().count(b"\n") < 10:
        assert scan.poll() is None, scan.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    scan.send_signal(by)
    err = scan.communicate(timeout=60)[1]
    passed = sum(map(int, log.read_text(encoding="utf-8").split()))
    with sqlite3.connect(ledger_path(output)) as db:
        (remembered,) = db.execute("SELECT count(*) FROM results").fetchone()
    return Stopped(output, scan.returncode, err, passed, remembered, command)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, image_folder) -> dict[signal.Signals, Stopped]:
    """One scan that was killed and one that was interrupted, at the same time."""
    signals = (signal.SIGKILL, signal.SIGINT)
    roots = [tmp_path_factory.mktemp(each.name) for each in signals]
    with ThreadPoolExecutor() as pool:
        done = pool.map(stop, roots, [image_folder] * 2, signals)
        return dict(zip(signals, done, strict=True))


@pytest.fixture(scope="module")
def killed(stopped) -> Stopped:
    return stopped[signal.SIGKILL]


@pytest.fixture(scope="module")
def interrupted(stopped) -> Stopped:
    return stopped[signal.SIGINT]


def test_a_killed_scan_loses_at_most_the_batch_in_flight(killed):
    assert killed.code == -signal.SIGKILL
    assert 10 <= killed.remembered < COUNT
    assert killed.passed - killed.remembered <= BATCH


def test_a_killed_scan_goes_on_and_scores_nothing_twice(killed, cli, crops):
    assert cli(*killed.command, "--resume").code == 0
    assert sum(crops) == COUNT - killed.remembered
    assert names(killed.output) == [f"{number:02}.png" for number in range(COUNT)]


def test_an_interrupted_process_keeps_what_it_has(interrupted):
    assert interrupted.code == 130
    assert interrupted.err.endswith("interrupted; the same command with --resume goes on\n")
    found = names(interrupted.output)
    assert 10 <= len(found) < COUNT
    # A result is in the ledger before it is written, and a signal may arrive between the two.
    assert interrupted.remembered - len(found) in (0, 1)
    assert interrupted.passed - len(found) <= BATCH


def test_an_interrupted_process_goes_on(interrupted, cli, crops):
    assert cli(*interrupted.command, "--resume").code == 0
    assert sum(crops) == COUNT - interrupted.remembered
    assert len(results(interrupted.output)) == COUNT


def test_a_process_writes_results_on_stdout_and_one_line_on_stderr(folder, face_folder, portrait):
    (folder / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "f.png").write_bytes(portrait.read_bytes())
    done = process("-m", "unmask", "scan", folder, "-d", face_folder, "--json")
    assert done.returncode == 1
    statuses = [from_json(line).status for line in done.stdout.splitlines()]
    assert statuses == ["no_face", "no_face", "unreadable", "no_face", "no_face", "ok"]
    (line,) = done.stderr.splitlines()
    assert line.endswith("not scored: 4 no_face, 1 unreadable")


def test_a_reader_that_goes_away_is_no_crash(image_folder, folder, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "argv", ["unmask", "scan", str(folder), "-d", str(image_folder)])
    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
