"""What a head learns from: features of both parts of the data, at one crop scale and input size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from unmask.errors import ConfigError
from unmask.images import Limits
from unmask.prepare import Stage
from unmask.preprocess import Preprocess
from unmask.train.data import apart
from unmask.train.features import Features, Tower, features_of, hashes_of
from unmask.types import FaceSpec, Reason, Sample

__all__ = ["Extractor", "Part", "Progress", "describe_input", "make_extractor", "resized"]

_REPEATED = Reason("also_in_validation", "the same bytes are in the validation part")
Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]
"""Given what is done and how many, a context whose function is called once per item."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Features of both parts, of the pictures as they are."""

    train: Features
    val: Features


@dataclass(frozen=True, slots=True, eq=False)
class Extractor:
    """Features of both parts at one crop scale; 0 stands for the whole picture."""

    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    repeated: tuple[Sample, ...]
    """Training samples whose bytes are in the validation part too."""
    data_sha256: str
    """Of the labels, data sets, parts and content hashes of all samples."""
    names: tuple[str, ...]
    tower: Tower
    preprocess: Preprocess
    cache: Path
    seed: int
    finder: str
    least_face_px: float
    progress: Progress

    def stage(self, scale: float) -> Stage:
        """The face stage of a scale: the same that will run when the detector is used."""
        spec = FaceSpec(
            finder=self.finder,
            scale=scale or 1.0,
            size=self.preprocess.height,
            antialias=True,
        )
        return Stage(
            mode="largest" if scale else "none",
            face=spec,
            preprocess=self.preprocess,
            limits=Limits(),
            max_faces=1,
            min_face_px=self.least_face_px,
        )

    def __call__(self, scale: float) -> Part:
        """The features of both parts.

        Raises:
            ConfigError: no sample of a class or part gave a crop.
        """
        train, val = self.of(self.train, scale, 0), self.of(self.val, scale, 0)
        repeated = tuple((sample, _REPEATED) for sample in self.repeated)
        return Part(replace(train, left_out=(*repeated, *train.left_out)), val)

    def views(self, scale: float, *, train: int, val: int) -> Iterator[Features]:
        """Augmented copies: ``train`` of the training part, then ``val`` of the other."""
        for view in range(1, train + 1):
            yield self.of(self.train, scale, view)
        for view in range(1, val + 1):
            yield self.of(self.val, scale, view)

    def of(self, samples: Sequence[Sample], scale: float, view: int) -> Features:
        """Features of these samples; ``view`` 0 is the picture as it is, others are copies."""
        what = f"features, {describe_input(scale)}" + (f", altered copy {view}" if view else "")
        with self.progress(what, len(samples)) as advance:
            found = features_of(
                samples,
                self.names,
                self.tower,
                self.stage(scale),
                cache=self.cache,
                view=view,
                seed=self.seed,
                advance=advance,
            )
        if {sample.label for sample in found.samples} != {0, 1}:
            raise ConfigError(
                f"{len(found.left_out)} of {len(samples)} samples gave no crop, and none is left "
                "of one of the classes; the first reason: "
                f"{found.left_out[0][1].message if found.left_out else 'none'}"
            )
        return found


def make_extractor(
    samples: Sequence[Sample],
    names: Sequence[str],
    tower: Tower,
    preprocess: Preprocess,
    *,
    cache: Path,
    seed: int,
    finder: str,
    least_face_px: float,
    progress: Progress,
) -> Extractor:
    """An extractor of the named features.

    Raises:
        SourceError: as :func:`unmask.train.data.apart`.
    """
    hashes = hashes_of(samples, tower.workers)
    kept, repeated = apart(samples, hashes)
    digest = hashlib.sha256()
    for sample, key in sorted(
        zip(samples, hashes, strict=True), key=lambda pair: (pair[1], pair[0].source)
    ):
        line = f"{key} {sample.label} {sample.split} {sample.dataset}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return Extractor(
        train=tuple(sample for sample in kept if sample.split == "train"),
        val=tuple(sample for sample in kept if sample.split == "val"),
        repeated=tuple(repeated),
        data_sha256=digest.hexdigest(),
        names=tuple(names),
        tower=tower,
        preprocess=preprocess,
        cache=cache,
        seed=seed,
        finder=finder,
        least_face_px=least_face_px,
        progress=progress,
    )


def describe_input(scale: float) -> str:
    """A crop scale in words.

    >>> describe_input(1.3), describe_input(0.0)
    ('aligned face, scale 1.3', 'whole picture')
    """
    return f"aligned face, scale {scale:g}" if scale else "whole picture"


def resized(preprocess: Preprocess, side: int | None, config: object) -> Preprocess:
    """The preprocessing for inputs of ``side`` pixels; as it is where that is None.

    Args:
        preprocess: Of the tower.
        side: Of the square input, a multiple of the tower's patches.
        config: Of the tower.

    Raises:
        ConfigError: the side is not above 0, or cuts patches.
    """
    if side is None:
        return preprocess
    patch = getattr(config, "patch_size", 1)
    patch = patch if isinstance(patch, int) else 1
    if side < patch or side % patch:
        low = max(1, side // patch) * patch
        raise ConfigError(
            f"the resolution is {side}; the tower takes multiples of its patches of {patch} "
            f"pixels, such as {low} or {low + patch}"
        )
    return replace(preprocess, height=side, width=side)
