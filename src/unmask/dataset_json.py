"""DeepfakeBench data-set files: which frames a video has, of which class and split.

Two forms, told apart by content, each file with one data set or several:

    {data set: {class: {split: {video: {"label": name, "frames": [path, ...]}}}}}
    {data set: {class: {split: {compression: {video: {"label": name, "frames": [...]}}}}}}
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from unmask.errors import ConfigError, ManifestError, MissingSource, near_names
from unmask.labels import NO_NAMES, plain_split
from unmask.types import Sample

__all__ = [
    "BENCH_LABELS",
    "EVERY",
    "DatasetFile",
    "Roots",
    "parse_roots",
    "read_dataset_file",
    "read_dataset_json",
]

EVERY = "all"
"""As compression: every level, side by side."""

# fmt: off
BENCH_LABELS: Mapping[str, int] = {
    "FF-real": 0, "FF-DF": 1, "FF-F2F": 1, "FF-FS": 1, "FF-NT": 1, "FF-SH": 1, "FF-FH": 1,
    "DFD_real": 0, "DFD_fake": 1,
    "CelebDFv1_real": 0, "CelebDFv1_fake": 1, "CelebDFv2_real": 0, "CelebDFv2_fake": 1,
    "DFDCP_Real": 0, "DFDCP_FakeA": 1, "DFDCP_FakeB": 1, "DFDC_Real": 0, "DFDC_Fake": 1,
    "DF_real": 0, "DF_fake": 1,  # DeeperForensics-1.0
    "UADFV_Real": 0, "UADFV_Fake": 1, "roop_Real": 0, "roop_Fake": 1,
}
# fmt: on
"""The class names of DeepfakeBench's own configuration."""

_FORM = (
    "Expected a DeepfakeBench data set: "
    '{data set: {class: {"train", "val" or "test": {video: {"label": ..., "frames": [...]}}}}}, '
    "or with c23, c40 or raw between split and video"
)
_LEVEL_OF_NAME = re.compile(r"_(c23|c40|raw)$")
_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Roots:
    """Where the files of a list are on this machine."""

    folder: Path | None = None
    """Where relative paths start; None: at the list's own folder."""
    moved: tuple[tuple[PurePosixPath, Path], ...] = ()
    """Beginnings of paths and what stands in their place; the longest that fits counts."""


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """What a file lists: frames, and the videos of which it lists none."""

    samples: list[Sample]
    without_frames: list[Sample]
    """One for each such video; what stands at their path is no picture."""


class _Members(dict[str, object]):
    """An object of the file; ``twice`` are the names that it gives to two members."""

    def __init__(self, pairs: Sequence[tuple[str, object]]) -> None:
        super().__init__(pairs)
        counts = Counter(name for name, _ in pairs)
        self.twice = [name for name, count in counts.items() if count > 1]


@dataclass(frozen=True, slots=True)
class _Video:
    """One video of the file, still with the names that it has there."""

    dataset: str
    kind: str
    split: str
    level: str
    name: str
    label: str
    frames: tuple[str, ...]


def parse_roots(texts: Sequence[str]) -> Roots:
    """What texts like ``OLD=NEW`` and ``DIR`` say; one that is a directory is taken as ``DIR``.

    Raises:
        ConfigError: two directories, or one beginning with two replacements.
    """
    folders: list[str] = []
    moved: dict[PurePosixPath, Path] = {}
    for text in texts:
        old, sign, new = text.partition("=")
        if not sign or Path(text).is_dir():
            folders.append(text)
            continue
        if not old or not new:
            raise ConfigError(f"the root {text!r}: expected OLD=NEW, or one directory")
        if moved.setdefault(_posix(old), Path(new)) != Path(new):
            raise ConfigError(f"paths below {old!r} are given two roots; keep one")
    if len(folders) > 1:
        raise ConfigError(
            f"two roots for relative paths, {folders[0]!r} and {folders[1]!r}; keep one, or say "
            "which beginning of the paths each replaces: OLD=NEW"
        )
    ordered = sorted(moved.items(), key=lambda pair: len(pair[0].parts), reverse=True)
    return Roots(Path(folders[0]) if folders else None, tuple(ordered))


def read_dataset_json(
    path: Path,
    *,
    split: str | None = None,
    compression: str | None = None,
    labels: Mapping[str, int] = NO_NAMES,
    roots: Roots | None = None,
) -> Iterator[Sample]:
    """One sample per frame, as :func:`read_dataset_file` has them."""
    found = read_dataset_file(
        path, split=split, compression=compression, labels=labels, roots=roots
    )
    yield from found.samples


def read_dataset_file(
    path: Path,
    *,
    split: str | None = None,
    compression: str | None = None,
    labels: Mapping[str, int] = NO_NAMES,
    roots: Roots | None = None,
) -> DatasetFile:
    """One sample per frame, in the order of the file; frames of a video by their numbers.

    ``video`` is ``class/compression/video`` and ``group`` is ``class/video``, so that videos with
    the same folder name stay apart (D32) and the levels of one video stay together. A frame whose
    file is missing is a sample too.

    Args:
        path: The file.
        split: Only this one (``train``, ``val``, ``test``); None: all.
        compression: Only this level (``c23``, ``c40``, ``raw``), or ``all``; None where the file
            has one level at most. Data without levels are read whatever is asked.
        labels: 0 or 1 for class names beside those of DeepfakeBench, ``real`` and ``fake``.
        roots: Where the frames are; None: relative to the file.

    Raises:
        MissingSource: No such file, or none of its frames is there.
        ManifestError: Not such a file, an unknown class, a split or level it does not have, or
            two members of one name in one object.
        ConfigError: Several levels and none chosen, or a root that no path begins with.
    """
    videos = list(_videos(_load(path), path))
    if not videos:
        raise ManifestError(f"{path}: lists no video. {_FORM}.")
    videos = _of_level(_of_split(videos, split, path), compression, path)
    known = {"real": 0, "fake": 1, **BENCH_LABELS, **labels}
    for name in sorted({video.label for video in videos}):
        if name not in known:
            raise ManifestError(
                f"{path}: class {name!r} is not known to be real or fake. Say which: "
                f"{name}=real or {name}=fake."
            )
    roots = roots or Roots()
    samples = [
        each for video in videos for each in _samples(video, known[video.label], path, roots)
    ]
    _check_moved(videos, roots, path)
    if not any(map(os.path.exists, (sample.path for sample in samples))):
        first = samples[0].source if samples else "no frame at all"
        raise MissingSource(
            f"{path}: none of its {len(samples):,} frames is there; the first would be {first}. "
            "Say where they are by a root: DIR for relative paths, or OLD=NEW."
        )
    empty = [
        _without_frames(video, known[video.label], path) for video in videos if not video.frames
    ]
    return DatasetFile(samples, empty)


def _load(path: Path) -> object:
    try:
        found: object = json.loads(path.read_bytes(), object_pairs_hook=_Members)
    except FileNotFoundError as error:
        raise MissingSource(f"{path}: no such file. {_FORM}.") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error}. {_FORM}.") from error
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: not JSON: {error}. {_FORM}.") from error
    return found


def _videos(found: object, path: Path) -> Iterator[_Video]:
    """The videos of all data sets, classes, splits and levels, in the file's order."""
    for dataset, classes in _members(found, path, "the file"):
        for kind, splits in _members(classes, path, dataset):
            for split, held in _members(splits, path, f"{dataset}/{kind}"):
                if plain_split(split) not in {"train", "val", "test"}:
                    raise ManifestError(
                        f"{path}: {dataset}/{kind} has {split!r} where a split stands. {_FORM}."
                    )
                at = f"{dataset}/{kind}/{split}"
                names = (dataset, kind, plain_split(split))
                for name, value in _members(held, path, at):
                    if isinstance(value, Mapping) and "frames" in value:
                        yield _video(names, "", name, value, path)
                        continue
                    for video, inner in _members(value, path, f"{at}/{name}"):
                        yield _video(names, name, video, inner, path)


def _members(value: object, path: Path, at: str) -> Iterator[tuple[str, object]]:
    if not isinstance(value, Mapping):
        raise ManifestError(f"{path}: {at} is {json.dumps(value)[:40]}. {_FORM}.")
    _check_once(value, path, at)
    yield from value.items()


def _check_once(value: object, path: Path, at: str) -> None:
    """Nothing, if no two members have one name: JSON would keep the last of them alone."""
    if isinstance(value, _Members) and value.twice:
        raise ManifestError(
            f"{path}: {at} names {value.twice[0]!r} twice, and only one of the two would count. "
            "Give each a name of its own, or put their frames into one."
        )


def _video(names: tuple[str, str, str], level: str, name: str, value: object, path: Path) -> _Video:
    at = "/".join(filter(None, (*names, level, name)))
    _check_once(value, path, at)
    label = value.get("label", names[1]) if isinstance(value, Mapping) else None
    frames = value.get("frames") if isinstance(value, Mapping) else None
    if not isinstance(label, str) or not isinstance(frames, list):
        raise ManifestError(f"{path}: {at} has no label and list of frames. {_FORM}.")
    wrong = next((frame for frame in frames if not isinstance(frame, str) or not frame), None)
    if wrong is not None:
        raise ManifestError(f"{path}: {at} has the frame {json.dumps(wrong)[:40]}. Expected text.")
    return _Video(*names, level, name, label, tuple(sorted(frames, key=_by_number)))


def _by_number(frame: str) -> tuple[object, ...]:
    """Names in the order of the numbers in them: 2 before 10."""
    parts = _NUMBERS.split(frame.replace("\\", "/"))
    return tuple(int(part) if index % 2 else part for index, part in enumerate(parts))


def _of_split(videos: list[_Video], split: str | None, path: Path) -> list[_Video]:
    if split is None:
        return videos
    chosen = [video for video in videos if video.split == plain_split(split)]
    if not chosen:
        there = sorted({video.split for video in videos})
        raise ManifestError(f"{path}: no split {split!r}. {near_names(split, there)}")
    return chosen


def _of_level(videos: list[_Video], asked: str | None, path: Path) -> list[_Video]:
    """The videos of one level. ``NAME_c40``, as data set or file, stands for the level c40."""
    levels = sorted({video.level for video in videos if video.level})
    named = _LEVEL_OF_NAME.search(path.stem)
    if asked == EVERY or not levels:
        return videos
    if asked is None and named is None and len(levels) == 1:
        return videos
    fixed = {video.dataset: _level_of(video.dataset, named) for video in videos}
    if asked is None and None in fixed.values():
        raise ConfigError(
            f"{path} holds the compression levels {', '.join(levels)}. Choose one, or "
            f"{EVERY!r} for all of them side by side."
        )
    for dataset, level in fixed.items():
        if asked is not None and level not in (None, asked):
            raise ConfigError(f"{path}: {dataset} is the level {level}, and {asked} is asked for")
    chosen = [
        video
        for video in videos
        if not video.level or video.level == (asked or fixed[video.dataset])
    ]
    if not chosen:
        wanted = asked or next(iter(fixed.values())) or ""
        raise ManifestError(f"{path}: no compression {wanted!r}. {near_names(wanted, levels)}")
    return chosen


def _level_of(dataset: str, named: re.Match[str] | None) -> str | None:
    found = _LEVEL_OF_NAME.search(dataset) or named
    return found[1] if found else None


def _samples(video: _Video, label: int, path: Path, roots: Roots) -> Iterator[Sample]:
    for frame in video.frames:
        yield _sample(video, label, _place(frame, path, roots))


def _without_frames(video: _Video, label: int, path: Path) -> Sample:
    """A video that the file names without a frame, by where it stands in the file."""
    parts = filter(None, (video.kind, video.split, video.level, video.name))
    return _sample(video, label, path.joinpath(*parts, "(no frames)"))


def _sample(video: _Video, label: int, place: Path) -> Sample:
    return Sample(
        source=str(place),
        path=place,
        label=label,
        dataset=video.dataset,
        generator=video.label if label else "",
        group=f"{video.kind}/{video.name}",
        video="/".join(filter(None, (video.kind, video.level, video.name))),
        split=video.split,
        columns=(("class", video.kind), *([("compression", video.level)] if video.level else [])),
    )


def _posix(text: str) -> PurePosixPath:
    """A path of the file; some were written on Windows."""
    return PurePosixPath(text.replace("\\", "/"))


def _place(frame: str, path: Path, roots: Roots) -> Path:
    given = _posix(frame)
    for old, new in roots.moved:
        if given.is_relative_to(old):
            return new / given.relative_to(old)
    return (roots.folder or path.parent) / given


def _check_moved(videos: Sequence[_Video], roots: Roots, path: Path) -> None:
    """Nothing, if some path begins with each root that is to be replaced."""
    for old, _ in roots.moved:
        if not any(_posix(frame).is_relative_to(old) for video in videos for frame in video.frames):
            first = next((frame for video in videos for frame in video.frames), "nothing")
            raise ConfigError(f"{path}: no frame lies below {old}; the first is {first}")
