"""Aligned faces and whole pictures of the same samples, learnt by one detector (``faces: both``).

A sample then gives two crops. That of the whole picture stands for itself in a data set of its own,
so that it is balanced, measured and listed apart from the face.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from unmask.evaluate.calibration import sigmoid
from unmask.train.config import TrainConfig
from unmask.train.crops import Crops
from unmask.train.probe import (
    Array,
    Points,
    Validation,
    fit_temperature,
    operating_points,
    validate,
)
from unmask.train.sampling import sampler
from unmask.types import Sample

__all__ = [
    "as_whole_picture",
    "calibrate_domains",
    "domains_of",
    "joined",
    "order_of",
    "validate_domains",
]

_WHOLE = " (whole pictures)"


def as_whole_picture(sample: Sample) -> Sample:
    """The sample as one of the data set of whole pictures."""
    return replace(sample, dataset=f"{sample.dataset or 'data'}{_WHOLE}")


def domains_of(crops: Crops) -> tuple[slice, ...]:
    """The faces, then the whole pictures beside them; one slice where there is one kind."""
    count = len(crops.samples)
    first = count - crops.n_whole
    return (slice(first), slice(first, count)) if crops.n_whole else (slice(count),)


def joined(faces: Crops, whole: Crops) -> Crops:
    """Crops of faces, then those of whole pictures; what gave neither is listed once."""
    failed = {(sample.path, reason.code) for sample, reason in faces.left_out}
    others = [each for each in whole.left_out if (each[0].path, each[1].code) not in failed]
    return Crops(
        samples=(*faces.samples, *map(as_whole_picture, whole.samples)),
        hashes=(*faces.hashes, *whole.hashes),
        left_out=(*faces.left_out, *others),
        files=(*faces.files, *whole.files),
        n_whole=len(whole.samples),
    )


def order_of(crops: Crops, config: TrainConfig) -> Callable[[int], int]:
    """From the number of a slot to that of its crop, as :func:`unmask.train.sampling.sampler`.

    Where there are both, faces and whole pictures come in turn, a real and a fake of each.
    Pseudo-fakes are made of faces alone: of whole pictures no landmarks are kept. So among whole
    pictures the fakes are all true ones, and neither domain has more fakes than the other.
    """
    faces, *whole = (crops.samples[part] for part in domains_of(crops))
    how, seed, pseudo = config.sampling, config.seed, config.self_blended + config.composites
    face_at = sampler(faces, how, seed, pseudo)
    if not whole:
        return face_at
    whole_at = sampler(whole[0], how, seed)

    def at(slot: int) -> int:
        turn, second = divmod(slot, 2)
        inner = turn // 2 * 2 + second
        if turn % 2:
            return len(faces) + whole_at(inner)
        is_forged, number = divmod(face_at(inner), len(faces))
        return number + is_forged * len(crops.samples)

    return at


def validate_domains(logits: Array, crops: Crops) -> Validation:
    """As :func:`unmask.train.probe.validate`, faces and whole pictures each by themselves."""
    found = [validate(logits[part], crops.samples[part]) for part in domains_of(crops)]
    recall = float(np.mean([each.recall_at_fpr5 for each in found]))
    return Validation(tuple(row for each in found for row in each.rows), recall)


def calibrate_domains(logits: Array, crops: Crops, *, source: str) -> list[tuple[float, Points]]:
    """Temperature and operating points of faces, then of whole pictures, as far as there are any.

    Args:
        logits: ``(N,)`` of the validation part, before any temperature.
        crops: N, of the validation part.
        source: What the operating points say that they were chosen on.
    """
    found = []
    for part in domains_of(crops):
        own, samples = logits[part], crops.samples[part]
        temperature = fit_temperature(own, samples)
        points = operating_points(sigmoid(own / temperature), samples, source=source)
        found.append((temperature, points))
    return found
