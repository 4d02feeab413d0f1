"""Input names -> Samples with their labels. Nothing is opened here but directories and lists."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TextIO

from unmask.errors import MissingSource, SourceError, near_names
from unmask.labels import label_from_directories
from unmask.magic import IMAGE_SUFFIXES
from unmask.manifest import MANIFEST_SUFFIXES, read_manifest
from unmask.types import Sample

__all__ = ["IMAGE_SUFFIXES", "REFERENCE_SUFFIXES", "label_from_directories", "read_sources"]

REFERENCE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tiff", ".webp"})
"""What the original script took; ``.tif`` was not among them."""

_SHOWN = 10
"""How many names a message lists at most."""


def read_sources(
    inputs: Sequence[str | Path],
    *,
    recursive: bool = True,
    suffixes: frozenset[str] | None = None,
    stdin: TextIO | None = None,
) -> Iterator[Sample]:
    """The samples of all inputs, in the order given; directories and patterns sorted by path.

    All inputs are looked at before the first sample is given out, so a misspelt one fails at
    once. What a list names (standard input, manifest) may be missing: that is a result later.

    Args:
        inputs: Files, directories, glob patterns, manifests (``.csv``, ``.jsonl``), or ``-`` for
            one path per line on standard input. An input given twice is read twice.
        recursive: Whether the sub-directories of a directory are read too.
        suffixes: Lower-case, with the dot; only such files of directories and patterns. None:
            every file that is not hidden, since a file that is no picture gets a result too.
        stdin: What ``-`` reads; None: ``sys.stdin``.

    Raises:
        MissingSource: Nothing of that name, or nothing in it.
        ManifestError: A manifest that is not understood.
        SourceError: A directory that cannot be listed.
    """
    if not inputs:
        raise MissingSource("No input. Expected a file, directory, pattern, manifest or -.")
    return chain.from_iterable(
        [_read_one(str(name), recursive, suffixes, stdin) for name in inputs]
    )


def _read_one(
    name: str, recursive: bool, suffixes: frozenset[str] | None, stdin: TextIO | None
) -> Iterator[Sample]:
    """The samples of one input; the first is looked for at once."""
    if name == "-":
        return _read_lines(sys.stdin if stdin is None else stdin)
    path = Path(name)
    if os.path.isdir(name):  # noqa: PTH112 (False, not an error, where the system refuses)
        found = _read_directory(name, recursive, suffixes)
    elif os.path.lexists(path):
        if path.suffix.lower() not in MANIFEST_SUFFIXES:
            return iter([_single(name)])
        found = read_manifest(path)
    elif glob.has_magic(name):
        found = _read_pattern(name, recursive, suffixes)
    else:
        raise MissingSource(f"{name}: no such file or directory. {_siblings(path)}".rstrip())
    first = next(found, None)
    if first is None:
        raise MissingSource(f"{name}: {_nothing_in(path, recursive, suffixes)}")
    return chain([first], found)


def _single(name: str) -> Sample:
    path = Path(name)
    return Sample(source=name, path=path, label=label_from_directories(path, path.parent))


def _read_lines(lines: TextIO) -> Iterator[Sample]:
    """One sample per line that is not empty, whether the file is there or not."""
    count = 0
    for line in lines:
        name = line.rstrip("\r\n")
        if name:
            count += 1
            yield _single(name)
    if not count:
        raise MissingSource("-: standard input is empty. Expected one path per line.")


def _read_pattern(
    pattern: str, recursive: bool, suffixes: frozenset[str] | None
) -> Iterator[Sample]:
    """What a pattern matches, each file once; a directory it matches is read as a directory."""
    root = _fixed_part(pattern)
    names: set[str] = set()
    for match in glob.iglob(pattern, recursive=True):  # noqa: PTH207 (keeps the ./)
        if os.path.isdir(match):  # noqa: PTH112
            names.update(os.path.join(at, name) for at, name in _walk(match, recursive))  # noqa: PTH118
        else:
            names.add(match)
    for name in sorted(names, key=_parts):
        path = Path(name)
        if _wanted(name, suffixes):
            yield Sample(source=name, path=path, label=label_from_directories(path, root))


def _fixed_part(pattern: str) -> Path:
    """The directory before the first component with a wildcard: where labels end."""
    parts = Path(pattern).parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first])


def _parts(name: str) -> tuple[str, ...]:
    return Path(name).parts


def _read_directory(
    name: str, recursive: bool, suffixes: frozenset[str] | None
) -> Iterator[Sample]:
    """The files of a directory, sorted by path; one label per directory."""
    root = Path(name)
    last, label = None, None
    for at, file in _walk(name, recursive):
        if not _wanted(file, suffixes):
            continue
        if at != last:
            last, label = at, label_from_directories(Path(at, "file"), root)
        source = os.path.join(at, file)  # noqa: PTH118 (keeps the "./" that the user wrote)
        yield Sample(source=source, path=Path(source), label=label)


def _wanted(name: str, suffixes: frozenset[str] | None) -> bool:
    return suffixes is None or os.path.splitext(name)[1].lower() in suffixes  # noqa: PTH122 (fast)


def _walk(root: str, recursive: bool) -> Iterator[tuple[str, str]]:
    """``(directory, name)`` of all that is not hidden and not a directory, sorted by path.

    Links to directories are followed. A directory that several names lead to is read once, under
    the first of them, so loops end. One that cannot be listed is given like a file: it gets a
    result that says so.

    Raises:
        SourceError: ``root`` itself cannot be listed.
    """
    seen: set[tuple[int, int]] = set()
    waiting: list[Iterator[tuple[str, str, bool]]] = [iter([("", root, True)])]
    while waiting:
        entry = next(waiting[-1], None)
        if entry is None:
            waiting.pop()
            continue
        at, name, is_directory = entry
        if not is_directory:
            yield at, name
            continue
        if waiting[1:] and not recursive:
            continue
        directory = os.path.join(at, name)  # noqa: PTH118 (keeps the "./" that the user wrote)
        try:
            waiting.append(_entries(directory, seen))
        except OSError as error:
            if not waiting[1:]:
                raise SourceError(
                    f"{root}: cannot be listed: {error.strerror}. Check the rights."
                ) from error
            yield at, name


def _entries(directory: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, str, bool]]:
    """``(directory, name, whether a directory)``, sorted by name; nothing the second time."""
    status = os.stat(directory)  # noqa: PTH116 (a string all through: a million names)
    identity = (status.st_dev, status.st_ino)
    if identity in seen:
        return iter(())
    seen.add(identity)
    with os.scandir(directory) as entries:
        listed = [(entry.name, _is_directory(entry)) for entry in entries if entry.name[0] != "."]
    listed.sort()
    return ((directory, name, is_directory) for name, is_directory in listed)


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or a target that may not be looked at: a result says so
        return False


def _siblings(path: Path) -> str:
    """The names nearest to a missing one, where there are any."""
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
    except OSError:
        return f"The directory {path.parent} does not exist or cannot be listed either."
    if len(names) <= _SHOWN:
        return near_names(path.name, names)
    near = [name for name in names if name.lower()[:3] == path.name.lower()[:3]]
    hint = near_names(path.name, near or names[:_SHOWN])
    return hint if hint.startswith("Did") else f"{path.parent} has {len(names):,} other entries."


def _nothing_in(path: Path, recursive: bool, suffixes: frozenset[str] | None) -> str:
    kinds = "files" if suffixes is None else f"files ending in {', '.join(sorted(suffixes))}"
    if os.path.isdir(path):  # noqa: PTH112
        deeper = "" if recursive else " Its sub-directories were not read (recursive is off)."
        return f"no {kinds} in this directory; hidden ones do not count.{deeper}"
    if path.suffix.lower() in MANIFEST_SUFFIXES and path.exists():
        return "the manifest lists no sample. Expected at least one row."
    return f"the pattern matches no {kinds}. Quote it if the shell is not to read it."
