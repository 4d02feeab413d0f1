"""Detector folders that cannot be written, or were not written to their end."""

import errno
import signal
from pathlib import Path

import pytest
import typer
from safetensors import SafetensorError

from tiny_detectors import save_detector
from unmask.cli import _interruptible
from unmask.errors import OutputError, UnknownDetector
from unmask.models import checkpoint
from unmask.models.checkpoint import check_free, load_model, new_folder, save


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(save_detector(tmp_path_factory.mktemp("saved") / "d", domain="image"))


def test_the_configuration_is_written_last(model, tmp_path, monkeypatch):
    """What was cut short by a power failure does not load."""
    found = []
    write = checkpoint._write_json

    def watch(path, values):
        found.append((path.name, sorted(one.name for one in path.parent.iterdir())))
        write(path, values)

    monkeypatch.setattr(checkpoint, "_write_json", watch)
    folder = save(model, tmp_path / "d", card="", parity="{}")
    name, there = found[-1]
    assert name == "config.json"
    assert there == sorted({one.name for one in folder.iterdir()} - {"config.json"})


def test_nobody_else_can_read_it_until_it_is_complete(tmp_path):
    with new_folder(tmp_path / "d", overwrite=False) as temporary:
        assert temporary.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("No space left")]
)
def test_a_full_disk_is_an_error_of_the_output_and_leaves_nothing(error, tmp_path):
    with (
        pytest.raises(OutputError, match=r"d cannot be written: .*No space left"),
        new_folder(tmp_path / "d", overwrite=False),
    ):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_ours_stays_what_it_is(tmp_path):
    with (
        pytest.raises(UnknownDetector, match="other"),
        new_folder(tmp_path / "d", overwrite=False),
    ):
        raise UnknownDetector("other")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "d", overwrite=False):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_parent_is_an_error_of_the_output(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/d cannot be written"):
        save(model, tmp_path / "file" / "d", card="")


def test_a_name_that_is_too_long_is_an_error_of_the_output(model, tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        save(model, tmp_path / ("x" * 300), card="")
    assert list(tmp_path.iterdir()) == []


def test_a_long_name_is_as_good_as_a_short_one(model, tmp_path):
    folder = save(model, tmp_path / ("x" * 250), card="")
    assert [one.name for one in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_link_to_a_folder_is_followed(overwrite, model, tmp_path):
    there = tmp_path / "there"
    save(model, there, card="old") if overwrite else there.mkdir()
    link = tmp_path / "link"
    link.symlink_to(there)
    save(model, link, card="new", overwrite=overwrite)
    assert link.is_symlink()
    assert (there / "README.md").read_text() == "new"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link", "there"]


def test_a_link_to_nothing_is_refused(model, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(OutputError, match="is not a folder"):
        save(model, tmp_path / "link", card="")
    assert [one.name for one in tmp_path.iterdir()] == ["link"]


def test_a_place_that_cannot_be_looked_at_is_an_error_of_the_output(tmp_path):
    with pytest.raises(OutputError, match="name another folder"):
        check_free(tmp_path / ("x" * 300), overwrite=False)


def test_a_folder_that_cannot_be_moved_away_stays(model, tmp_path, monkeypatch):
    folder = save(model, tmp_path / "d", card="old")

    def refuse(self, target):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        save(model, folder, card="new", overwrite=True)
    assert [one.name for one in tmp_path.iterdir()] == ["d"]
    assert (folder / "README.md").read_text() == "old"


def test_a_request_to_end_leaves_nothing(tmp_path, capsys):
    """SIGTERM, as job schedulers send it, is what Ctrl-C is."""

    def verb():
        with new_folder(tmp_path / "d", overwrite=False):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(typer.Exit) as left:
        _interruptible(verb)()
    assert left.value.exit_code == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert list(tmp_path.iterdir()) == []
