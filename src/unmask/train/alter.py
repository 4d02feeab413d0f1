"""What is done to a training crop, by the settings' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from unmask.errors import ConfigError, near_names
from unmask.train.augment import augment
from unmask.train.batches import Change
from unmask.train.config import TrainConfig
from unmask.train.crops import CachedCrop
from unmask.types import Image

__all__ = ["change_of"]

_ALTERATIONS: Mapping[str, Callable[[Image, np.random.Generator], Image]] = {
    "none": lambda image, _rng: image,
    "probe": augment,
}


def change_of(config: TrainConfig) -> Change:
    """The function that alters every training crop, alike for real and fake.

    Raises:
        ConfigError: If there is no preset of that name.
    """
    alter = _ALTERATIONS.get(config.augmentation)
    if alter is None:
        raise ConfigError(
            f"augmentation is {config.augmentation!r}. "
            f"{near_names(config.augmentation, _ALTERATIONS)}"
        )

    def change(crop: CachedCrop, label: int, rng: np.random.Generator) -> tuple[Image, int]:
        return alter(crop.image, rng), label

    return change
