"""Input names -> Samples with their labels. Nothing is opened here but directories and lists."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TextIO

from unmask.dataset_json import EVERY, read_dataset_json
from unmask.errors import ConfigError, MissingSource, SourceError, near_names
from unmask.labels import label_from_directories
from unmask.magic import IMAGE_SUFFIXES
from unmask.manifest import MANIFEST_SUFFIXES, read_manifest
from unmask.types import Sample

__all__ = [
    "IMAGE_SUFFIXES",
    "REFERENCE_SUFFIXES",
    "fixed_part",
    "label_from_directories",
    "read_sources",
]

REFERENCE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tiff", ".webp"})
"""What the original script took; ``.tif`` was not among them."""

_SEPARATOR = r"[/\\]" if os.sep == "\\" else "/"
_ALL_LEVELS = re.compile(rf"(?:^|(?<={_SEPARATOR}))\*\*(?:{_SEPARATOR}+\*\*)*(?:{_SEPARATOR}+|$)")
"""The component ``**`` of a pattern, or several in a row."""

_SHOWN = 10
"""How many names a message lists at most."""


def read_sources(
    inputs: Sequence[str | Path] | str | Path,
    *,
    recursive: bool = True,
    suffixes: frozenset[str] | None = None,
    stdin: TextIO | None = None,
) -> Iterator[Sample]:
    """The samples of all inputs, in the order given; directories and patterns sorted by path.

    All inputs are looked at before the first sample is given out, so a misspelt one fails at
    once. What a list names (standard input, manifest) may be missing: that is a result later.

    Args:
        inputs: One, or several: files, directories, glob patterns, manifests (``.csv``,
            ``.jsonl``, ``.parquet``), DeepfakeBench data sets (``.json``, all splits and
            compression levels), or ``-`` for one path per line on standard input. An input given
            twice is read twice, but for ``-``.
        recursive: Whether the sub-directories of a directory are read too.
        suffixes: Lower-case, with the dot; only such files of directories and patterns. None:
            every file that is not hidden, since a file that is no picture gets a result too.
        stdin: What ``-`` reads; None: ``sys.stdin``.

    Raises:
        MissingSource: Nothing of that name, or nothing in it.
        ManifestError: A manifest that is not understood.
        SourceError: A directory that cannot be listed.
        ConfigError: Standard input twice.
    """
    if isinstance(inputs, str | Path):
        inputs = [inputs]
    if not inputs:
        raise MissingSource("No input. Expected a file, directory, pattern, manifest or -.")
    if sum(str(name) == "-" for name in inputs) > 1:
        raise ConfigError("- is given twice; standard input can be read once")
    return chain.from_iterable(
        [_read_one(str(name), recursive, suffixes, stdin) for name in inputs]
    )


def _read_one(
    name: str, recursive: bool, suffixes: frozenset[str] | None, stdin: TextIO | None
) -> Iterator[Sample]:
    """The samples of one input; the first is looked for at once."""
    if name == "-":
        return _read_lines(sys.stdin if stdin is None else stdin)
    if not name:
        raise MissingSource("An empty name. Expected a file, directory, pattern, manifest or -.")
    path = Path(name)
    if os.path.isdir(name):  # noqa: PTH112 (False, not an error, where the system refuses)
        found = _read_directory(name, recursive, suffixes)
    elif os.path.lexists(path):
        found = _read_file(name, path)
    elif glob.has_magic(name):
        found = _read_pattern(name, recursive, suffixes)
    else:
        raise MissingSource(f"{name}: no such file or directory. {_siblings(path)}".rstrip())
    first = next(found, None)
    if first is None:
        raise MissingSource(f"{name}: {_nothing_in(path, recursive, suffixes)}")
    return chain([first], found)


def _read_file(name: str, path: Path) -> Iterator[Sample]:
    """What a list names, or the file itself; the suffix decides."""
    kind = path.suffix.lower()
    if kind in MANIFEST_SUFFIXES:
        return read_manifest(path)
    if kind == ".json":
        return read_dataset_json(path, compression=EVERY)
    return iter([_single(name)])


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
    root = fixed_part(pattern)
    links = _ALL_LEVELS.search(pattern) is None  # all levels are there without them, once
    seen: set[tuple[int, int]] = set()  # one for all, so a match within a match is not read again
    names: set[str] = set()
    for match in sorted(set(_matches(pattern)), key=_parts):
        if not os.path.isdir(match):  # noqa: PTH112
            names.add(match)
        elif links or not os.path.islink(match):  # noqa: PTH114
            found = _walk(match, recursive, seen, links=links)
            names.update(os.path.join(at, name) for at, name in found)  # noqa: PTH118
    for name in sorted(names, key=_parts):
        path = Path(name)
        if _wanted(name, suffixes):
            yield Sample(source=name, path=path, label=label_from_directories(path, root))


def _matches(pattern: str) -> Iterator[str]:
    """What a pattern matches. ``glob`` itself follows links below ``**``, and loops of them."""
    top, *rest = _ALL_LEVELS.split(pattern, maxsplit=1)
    if not rest:
        yield from glob.iglob(pattern)  # noqa: PTH207 (keeps the ./)
        return
    for root in glob.iglob(top) if glob.has_magic(top) else [top]:  # noqa: PTH207
        for at in _levels(root):
            yield from _matches(os.path.join(glob.escape(at), rest[0] or "*"))  # noqa: PTH118


def _levels(root: str) -> Iterator[str]:
    """A directory and all below it that are neither hidden nor links: what ``**`` stands for."""
    waiting = [root]
    while waiting:
        at = waiting.pop()
        yield at
        with suppress(OSError), os.scandir(at or os.curdir) as entries:  # as glob: no such level
            waiting += [
                os.path.join(at, entry.name)  # noqa: PTH118
                for entry in entries
                if entry.name[0] != "." and entry.is_dir(follow_symlinks=False)
            ]


def fixed_part(pattern: str) -> Path:
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


def _walk(
    root: str, recursive: bool, seen: set[tuple[int, int]] | None = None, *, links: bool = True
) -> Iterator[tuple[str, str]]:
    """``(directory, name)`` of all that is not hidden and not a directory, sorted by path.

    Links to directories are followed, or with ``links`` off left out. A directory that several
    names lead to is read once, under the first of them, so loops end; ``seen`` are those read
    before. One that cannot be listed is given like a file: it gets a result that says so.

    Raises:
        SourceError: ``root`` itself cannot be listed.
    """
    seen = set() if seen is None else seen
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
            waiting.append(_entries(directory, seen, links))
        except OSError as error:
            if not waiting[1:]:
                raise SourceError(
                    f"{root}: cannot be listed: {error.strerror}. Check the rights."
                ) from error
            yield at, name


def _entries(
    directory: str, seen: set[tuple[int, int]], links: bool
) -> Iterator[tuple[str, str, bool]]:
    """``(directory, name, whether a directory)``, sorted by name; nothing the second time."""
    status = os.stat(directory)  # noqa: PTH116 (a string all through: a million names)
    identity = (status.st_dev, status.st_ino)
    if identity in seen:
        return iter(())
    seen.add(identity)
    with os.scandir(directory) as entries:
        listed = [
            (entry.name, _is_directory(entry))
            for entry in entries
            if entry.name[0] != "." and (links or not (entry.is_symlink() and _is_directory(entry)))
        ]
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
