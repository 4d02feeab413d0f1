"""Features of a frozen tower, computed once and kept on disk.

A store is keyed by the tower's weights and everything between the file and the tower; within it
each feature (``mean@6``) has its rows, found by the content hash of the picture.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from torch import nn

from unmask import __version__
from unmask.errors import ConfigError, IncompatibleWeights, OutputError, UnmaskError
from unmask.flow import batches, prepare_all
from unmask.images import file_sha256
from unmask.models.backbone import extract
from unmask.models.features import feature_width
from unmask.prepare import Prepared, Stage
from unmask.train.batches import normalized
from unmask.train.lanes import side_by_side
from unmask.train.pictures.augment import augmenter
from unmask.types import Image, Reason, Sample

__all__ = ["Features", "Rows", "Tower", "features_of", "hashes_of"]


_CHANGED = Reason("changed", "the file changed between hashing and reading it")


@dataclass(frozen=True, slots=True, eq=False)
class Tower:
    """A frozen tower, where it computes, and the hash of its weights file."""

    model: nn.Module
    sha256: str
    device: torch.device
    dtype: torch.dtype
    batch_size: int = 32
    workers: int | None = None

    def __post_init__(self) -> None:
        """Refuse numbers outside their range.

        Raises:
            ConfigError: names the option, its value and its range.
        """
        if self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}; it must be at least 1")
        if self.workers is not None and not 0 <= self.workers <= 256:
            raise ConfigError(f"workers is {self.workers}; it must be 0 to 256")


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """The samples that gave a crop, a row for each, and those that gave none."""

    samples: tuple[Sample, ...]
    columns: Mapping[str, npt.NDArray[np.float32]]
    """Feature name to ``(N, width)``, rows in the order of ``samples``."""
    left_out: tuple[tuple[Sample, Reason], ...]

    def matrix(self, names: Sequence[str]) -> npt.NDArray[np.float32]:
        """The named features side by side, ``(N, sum of widths)``."""
        return np.concatenate([self.columns[name] for name in names], axis=1)


class Rows:
    """Rows of one feature on disk: float16, memory-mapped, one per content hash.

    Two files that only ever grow: ``rows.f16`` and ``keys.txt``, a line once its row is complete:
    the content hash and the CRC-32 of the row. A process that dies in between leaves a row without
    a line, which is written over. A row or a line that is damaged counts as not there.
    """

    _LINE = re.compile(rb"([0-9a-f]{64}) ([0-9a-f]{8})\n")
    _LINE_BYTES = 74

    def __init__(self, folder: Path, width: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._keys_path, self._rows_path = folder / "keys.txt", folder / "rows.f16"
        self.width = width
        lines = self._keys_path.read_bytes() if self._keys_path.exists() else b""
        whole = self._rows_path.stat().st_size // (2 * width) if self._rows_path.exists() else 0
        self._count = min(len(lines) // self._LINE_BYTES, whole)
        if len(lines) > self._count * self._LINE_BYTES:  # cut short by a dying process
            os.truncate(self._keys_path, self._count * self._LINE_BYTES)
        self._map: npt.NDArray[np.float16] | None = None
        self._index: dict[str, tuple[int, int]] = {}
        for row in range(self._count):
            start = row * self._LINE_BYTES
            line = self._LINE.fullmatch(lines, start, start + self._LINE_BYTES)
            if line is not None:
                self._index[line[1].decode()] = row, int(line[2], 16)

    def __contains__(self, key: str) -> bool:
        """Whether the picture of that content hash has its row, undamaged."""
        if key not in self._index:
            return False
        row, checksum = self._index[key]
        if zlib.crc32(self._mapped()[row].tobytes()) == checksum:
            return True
        del self._index[key]
        return False

    def add(self, keys: Sequence[str], rows: npt.NDArray[np.float32]) -> None:
        """Append rows ``(len(keys), width)``.

        Raises:
            IncompatibleWeights: a value is beyond float16's range, or not a number.
        """
        with np.errstate(over="ignore"):  # looked at on the next line
            stored = rows.astype(np.float16)
        if not np.isfinite(stored).all():
            raise IncompatibleWeights(
                f"the tower gives features up to {np.abs(rows).max():g}, beyond what the cache "
                "holds (65504); take another feature, or check the weights"
            )
        with self._rows_path.open("r+b" if self._rows_path.exists() else "w+b") as file:
            file.seek(self._count * self.width * 2)
            file.write(stored.tobytes())
        checksums = [zlib.crc32(row.tobytes()) for row in stored]
        with self._keys_path.open("a", encoding="ascii", newline="\n") as file:
            file.writelines(f"{key} {crc:08x}\n" for key, crc in zip(keys, checksums, strict=True))
        for key, checksum in zip(keys, checksums, strict=True):
            self._index[key] = self._count, checksum
            self._count += 1

    def take(self, keys: Sequence[str]) -> npt.NDArray[np.float32]:
        """The rows of these keys, ``(len(keys), width)``; each must be among them."""
        if not keys:
            return np.empty((0, self.width), np.float32)
        return np.asarray(self._mapped()[[self._index[key][0] for key in keys]], np.float32)

    def _mapped(self) -> npt.NDArray[np.float16]:
        if self._map is None or len(self._map) < self._count:
            shape = (self._count, self.width)
            self._map = np.memmap(self._rows_path, np.float16, mode="r", shape=shape)
        return self._map


def features_of(
    samples: Sequence[Sample],
    names: Sequence[str],
    tower: Tower,
    stage: Stage,
    *,
    cache: Path,
    view: int = 0,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> Features:
    """The features of the samples; only what the cache lacks is computed.

    Args:
        samples: Any number; those without a crop are reported, not replaced.
        names: Feature names, see :func:`unmask.models.backbone.parse_features`.
        tower: Computes them.
        stage: The face stage and preprocessing; scores at most one crop per sample.
        cache: Folder of all stores.
        view: 0 is the picture as it is; each other number another augmented copy.
        seed: Of the augmentation.
        advance: Called once per finished sample.

    Raises:
        OutputError: the cache cannot be written to, or the disk is full.
    """
    if view:
        stage = replace(stage, alter=augmenter(view, seed))
    folder = cache / _store_name(tower, stage, view, seed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):  # another training may use the same store
            return _features_of(samples, names, tower, stage, folder, advance)
    except OSError as error:  # what is read has errors of its own
        raise OutputError(
            f"the feature cache {cache} cannot be used: {error}. Give another folder with --cache, "
            "or make room."
        ) from error


def _features_of(
    samples: Sequence[Sample],
    names: Sequence[str],
    tower: Tower,
    stage: Stage,
    folder: Path,
    advance: Callable[[], None],
) -> Features:
    config = tower.model.config
    stores = {name: Rows(folder / name, feature_width(config, [name])) for name in names}
    hashes = hashes_of(samples, tower.workers)
    todo: dict[str, Sample] = {}
    for sample, key in zip(samples, hashes, strict=True):
        if not all(key in rows for rows in stores.values()):
            todo.setdefault(key or str(sample.path), sample)
        else:
            advance()
    failed = _fill(list(todo.values()), stores, tower, stage, advance)
    kept, keys, left_out = [], [], []
    for sample, key in zip(samples, hashes, strict=True):
        if key in stores[names[0]]:
            kept.append(sample)
            keys.append(key)
        else:
            tried = todo[key or str(sample.path)].path
            left_out.append((sample, failed.get(tried, _CHANGED)))
    columns = {name: rows.take(keys) for name, rows in stores.items()}
    return Features(tuple(kept), columns, tuple(left_out))


def _fill(
    samples: Sequence[Sample],
    stores: Mapping[str, Rows],
    tower: Tower,
    stage: Stage,
    advance: Callable[[], None],
) -> dict[Path, Reason]:
    """Compute and store the missing rows; the reasons of those that cannot be, by path."""
    failed: dict[Path, Reason] = {}
    names = list(stores)

    def compute(batch: list[Prepared]) -> tuple[list[Prepared], npt.NDArray[np.float32]]:
        images = [each.pixels[0] for each in batch if each.pixels]
        return batch, _values(images, names, tower, stage)

    ready = prepare_all(samples, stage, workers=tower.workers, waiting=4 * tower.batch_size)
    computed = side_by_side(compute, batches(ready, tower.batch_size), tower.device)
    with closing(ready), closing(computed):
        for batch, values in computed:
            for prepared in batch:
                if not prepared.pixels:
                    failed[prepared.sample.path] = prepared.reasons[-1]
            _store([prepared for prepared in batch if prepared.pixels], values, stores)
            for _ in batch:
                advance()
    return failed


def _values(
    images: Sequence[Image], names: Sequence[str], tower: Tower, stage: Stage
) -> npt.NDArray[np.float32]:
    """The named features side by side, ``(len(images), sum of widths)``."""
    if not images:
        return np.empty((0, feature_width(tower.model.config, names)), np.float32)
    with torch.inference_mode():
        taken = torch.from_numpy(np.stack(images)).to(tower.device)
        pixels = normalized(taken, stage.preprocess).to(tower.dtype)
        values = extract(tower.model, pixels, names)
    result: npt.NDArray[np.float32] = values.float().cpu().numpy()
    return result


def _store(
    good: Sequence[Prepared], values: npt.NDArray[np.float32], stores: Mapping[str, Rows]
) -> None:
    start = 0
    for rows in stores.values():
        stop = start + rows.width
        fresh = [
            (prepared.sha256, values[row, start:stop])
            for row, prepared in enumerate(good)
            if prepared.sha256 is not None and prepared.sha256 not in rows
        ]
        if fresh:
            rows.add([key for key, _ in fresh], np.stack([value for _, value in fresh]))
        start = stop


def hashes_of(samples: Iterable[Sample], workers: int | None) -> list[str]:
    """Content hashes; an empty text where a file cannot be read (it fails again, with a reason)."""

    def one(sample: Sample) -> str:
        try:
            return file_sha256(sample.path)
        except UnmaskError:
            return ""

    with ThreadPoolExecutor(workers or None) as pool:
        return list(pool.map(one, samples))


def _store_name(tower: Tower, stage: Stage, view: int, seed: int) -> str:
    """A folder name that differs whenever a row could."""
    parts = {
        "weights": tower.sha256,
        "dtype": str(tower.dtype),
        "stage": stage.describe(),
        "least_face": stage.min_face_px,
        "preprocess": stage.preprocess.describe(),
        "view": [view, seed] if view else 0,
        "unmask": __version__,
        "format": 2,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
