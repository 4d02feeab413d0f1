"""Which forgery is made of a real training crop, and of the face of whom."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from unmask.errors import ConfigError, FaceError
from unmask.files import one_line
from unmask.train.config import TrainConfig
from unmask.train.crops import Crops
from unmask.train.pictures.composite import composed
from unmask.train.pictures.selfblend import self_blended
from unmask.types import Image, Sample

__all__ = ["Forge", "forge_of"]

Forge = Callable[[int, np.random.Generator], Image]
"""Given the number of a real crop and where chance comes from: a pseudo-fake made of it."""

_DONORS = 16
"""So many faces are candidates: those whose landmarks lie most like the other's, since a part of a
face that looks elsewhere fits nobody."""

_NO_POINTS = np.empty((0, 2), np.float32)


def forge_of(crops: Crops, config: TrainConfig) -> Forge:
    """The function that makes pseudo-fakes, by ``self_blended`` and ``composites``.

    The function raises :class:`~unmask.errors.FaceError` for a crop whose landmarks are missing,
    outside of it, or so near to each other that there is nothing to blend; it names the file.

    Raises:
        ConfigError: If composites are asked for and there is no second person among the reals.
    """
    share = config.composites / ((config.composites + config.self_blended) or 1)
    donors = _donors(crops) if share else {}

    def forge(index: int, rng: np.random.Generator) -> Image:
        try:
            return made(index, rng)
        except FaceError as error:
            raise FaceError(
                f"no pseudo-fake can be made of {one_line(crops.samples[index].source)}: {error} "
                "Take that file out, or give a smaller crop_scale, a larger resolution, or "
                "self_blended 0 and composites 0."
            ) from error

    def made(index: int, rng: np.random.Generator) -> Image:
        crop = crops[index]
        points = _NO_POINTS if crop.landmarks is None else crop.landmarks
        if share and (share == 1 or rng.random() < share):
            donor = crops[int(rng.choice(donors[index]))]
            other = _NO_POINTS if donor.landmarks is None else donor.landmarks
            return composed(crop.image, points, donor.image, other, rng)[0]
        return self_blended(crop.image, points, rng)[0]

    return forge


def _donors(crops: Crops) -> dict[int, npt.NDArray[np.int64]]:
    """Of each real face those others that may lend it parts, nearest first.

    Of the same data set, so that size and compression give nothing away, where that has another
    person (``group``); else of all.
    """
    reals = [index for index, sample in enumerate(crops.samples) if sample.label == 0]
    points = {index: crops[index].landmarks for index in reals}
    shape_of = {i: (each - each.mean(0)).ravel() for i, each in points.items() if each is not None}
    faces, shapes = list(shape_of), np.array(list(shape_of.values()))
    sets = np.array([crops.samples[index].dataset for index in faces])
    people = np.array([_person(crops.samples[index]) for index in faces])
    found = {}
    for index, shape in zip(faces, shapes, strict=True):
        others = people != _person(crops.samples[index])
        own_set = others & (sets == crops.samples[index].dataset)
        allowed = np.flatnonzero(own_set if own_set.any() else others)
        if not len(allowed):
            raise ConfigError(
                f"composites need the faces of at least two people among the reals; all "
                f"{len(faces)} are of the group {people[0]!r}. Give other data, or composites 0."
            )
        distances = ((shapes[allowed] - shape) ** 2).sum(1)
        nearest = allowed[np.argsort(distances, kind="stable")[:_DONORS]]
        found[index] = np.array(faces)[nearest]
    return found


def _person(sample: Sample) -> str:
    """Whose face it is, as far as is known."""
    return f"{sample.dataset}/{sample.group or sample.video or sample.path}"
