import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from tiny_detectors import sample, write_pictures
from unmask.errors import OutputError
from unmask.ledger import Ledger, ledger_files, ledger_path, recorded_outputs
from unmask.pipeline import Options, Pipeline
from unmask.sources import read_sources
from unmask.types import Result

SETTINGS = {"detector": "a", "options": {"faces": "all", "pair": (1, 2)}}


@pytest.fixture
def result(image_detector, tmp_path) -> Result:
    write_pictures(tmp_path, ["a.png"])
    (found,) = Pipeline(image_detector)([sample(tmp_path / "a.png")])
    return found


def test_a_result_is_recalled_as_it_was(tmp_path, result):
    with Ledger(tmp_path / "l.sqlite", SETTINGS) as ledger:
        ledger.add(sample(tmp_path / "a.png"), result)
        assert ledger.recall_path(sample(tmp_path / "a.png")) == result
        assert ledger.recall_bytes(result.sha256) == result
        assert len(ledger) == 1


def test_a_result_outlives_the_process_that_never_closed_the_file(tmp_path, result):
    open_still = Ledger(tmp_path / "l.sqlite", SETTINGS)
    open_still.add(sample(tmp_path / "a.png"), result)
    with Ledger(tmp_path / "l.sqlite", SETTINGS) as ledger:
        assert ledger.recall_path(sample(tmp_path / "a.png")) == result


def test_an_unknown_file_is_not_recalled(tmp_path):
    with Ledger(tmp_path / "l.sqlite", SETTINGS) as ledger:
        assert ledger.recall_path(sample(tmp_path / "a.png")) is None
        assert ledger.recall_bytes("0" * 64) is None


@pytest.mark.parametrize("change", ["size", "time", "gone"])
def test_a_changed_file_is_not_recalled_by_its_path(tmp_path, result, change):
    path = tmp_path / "a.png"
    with Ledger(tmp_path / "l.sqlite", SETTINGS) as ledger:
        ledger.add(sample(path), result)
        before = path.stat()
        if change == "size":
            path.write_bytes(path.read_bytes() + b"0")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        elif change == "time":
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        else:
            path.unlink()
        assert ledger.recall_path(sample(path)) is None


def test_a_file_that_could_not_be_read_is_tried_again(tmp_path, result):
    with Ledger(tmp_path / "l.sqlite", SETTINGS) as ledger:
        ledger.add(sample(tmp_path / "a.png"), replace(result, sha256=None, status="unreadable"))
        assert ledger.recall_path(sample(tmp_path / "a.png")) is None


def test_a_second_answer_replaces_the_first(tmp_path, result):
    with Ledger(tmp_path / "l.sqlite", SETTINGS) as ledger:
        ledger.add(sample(tmp_path / "a.png"), result)
        ledger.add(sample(tmp_path / "a.png"), replace(result, elapsed_ms=1.0))
        assert len(ledger) == 1
        assert ledger.recall_bytes(result.sha256).elapsed_ms == 1.0


def test_a_name_that_is_no_utf8_is_kept_and_recalled(tmp_path, result):
    path = tmp_path / os.fsdecode(b"\xff.png")
    path.write_bytes((tmp_path / "a.png").read_bytes())
    with Ledger(tmp_path / "l.sqlite", SETTINGS) as ledger:
        ledger.add(sample(path), replace(result, source=str(path)))
        assert ledger.recall_path(sample(path)).sha256 == result.sha256


def test_a_file_that_changes_after_it_was_read_is_not_recalled(tmp_path, result):
    given = sample(tmp_path / "a.png")
    with Ledger(tmp_path / "l.sqlite", SETTINGS) as ledger:
        assert ledger.recall_path(given) is None  # as before it is read
        (tmp_path / "a.png").write_bytes(b"something else")
        ledger.add(given, result)
        assert ledger.recall_path(given) is None


def test_a_relative_name_is_recalled_from_elsewhere(tmp_path, result, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Ledger(tmp_path / "l.sqlite", SETTINGS) as ledger:
        ledger.add(sample(Path("a.png")), result)
        (tmp_path / "sub").mkdir()
        monkeypatch.chdir(tmp_path / "sub")
        assert ledger.recall_path(sample(Path("a.png"))) is None
        assert ledger.recall_path(sample(tmp_path / "a.png")) == result


@pytest.mark.parametrize("name", ["a\0.png", "\ud800.png"])
def test_a_name_that_no_file_can_have_is_stored_and_never_recalled(tmp_path, result, name):
    with Ledger(tmp_path / "l.sqlite", SETTINGS) as ledger:
        ledger.add(sample(Path(name)), result)
        assert ledger.recall_path(sample(Path(name))) is None
        assert len(ledger) == 1


def test_outputs_are_recorded_as_seen_from_the_ledger(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    with Ledger(old / "l.sqlite", SETTINGS) as ledger:
        ledger.record_outputs([old / "a.csv", tmp_path / "b.csv"])
    old.rename(new)
    asked = [new / "a.csv", tmp_path / "b.csv", new / "c.csv"]
    assert recorded_outputs(new / "l.sqlite", asked) == set(asked[:2])


def test_outputs_are_not_looked_for_in_what_is_no_ledger(tmp_path):
    (tmp_path / "l.sqlite").write_text("not a database, but of some length" * 100)
    with pytest.raises(OutputError, match="cannot be used as the ledger"):
        recorded_outputs(tmp_path / "l.sqlite", [])


def test_a_full_disk_is_no_reason_to_delete_a_ledger(tmp_path, monkeypatch):
    def full(*_args: object, **_options: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr("unmask.ledger.sqlite3.connect", full)
    with pytest.raises(OutputError, match="make room") as caught:
        Ledger(tmp_path / "l.sqlite", SETTINGS)
    assert "delete" not in str(caught.value)


def test_the_same_settings_open_it_again(tmp_path):
    for _ in range(2):
        with Ledger(tmp_path / "l.sqlite", SETTINGS):
            pass


def test_other_settings_are_refused_and_named(tmp_path):
    with Ledger(tmp_path / "l.sqlite", SETTINGS):
        pass
    with pytest.raises(OutputError, match=r"detector: a then, b now.*--overwrite"):
        Ledger(tmp_path / "l.sqlite", SETTINGS | {"detector": "b"})


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "l.sqlite"
    path.write_text("not a database, but of some length" * 100, encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(OutputError, match="cannot be used as the ledger"):
        Ledger(path, SETTINGS)
    assert path.read_bytes() == before


def test_a_database_of_somebody_else_is_refused(tmp_path):
    path = tmp_path / "l.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE results (x)")
    with pytest.raises(OutputError, match="cannot be used as the ledger"):
        Ledger(path, SETTINGS)


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(OutputError, match="cannot be used as the ledger"):
        Ledger(tmp_path / "gone" / "l.sqlite", SETTINGS)


def test_the_ledger_stands_beside_the_output():
    assert ledger_path(Path("out/a.csv")) == Path("out/a.csv.ledger.sqlite")
    assert [each.name for each in ledger_files(Path("a.csv"))] == [
        "a.csv.ledger.sqlite", "a.csv.ledger.sqlite-wal", "a.csv.ledger.sqlite-shm",
    ]  # fmt: skip


def test_the_pipeline_never_scores_the_same_bytes_twice(image_detector, tmp_path, crops):
    folder = write_pictures(tmp_path / "in", ["a.png", "b.png", "c.png"])
    for name in ("a2.png", "b2.png", "z.png"):
        (folder / name).write_bytes((folder / f"{name[0]}.png".replace("z", "a")).read_bytes())
    pipeline = Pipeline(image_detector, Options(batch_size=1))
    with Ledger(tmp_path / "l.sqlite", pipeline.settings()) as ledger:
        for _ in range(2):
            samples = list(read_sources([folder]))
            results = pipeline(samples, memory=ledger)
            for each, result in zip(samples, results, strict=True):
                assert result.source == each.source
                ledger.add(each, result)
    assert sum(crops) == 3
