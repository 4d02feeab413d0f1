"""What is done to every training crop, real, fake or pseudo-fake, by the settings."""

from __future__ import annotations

import numpy as np

from unmask.train.batches import Change
from unmask.train.config import TrainConfig
from unmask.train.pictures.augment import apply
from unmask.train.pictures.augmentation import parse_augmentation
from unmask.train.pictures.equalise import equalise
from unmask.types import Image

__all__ = ["change_of"]


def change_of(config: TrainConfig) -> Change:
    """The function that alters every training crop, alike for real and fake.

    In the order of what befalls a picture after it was forged, or was not: one size and compression
    for all sources (``equalise``); then the augmentation.

    Raises:
        ConfigError: If the augmentation is not understood.
    """
    augmentation = parse_augmentation(config.augmentation)

    def change(image: Image, rng: np.random.Generator) -> Image:
        if config.equalise:
            image = equalise(image, rng)
        return apply(image, augmentation, rng)

    return change
