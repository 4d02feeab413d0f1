"""Labelled data in every form that is read, for measuring: one list of samples.

Each sample gets the names that a measurement needs: its data set, and full identities of its
video and its group, which no other data set, class or folder shares (D32).
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import TypeVar

from unmask.dataset_json import EVERY, Roots, parse_roots, read_dataset_file
from unmask.errors import ConfigError, MissingSource, SourceError, near_names
from unmask.imagefolder import is_metadata, read_imagefolder
from unmask.labels import (
    NO_NAMES,
    SPLITS,
    label_from_directories,
    plain_split,
    split_from_directories,
)
from unmask.manifest import MANIFEST_SUFFIXES, read_rows, sample_of
from unmask.sources import fixed_part, read_sources
from unmask.types import Sample

__all__ = ["Listing", "evenly", "read_labelled", "read_listing"]

T = TypeVar("T")

_CLASS_FOLDERS = frozenset({"0_real", "1_fake"})
"""The folders of CNNDetection's and UniversalFakeDetect's trees: one pair per generator."""

_LABEL_NAMES = {0: "real", 1: "fake", None: "unknown"}


@dataclass(frozen=True, slots=True)
class Listing:
    """What inputs list: the samples, and what is none but has to be told."""

    samples: list[Sample]
    without_frames: list[Sample]
    """One for each video that a data set names without a frame; there is nothing to read."""
    repeated: int
    """Rows that say word for word what another one says, and do not count."""


@dataclass(frozen=True, slots=True)
class _Input:
    """The samples of one input. ``video`` and ``group`` are unique within their data set."""

    name: str
    samples: list[Sample]
    folder: str
    """What a sample without a data set of its own belongs to."""
    base: Path | None = None
    """Where the paths of its samples start; None: nowhere in common."""
    named: bool = True
    """The input itself names its data sets, so the same name elsewhere is the same set."""
    places: Sequence[str] = ()
    """Where each sample stands in a list; empty where the input is none."""
    without_frames: Sequence[Sample] = ()


@dataclass(frozen=True, slots=True)
class _Choice:
    """What is read of the inputs."""

    split: str | None
    compression: str | None
    roots: Roots
    labels: Mapping[str, int] = field(default_factory=dict)
    video_folders: bool = False


def evenly(items: Sequence[T], count: int) -> list[T]:
    """``count`` of the items, evenly spaced: the middle one of each of ``count`` equal parts.

    All of them where there are no more. Never just the first ones (D29).

    Raises:
        ConfigError: ``count`` is below 1.

    >>> evenly(range(32), 4)
    [4, 12, 20, 28]
    """
    _check_count(count)
    total = len(items)
    if total <= count:
        return list(items)
    return [items[(2 * part + 1) * total // (2 * count)] for part in range(count)]


def _check_count(frames: int) -> None:
    if frames < 1:
        raise ConfigError(f"{frames} frames of a video are asked for; give 1 or more")


def read_labelled(
    paths: Sequence[str | Path] | str | Path,
    *,
    split: str | None = None,
    compression: str | None = None,
    frames: int | None = None,
    root: Sequence[str] = (),
    labels: Mapping[str, int] = NO_NAMES,
    video_folders: bool = False,
) -> list[Sample]:
    """The samples of all inputs, as :func:`read_listing` has them."""
    return read_listing(
        paths,
        split=split,
        compression=compression,
        frames=frames,
        root=root,
        labels=labels,
        video_folders=video_folders,
    ).samples


def read_listing(
    paths: Sequence[str | Path] | str | Path,
    *,
    split: str | None = None,
    compression: str | None = None,
    frames: int | None = None,
    root: Sequence[str] = (),
    labels: Mapping[str, int] = NO_NAMES,
    video_folders: bool = False,
) -> Listing:
    """The samples of all inputs, each with data set, group and video by full identity.

    ``docs/inputs.md`` states how each form is told and what names it gives. A sample whose label
    nobody tells is there too, with the label None.

    Args:
        paths: Directories, manifests, DeepfakeBench data sets, imagefolders, patterns, files.
        split: Only the samples of this split; every input must name its splits then. ``all`` or
            None: whatever the split.
        compression: The level of data sets that come in several, or ``all``.
        frames: At most so many frames of each video, evenly spaced.
        root: ``OLD=NEW`` or ``DIR``: where the files of DeepfakeBench data sets are.
        labels: 0 real or 1 fake for class, label and directory names that are not known.
        video_folders: Whether the pictures of one folder of a directory are one video.

    Raises:
        MissingSource: Nothing of that name, or nothing in it.
        ManifestError: A list that is not understood.
        SourceError: An input without the split, no label anywhere, or a file that is real here
            and fake there.
        ConfigError: Options that fit no input, fewer frames than 1, or an input given twice.
    """
    names = [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    if not names:
        raise MissingSource("No input. Expected a directory, manifest or data set.")
    _check_given(names, root, compression)
    if frames is not None:
        _check_count(frames)
    split = None if split == EVERY else split
    choice = _Choice(split, compression, parse_roots(root), dict(labels), video_folders)
    inputs = _apart([_of_split(_read_one(name, choice), choice) for name in names])
    once = list(_once(inputs))
    repeated = sum(len(each.samples) for each in inputs) - len(once)
    samples = [_identified(sample, each) for each, sample in once]
    empty = [_identified(sample, each) for each in inputs for sample in each.without_frames]
    if all(sample.label is None for sample in samples):
        raise SourceError(
            f"none of the {len(samples):,} samples has a label, the first is {samples[0].source}. "
            "Expected folders like real/ and fake/, or a manifest with the columns path,label. To "
            "calibrate thresholds a folder named real/ alone is enough."
        )
    return Listing(samples if frames is None else _thinned(samples, frames), empty, repeated)


def _once(inputs: Sequence[_Input]) -> Iterator[tuple[_Input, Sample]]:
    """Each sample with its input, but for those that say word for word what one before says.

    Raises:
        SourceError: a file has two labels.
    """
    said: dict[str, tuple[str, str]] = {}
    before: set[tuple[object, ...]] = set()
    for each in inputs:
        places = each.places or [each.name] * len(each.samples)
        for sample, place in zip(each.samples, places, strict=True):
            file = os.path.abspath(sample.path)  # noqa: PTH100 (links stay)
            if sample.label is not None:
                name = _LABEL_NAMES[sample.label]
                first, where = said.setdefault(file, (name, place))
                if first != name:
                    raise SourceError(
                        f"{sample.source} is {first} by {where} and {name} by {place}. A file has "
                        "one label: mend one of the two, or leave it out."
                    )
            words = (
                file, sample.dataset or each.folder, sample.label, sample.generator, sample.group,
                sample.video, sample.split, sample.columns,
            )  # fmt: skip
            if words not in before:
                before.add(words)
                yield each, sample


def _check_given(names: Sequence[str], root: Sequence[str], compression: str | None) -> None:
    for name in names:
        if sum(os.path.realpath(name) == os.path.realpath(other) for other in names) > 1:
            raise ConfigError(f"{name} is given twice, and would count twice; give it once")
    lists = any(_suffix(name) == ".json" for name in names)
    for option, value in (("root", root), ("compression", compression)):
        if value and not lists:
            raise ConfigError(
                f"{option} is for DeepfakeBench data sets (.json), no input is one; leave it out"
            )


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _read_one(name: str, choice: _Choice) -> _Input:
    """The samples of one input, whose form its suffix and its content tell."""
    path = Path(name)
    if os.path.isdir(name):  # noqa: PTH112 (False, not an error, where the system refuses)
        return _directory(name, path, list(read_sources([name])), choice)
    above = Path(os.path.abspath(name)).parent.name  # noqa: PTH100 (links stay)
    if _suffix(name) == ".json":
        file = read_dataset_file(
            path,
            split=choice.split,
            compression=choice.compression,
            labels=choice.labels,
            roots=choice.roots,
        )
        return _Input(name, file.samples, above, without_frames=file.without_frames)
    if _suffix(name) in MANIFEST_SUFFIXES:
        return _manifest(name, path, above, choice)
    found = read_sources([name])
    if not path.exists() and glob.has_magic(name):
        fixed = fixed_part(name)
        return _directory(name, fixed, list(found), choice)
    samples = [_in_tree(sample, sample.path.parent, above, choice) for sample in found]
    return _Input(name, samples, above, named=False)


def _manifest(name: str, path: Path, above: str, choice: _Choice) -> _Input:
    places, listed = [], []
    for where, row in read_rows(path):
        places.append(f"{name}, {where}")
        listed.append(_within_list(sample_of(row, path, where, labels=choice.labels)))
    if not listed:
        raise MissingSource(f"{name}: the manifest lists no sample. Expected at least one row.")
    return _Input(name, listed, above, path.parent, places=places)


def _within_list(sample: Sample) -> Sample:
    """A manifest's sample; a video's name counts within its class and generator only."""
    if not sample.video:
        return sample
    parts = (_LABEL_NAMES[sample.label], sample.generator, sample.video)
    return replace(sample, video="/".join(filter(None, parts)))


def _directory(name: str, root: Path, files: list[Sample], choice: _Choice) -> _Input:
    """A tree of pictures, or an imagefolder where a table of that name lies in it."""
    folder = Path(os.path.abspath(root)).name  # noqa: PTH100
    samples = [_in_tree(sample, root, folder, choice) for sample in files]
    if any(is_metadata(sample.path) for sample in files):
        listed = read_imagefolder(root, samples, labels=choice.labels)
        return _Input(name, [_within_list(sample) for sample in listed], folder, root, named=False)
    return _Input(name, samples, folder, root, named=False)


def _in_tree(sample: Sample, root: Path, folder: str, choice: _Choice) -> Sample:
    """What the directories between the root (whose name is ``folder``) and the file say of it."""
    inner = sample.path.relative_to(root).parent
    label = label_from_directories(sample.path, root, choice.labels)
    videos = choice.video_folders or inner.parent.name == "frames"
    pair = next((i for i, part in enumerate(inner.parts) if part in _CLASS_FOLDERS), None)
    above = [part for part in inner.parts[:pair] if part.lower() not in SPLITS] if pair else []
    return replace(
        sample,
        label=label,
        dataset="/".join(above),
        generator=[*above, folder][0] if pair is not None and label == 1 else "",
        video=inner.as_posix() if videos and inner.parts else "",
        split=split_from_directories(sample.path, root),
    )


def _of_split(found: _Input, choice: _Choice) -> _Input:
    """The input's samples of the chosen split."""
    if choice.split is None:
        return found
    wanted = plain_split(choice.split)
    chosen = [plain_split(sample.split) == wanted for sample in found.samples]
    if not any(chosen):
        there = sorted({sample.split for sample in found.samples} - {""})
        raise SourceError(
            f"{found.name}: no sample of the split {choice.split!r}. "
            + (near_names(choice.split, there) if there else "It names no split; leave that out.")
        )
    return replace(
        found,
        samples=list(compress(found.samples, chosen)),
        places=list(compress(found.places, chosen)),
    )


def _apart(inputs: list[_Input]) -> list[_Input]:
    """The inputs with names of their own for data sets that are named by folders alone."""
    owners: dict[str, set[str]] = {}
    for each in inputs:
        for dataset in _datasets(each):
            owners.setdefault(dataset, set()).add(each.name)
    taken = {dataset for dataset, names in owners.items() if len(names) > 1}
    return [_renamed(each, taken, owners) for each in inputs]


def _renamed(each: _Input, taken: set[str], owners: Mapping[str, set[str]]) -> _Input:
    """The input with what it was given as before the names that other inputs have too."""
    own = each.name if each.name not in owners else f"{each.name} (folder)"
    samples = [
        replace(sample, dataset=f"{own}/{sample.dataset}")
        if sample.dataset in taken and not each.named
        else sample
        for sample in each.samples
    ]
    return replace(each, samples=samples, folder=own if each.folder in taken else each.folder)


def _datasets(each: _Input) -> set[str]:
    return {sample.dataset or each.folder for sample in each.samples}


def _identified(sample: Sample, of: _Input) -> Sample:
    """The sample with its data set, and with video and group that begin with it."""
    dataset = sample.dataset or of.folder
    video = f"{dataset}/{sample.video}" if sample.video else ""
    if sample.group:
        return replace(sample, dataset=dataset, video=video, group=f"{dataset}/{sample.group}")
    alone = sample.source
    if of.base is not None and sample.path.is_relative_to(of.base):
        alone = sample.path.relative_to(of.base).as_posix()  # the same wherever the data are
    return replace(sample, dataset=dataset, video=video, group=video or f"{dataset}/{alone}")


def _thinned(samples: Iterable[Sample], count: int) -> list[Sample]:
    """At most ``count`` samples of each video, evenly spaced; the order stays."""
    listed = list(samples)
    positions: dict[str, list[int]] = {}
    for index, sample in enumerate(listed):
        if sample.video:
            positions.setdefault(sample.video, []).append(index)
    kept = {index for frames in positions.values() for index in evenly(frames, count)}
    return [each for index, each in enumerate(listed) if index in kept or not each.video]
