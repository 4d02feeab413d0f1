"""What is done to a training crop, by the settings."""

from __future__ import annotations

import numpy as np

from unmask.train.augment import apply
from unmask.train.augmentation import parse_augmentation
from unmask.train.batches import Change
from unmask.train.config import TrainConfig
from unmask.train.crops import CachedCrop
from unmask.train.equalise import equalise
from unmask.train.selfblend import self_blended
from unmask.types import Image

__all__ = ["change_of"]

_NO_POINTS = np.empty((0, 2), np.float32)


def change_of(config: TrainConfig) -> Change:
    """The function that alters every training crop, alike for real and fake.

    In the order of what befalls a picture: a forgery, where a crop is to be blended with itself;
    then one size and compression for all sources (``equalise``); then the augmentation.

    The function raises :class:`~unmask.errors.FaceError` for a crop that is to be blended and whose
    landmarks are missing or outside of it.

    Raises:
        ConfigError: If the augmentation is not understood.
    """
    augmentation = parse_augmentation(config.augmentation)

    def change(crop: CachedCrop, blended: bool, rng: np.random.Generator) -> Image:
        image = crop.image
        if blended:
            points = _NO_POINTS if crop.landmarks is None else crop.landmarks
            image, _ = self_blended(image, points, rng)
        if config.equalise:
            image = equalise(image, rng)
        return apply(image, augmentation, rng)

    return change
