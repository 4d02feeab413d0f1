"""Labels and splits told from directory names; ``docs/inputs.md`` states the rule."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from unmask.errors import ConfigError
from unmask.types import Label

__all__ = [
    "NO_NAMES",
    "SPLITS",
    "label_from_directories",
    "parse_labels",
    "plain_split",
    "split_from_directories",
]

NO_NAMES: Mapping[str, int] = {}
"""No class names of the user's own."""

SPLITS: Mapping[str, str] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
"""Names of splits, those that Hugging Face ``imagefolder`` takes, to the three of ours."""

# fmt: off
_REAL = frozenset([
    "real", "reals", "original", "originals", "authentic", "genuine", "pristine", "bonafide",
])
_FAKE = frozenset([
    "fake", "fakes", "deepfake", "deepfakes", "synthetic", "synthetics", "synthesis",
    "synthesized", "synthesised", "faceswap", "faceswaps", "faceswapped", "manipulated",
    "manipulation", "manipulations", "forged", "forgery", "forgeries", "tampered", "generated",
    "artificial",
])
_WHOLE = {"nature": 0, "natural": 0, "ai": 1}
"""GenImage calls its classes so; as part of a longer name these words say nothing."""
_DENIALS = frozenset(["not", "non", "no", "un"])
_SUBJECTS = frozenset(["detection", "detector", "detectors", "benchmark", "challenge"])
"""With these the name is that of a project about fakes (``deepfake-detection-challenge``)."""
_PLAIN = frozenset([
    "face", "faces", "image", "images", "img", "imgs", "photo", "photos", "picture", "pictures",
    "video", "videos", "frame", "frames", "data", "class", "celeb", "youtube", "train", "val",
    "test", "sequences",
])
"""What may stand beside a class word in ``CamelCase``: ``RealFaces``, but not ``RealVisXL``."""
# fmt: on

_SEPARATORS = re.compile(r"[\W\d_]+")
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def label_from_directories(path: Path, root: Path, names: Mapping[str, int] = NO_NAMES) -> Label:
    """0 real, 1 fake or None, from the names of the directories between ``root`` and the file.

    The nearest directory whose name decides wins. ``root``'s own name is the last one asked;
    neither the file's name nor anything above ``root`` is looked at.

    Args:
        path: A file below ``root`` (as text: nothing is resolved).
        root: The directory the user named; for a single file its parent.
        names: Whole directory names that decide whatever their words say.

    Raises:
        ValueError: ``path`` is not below ``root``.

    >>> label_from_directories(Path("set/Celeb-real/id0/real_or_not.jpg"), Path("set"))
    0
    >>> label_from_directories(Path("set/realistic_fakes/1.png"), Path("set"))
    1
    >>> label_from_directories(Path("fake/unreal/1.png"), Path("fake/unreal")) is None
    True
    """
    inner = path.relative_to(root).parent.parts
    for name in reversed((Path(os.path.abspath(root)).name, *inner)):  # noqa: PTH100 (links stay)
        label = names[name] if name in names else _label_of(name)
        if label is not None:
            return label
    return None


def split_from_directories(path: Path, root: Path) -> str:
    """``train``, ``val``, ``test`` or empty: the nearest directory below ``root`` that is named so.

    Raises:
        ValueError: ``path`` is not below ``root``.

    >>> split_from_directories(Path("set/validation/fake/1.jpg"), Path("set"))
    'val'
    """
    inner = path.relative_to(root).parent.parts
    return next((SPLITS[name.lower()] for name in reversed(inner) if name.lower() in SPLITS), "")


def plain_split(name: str) -> str:
    """``train``, ``val`` or ``test`` for their other names too; any other name as it is."""
    return SPLITS.get(name.strip().lower(), name.strip())


def parse_labels(pairs: Sequence[str]) -> dict[str, int]:
    """Class names to 0 real, 1 fake, from texts like ``GAN_v2=fake``.

    Raises:
        ConfigError: a text of another form, or one name with two meanings.
    """
    found: dict[str, int] = {}
    for pair in pairs:
        name, sign, meaning = pair.rpartition("=")
        label = {"real": 0, "fake": 1}.get(meaning.strip().lower())
        if not (sign and name.strip()) or label is None:
            raise ConfigError(f"the label {pair!r}: expected NAME=real or NAME=fake")
        if found.setdefault(name.strip(), label) != label:
            raise ConfigError(f"the class {name.strip()!r} is given as real and as fake; keep one")
    return found


@lru_cache(maxsize=4096)
def _label_of(name: str) -> Label:
    """What one directory name says; None where it says nothing, or both."""
    if name.lower() in _WHOLE:
        return _WHOLE[name.lower()]
    words = _words(name)
    real, fake = bool(words & _REAL), bool(words & _FAKE)
    if real == fake or words & (_DENIALS | _SUBJECTS):
        return None
    return 1 if fake else 0


def _words(name: str) -> frozenset[str]:
    """Lower-case words of a name, and each two neighbours joined (``face_swap``)."""
    words: list[str] = []
    for run in filter(None, _SEPARATORS.split(unicodedata.normalize("NFC", name))):
        humps = [hump.lower() for hump in _HUMPS.split(run)]
        known = all(hump in _REAL | _FAKE | _PLAIN | _DENIALS | _SUBJECTS for hump in humps)
        words.extend(humps if known else [run.lower()])
    joined = (a + b for a, b in pairwise(words))
    return frozenset([*words, *joined])
