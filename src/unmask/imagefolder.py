"""Folders in the form of Hugging Face ``imagefolder``: pictures beside a table about them.

The table is named ``metadata`` and has a column ``file_name``, relative to the table's folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from unmask.errors import ManifestError
from unmask.labels import NO_NAMES, plain_split, split_from_directories
from unmask.magic import IMAGE_SUFFIXES
from unmask.manifest import MANIFEST_SUFFIXES, read_rows, sample_of
from unmask.types import Sample

__all__ = ["is_metadata", "read_imagefolder"]

KEY = "file_name"
_NUMBERS = frozenset({"0", "1"})


def is_metadata(path: Path) -> bool:
    """Whether a file has the name of an imagefolder's table.

    >>> is_metadata(Path("set/train/metadata.jsonl")), is_metadata(Path("set/data.jsonl"))
    (True, False)
    """
    return path.stem == "metadata" and path.suffix.lower() in MANIFEST_SUFFIXES


def read_imagefolder(
    root: Path, files: Sequence[Sample], *, labels: Mapping[str, int] = NO_NAMES
) -> Iterator[Sample]:
    """The samples of the tables' rows, then those of pictures that no row names.

    A table's ``label`` is ``real``, ``fake`` or a name in ``labels``. Numbers must be among them
    too: such sets number their classes by the alphabet, which makes ``fake`` 0. A table without
    the column leaves labels to the directories. A picture that no row names has no label then,
    or that of its directories.

    Args:
        root: The folder that was given.
        files: What lies in it, labelled by directories.
        labels: 0 or 1 for what the column ``label`` may hold.

    Raises:
        ManifestError: A table that is not understood, or two rows for one file.
    """
    tables = [sample.path for sample in files if is_metadata(sample.path)]
    by_directory = {sample.path: sample for sample in files}
    labelled: dict[Path, bool] = {}
    seen: set[Path] = set()
    for table in tables:
        for where, row in read_rows(table, key=KEY):
            labelled[table.parent] = "label" in row
            sample = _sample(row, table, where, root, labels)
            if sample.path in seen:
                raise ManifestError(f"{table}, {where}: {sample.path} has a row already; keep one")
            seen.add(sample.path)
            if "label" not in row and sample.path in by_directory:
                sample = replace(sample, label=by_directory[sample.path].label)
            yield sample
    for sample in files:
        if sample.path.suffix.lower() in IMAGE_SUFFIXES and sample.path not in seen:
            told = any(labelled.get(folder, False) for folder in sample.path.parents)
            yield replace(
                sample,
                label=None if told else sample.label,
                split=split_from_directories(sample.path, root),
            )


def _sample(
    row: Mapping[str, object], table: Path, where: str, root: Path, labels: Mapping[str, int]
) -> Sample:
    label = str(row.get("label")).removesuffix(".0")
    if label in _NUMBERS and label not in labels:
        raise ManifestError(
            f"{table}, {where}: label {label}. An imagefolder numbers its classes as it likes; "
            "say what its numbers mean, for example 0=real and 1=fake."
        )
    sample = sample_of(row, table, where, key=KEY, labels=labels)
    split = plain_split(sample.split) or split_from_directories(sample.path, root)
    return replace(sample, split=split)
