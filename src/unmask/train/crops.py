"""Face crops on disk, decoded once: what a training reads in every epoch.

One file per picture, named by its content hash, in a folder named by everything that lies between
the picture and the crop. A file appears whole or not at all; one that is damaged is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unmask.errors import OutputError
from unmask.faces.align import similarity, template
from unmask.flow import prepare_all
from unmask.prepare import Prepared, Stage
from unmask.types import Image, Reason, Sample
from unmask.versions import versions

__all__ = ["CachedCrop", "Crops", "crops_of", "learnt_sha256"]

_FORMAT = 1
"""Of the files; another one never finds them."""
_DECIDING = ("opencv-python-headless", "pillow")
"""Whose versions may change a pixel."""

_CHANGED = Reason("changed", "the file changed between hashing and reading it")


@dataclass(frozen=True, slots=True, eq=False)
class CachedCrop:
    """One crop as the tower takes it, before it is normalised."""

    image: Image
    landmarks: npt.NDArray[np.float32] | None
    """``(5, 2)`` in pixels of the crop; None of a whole picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """The samples that gave a crop, and those that gave none."""

    samples: tuple[Sample, ...]
    hashes: tuple[str, ...]
    """Of the samples' content, in their order."""
    left_out: tuple[tuple[Sample, Reason], ...]
    files: tuple[Path, ...]
    """Where the crops are, in the same order."""
    n_whole: int = 0
    """So many of them, the last ones, are whole pictures beside faces."""

    def __getitem__(self, index: int) -> CachedCrop:
        """The crop of a sample.

        Raises:
            OutputError: If its file was removed or damaged since.
        """
        file = self.files[index]
        found = _read(file)
        if found is None:
            raise OutputError(
                f"the crop of {self.samples[index].source} is gone from the cache "
                f"{file.parent.parent}, or damaged; run the command again (--resume goes on where "
                "it stopped)"
            )
        return found


def crops_of(
    samples: Sequence[Sample],
    hashes: Sequence[str],
    stage: Stage,
    *,
    cache: Path,
    workers: int | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Crops:
    """The crops of the samples; only what the cache lacks is decoded.

    Args:
        samples: ``(N,)``; what gives no crop is reported, never replaced by another (D30).
        hashes: ``(N,)`` content hashes; empty where a file cannot be read.
        stage: The face stage and the preprocessing; one crop per sample.
        cache: Folder of all crops.
        workers: Threads; None is one per core.
        advance: Called once per finished sample.

    Raises:
        OutputError: If the cache cannot be written.
    """
    folder = cache / "crops" / _name(stage)
    try:
        todo: dict[str, Sample] = {}
        for sample, key in zip(samples, hashes, strict=True):
            if key and _read(_file(folder, key)) is not None:
                advance()
            else:
                todo.setdefault(key or str(sample.path), sample)
        folder.mkdir(parents=True, exist_ok=True)
        failed = _make(list(todo.values()), folder, stage, workers, advance)
    except OSError as error:
        raise OutputError(
            f"the crop cache {folder} cannot be used: {error}. Give another folder with --cache, "
            "or make room."
        ) from error
    kept: list[tuple[Sample, str]] = []
    left_out: list[tuple[Sample, Reason]] = []
    for sample, key in zip(samples, hashes, strict=True):
        tried = todo.get(key or str(sample.path))
        reason = failed.get(tried.path) if tried is not None else None
        if reason is None and tried is not None and not _file(folder, key).exists():
            reason = _CHANGED
        if reason is None:
            kept.append((sample, key))
        else:
            left_out.append((sample, reason))
    return Crops(
        samples=tuple(sample for sample, _ in kept),
        hashes=tuple(key for _, key in kept),
        left_out=tuple(left_out),
        files=tuple(_file(folder, key) for _, key in kept),
    )


def learnt_sha256(*parts: Crops) -> str:
    """Of what is learnt from and judged by, wherever the files are; in order, which decides too."""
    digest = hashlib.sha256()
    for crops in parts:
        for sample, key in zip(crops.samples, crops.hashes, strict=True):
            pair = dict(sample.columns).get("pair", "")
            said = (sample.label, sample.split, sample.dataset, sample.video, pair)
            digest.update(f"{key} {said!r}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _make(
    samples: Sequence[Sample],
    folder: Path,
    stage: Stage,
    workers: int | None,
    advance: Callable[[], None],
) -> dict[Path, Reason]:
    """Make and store crops; the reasons of those that cannot be made, by path."""
    failed: dict[Path, Reason] = {}
    ready = prepare_all(samples, stage, workers=workers, waiting=64)
    with closing(ready):
        for prepared in ready:
            if prepared.pixels and prepared.sha256 is not None:
                _write(_file(folder, prepared.sha256), _crop(prepared, stage))
            else:
                failed[prepared.sample.path] = prepared.reasons[-1]
            advance()
    return failed


def _crop(prepared: Prepared, stage: Stage) -> CachedCrop:
    image, landmarks = prepared.pixels[0], prepared.faces[0].landmarks
    if landmarks is None:
        return CachedCrop(image, None)
    points = np.array(landmarks, np.float64)  # (5, 2), in pixels of the picture
    size = stage.face.size
    matrix = similarity(points, template(size, stage.face.scale))
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    resized = moved * (np.array(image.shape[1::-1]) / size)
    return CachedCrop(image, resized.astype(np.float32))


def _write(path: Path, crop: CachedCrop) -> None:
    path.parent.mkdir(exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    landmarks = np.empty((0, 2), np.float32) if crop.landmarks is None else crop.landmarks
    try:
        with part.open("wb") as file:
            np.savez(file, image=crop.image, landmarks=landmarks)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _read(path: Path) -> CachedCrop | None:
    """The stored crop; None where there is none, or the file is not sound."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            image, landmarks = stored["image"], stored["landmarks"]
    except (FileNotFoundError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    return CachedCrop(image, landmarks if len(landmarks) else None)


def _file(folder: Path, key: str) -> Path:
    return folder / key[:2] / f"{key}.npz"


def _name(stage: Stage) -> str:
    """A folder name that differs whenever a crop could; mean and deviation come later."""
    preprocess = stage.preprocess
    parts = {
        "stage": stage.describe(),
        "least_face": stage.min_face_px,
        "input": [preprocess.height, preprocess.width, preprocess.resize_rule],
        "filter": [preprocess.interpolation, preprocess.shortest_edge],
        "versions": {name: versions()[name] for name in _DECIDING},
        "format": _FORMAT,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
