"""Every knob of a training, typed, with presets by recipe; from files and flags to one value.

What a file may hold is what :class:`TrainConfig` names, see :mod:`unmask.train.config_file`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Literal, get_args, get_type_hints

from unmask.errors import ConfigError, near_names
from unmask.models.configuration import Recipe, Tuning
from unmask.train.pictures.augmentation import parse_augmentation

__all__ = ["PRESETS", "TrainConfig", "checked_keys", "make_config"]

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a detector is fine-tuned. A preset of the recipe comes first, then a file, then flags.

    Raises:
        ConfigError: If a value is out of its range, or two contradict each other.
    """

    # What is trained
    recipe: Recipe = "effort"
    """Which weights change, see :mod:`unmask.models.tuning`."""
    backbone: str = "builtin"
    """The tower it starts from: built-in name, model folder, or Hub id."""
    features: tuple[str, ...] = ("pooler",)
    """What of the tower the head sees, such as ``pooler`` or ``mean@6``."""
    outputs: int = 1
    """Of the head: 1 logit, or 2 whose difference it is. The same function, but Adam moves two
    weights where it would move one."""
    normalize: bool = False
    """Whether the head sees the feature scaled to unit length."""
    head_start: Literal["probe", "random", "kept"] = "probe"
    """``probe`` starts from a logistic regression on the features of the untouched tower, of
    crops altered as in the steps, tempered on the validation part. ``kept`` goes on with the head
    of the detector that ``backbone`` names, which must see the same features."""
    keep: int | float = -1
    """Of ``effort``, as in :class:`unmask.models.configuration.Tuning`."""
    targets: str | tuple[str, ...] = "attention"
    """Of ``effort`` and ``lora``, likewise."""
    lora_rank: int = 8
    """Of ``lora``, likewise."""
    lora_alpha: float = 16.0
    """Of ``lora``, likewise."""
    frozen_blocks: int = 0
    """Of ``full``: so many first blocks, and what comes before them, stay as they are."""

    # What it sees
    faces: Literal["largest", "none", "both"] = "largest"
    """``largest`` learns from aligned faces, ``none`` from whole pictures, ``both`` from the face
    and the whole of each picture, see :mod:`unmask.train.domains`."""
    crop_scale: float = 1.3
    """How much wider than the bare face template a crop is."""
    least_face_px: float = 32.0
    """Faces whose box is smaller are left out."""
    resolution: int | None = None
    """Side of the input in pixels; None is the tower's own."""
    mean: Triple | None = None
    """Subtracted from R, G, B on the scale 0..1; None is the tower's own."""
    std: Triple | None = None
    """Divided by; None is the tower's own."""
    frames_per_video: int | None = None
    """At most so many frames of a training video, evenly spaced; None is all."""
    sampling: Literal["balanced", "paired", "shuffled"] = "balanced"
    """``balanced`` shows both classes equally often, and within a class every data set;
    ``paired`` puts a fake beside the real that it was made from (column ``pair``);
    ``shuffled`` shows every sample once per epoch."""
    augmentation: str = "standard"
    """How training crops are altered, alike for both classes: ``none``, ``probe``, ``standard``,
    ``strong``, ``effort`` or ``gend``, with changes where they follow, such as
    ``standard, jpeg=0.9``; see :mod:`unmask.train.pictures.augmentation`."""
    equalise: bool = False
    """Whether every crop first gets a size and a compression from one distribution for all
    sources, see :mod:`unmask.train.pictures.equalise`."""
    self_blended: float = 0.0
    """Share of the fakes in whose place reals blended with themselves are shown, see
    :mod:`unmask.train.pictures.selfblend`."""
    composites: float = 0.0
    """Share of the fakes in whose place reals with eyes, nose or mouth of another real are shown,
    see :mod:`unmask.train.pictures.composite`."""

    # How long, and how much at once
    epochs: float = 5.0
    """An epoch is as many crops as there are training samples."""
    steps: int | None = None
    """Instead of ``epochs``: how many times the weights change."""
    batch_size: int = 32
    """Crops per step, over all processes and parts together."""
    accumulation: int = 1
    """Parts in which a process computes its share of a step, to save memory. With
    ``uniformity`` or ``alignment`` pairs are formed within a part only."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the tower computes in; weights and head stay float32."""
    evaluations_per_epoch: int = 1
    """How often the validation part is scored."""
    patience: int | None = None
    """Stop after so many evaluations in a row without a better one; None never."""
    checkpoint_steps: int = 500
    """Steps between checkpoints; each evaluation makes one, too."""

    # How the weights change
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    """``adam`` adds the weight decay to the gradient (coupled L2), ``adamw`` does not."""
    lr: float = 1e-4
    """Learning rate after the warm-up."""
    head_lr: float | None = None
    """Learning rate of the head; None is ``lr``."""
    beta1: float = 0.9
    """Decay of Adam's mean of gradients."""
    beta2: float = 0.999
    """Decay of Adam's mean of squared gradients."""
    eps: float = 1e-8
    """Added to Adam's denominator."""
    momentum: float = 0.9
    """Of ``sgd``."""
    weight_decay: float = 0.0
    """Pull of the weights to 0."""
    decay_only_matrices: bool = False
    """Whether biases and layer norms are left out of the weight decay."""
    layer_decay: float = 1.0
    """Of ``full``: the learning rate of each block is this many times that of the next one."""
    clip_norm: float | None = None
    """Longest gradient, over all weights together; None never shortens one."""
    schedule: Literal["constant", "cosine"] = "constant"
    """``cosine`` falls to ``min_lr`` at the end."""
    warmup_epochs: float = 0.0
    """The learning rate rises linearly from 0 for so long."""
    min_lr: float = 0.0
    """Where ``cosine`` ends."""
    ema: float = 0.0
    """Decay per step of the running mean of the weights that is evaluated and kept; 0 is none."""

    # What is minimised beside the cross-entropy, with these weights
    label_smoothing: float = 0.0
    """Share of each label that is spread over both classes."""
    uniformity: float = 0.0
    """Wang and Isola 2020, on features of unit length, see :mod:`unmask.train.losses`."""
    alignment: float = 0.0
    """Likewise."""
    orthogonality: float = 0.0
    """Of ``effort``, see :mod:`unmask.models.penalties`."""
    kept_singular_values: float = 0.0
    """Likewise."""

    # Chance
    seed: int = 0
    """Of the split, the order, the altered crops, the head and LoRA."""
    deterministic: bool = True
    """On a GPU, only algorithms that give the same sum each time; slower, but two runs agree."""

    def __post_init__(self) -> None:
        """Refuse values outside their range, and those that contradict each other."""
        self.tuning()
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name} is {value}; it must be {_range(low, high)}")
        for name in _CHOICES:
            _check_choice(name, getattr(self, name))
        parse_augmentation(self.augmentation)
        _check_lists(self)
        _check_together(self)

    def tuning(self) -> Tuning:
        """The part that decides which weights train."""
        return Tuning(self.recipe, self.keep, self.lora_rank, self.lora_alpha, self.targets)


_TINY = math.ulp(0.0)
"""The least number above 0: a range from here on leaves 0 out."""
_RANGES: Mapping[str, tuple[float, float]] = {
    "outputs": (1, 2),
    "frozen_blocks": (0, math.inf),
    "crop_scale": (0.5, 10),
    "least_face_px": (1, 10_000),
    "resolution": (16, 4096),
    "frames_per_video": (1, math.inf),
    "self_blended": (0, 1),
    "composites": (0, 1),
    "epochs": (_TINY, 100_000),
    "steps": (1, 1_000_000_000),
    "batch_size": (1, 100_000),
    "accumulation": (1, 100_000),
    "evaluations_per_epoch": (1, 1000),
    "patience": (1, math.inf),
    "checkpoint_steps": (1, math.inf),
    "lr": (_TINY, 10),
    "head_lr": (_TINY, 10),
    "beta1": (0, 1 - 1e-9),
    "beta2": (0, 1 - 1e-9),
    "eps": (_TINY, 1),
    "momentum": (0, 1 - 1e-9),
    "weight_decay": (0, 10),
    "layer_decay": (_TINY, 1),
    "clip_norm": (_TINY, 1e9),
    "warmup_epochs": (0, 100_000),
    "min_lr": (0, 10),
    "ema": (0, 1 - 1e-9),
    "label_smoothing": (0, 0.5),
    "uniformity": (0, 1000),
    "alignment": (0, 1000),
    "orthogonality": (0, 1000),
    "kept_singular_values": (0, 1000),
    "seed": (0, 2**62),
}
_CHOICES = ("faces", "head_start", "sampling", "precision", "optimizer", "schedule")

_GEND: Mapping[str, Any] = {
    "outputs": 2,
    "normalize": True,
    "head_start": "random",
    "augmentation": "gend",
    "batch_size": 128,
    "epochs": 30.0,
    "precision": "bfloat16",
    "lr": 3e-4,
    "schedule": "cosine",
    "warmup_epochs": 1.0,
    "min_lr": 1e-5,
    "uniformity": 0.5,
    "alignment": 0.1,
}
PRESETS: Mapping[Recipe, Mapping[str, Any]] = {
    # The released recipe of YZY-stack/Effort-AIGI-Detection: coupled weight decay, no schedule,
    # and the augmentation of its code (that of its settings file is never read, D31).
    "effort": {
        "outputs": 2,
        "head_start": "random",
        "sampling": "shuffled",
        "augmentation": "effort",
        "epochs": 10.0,
        "evaluations_per_epoch": 2,
        "optimizer": "adam",
        "lr": 2e-4,
        "weight_decay": 5e-4,
    },
    # GenD (Yermakov et al., arXiv:2508.06248), one cosine in place of restarts every 10 epochs.
    "layernorm": _GEND,
    "lora": {
        "lr": 2e-4,
        "weight_decay": 0.01,
        "schedule": "cosine",
        "warmup_epochs": 0.5,
        "clip_norm": 1.0,
    },
    # Layer-wise decay as in BEiT (Bao et al., arXiv:2106.08254), where whole towers are tuned.
    "full": {
        "lr": 5e-5,
        "head_lr": 5e-4,
        "weight_decay": 0.05,
        "decay_only_matrices": True,
        "layer_decay": 0.75,
        "schedule": "cosine",
        "warmup_epochs": 0.5,
        "clip_norm": 1.0,
    },
    "probe": {"lr": 1e-3},
}
"""By recipe, what differs from the defaults of :class:`TrainConfig`."""


def make_config(
    recipe: str | None, given: Mapping[str, object], flags: Mapping[str, object], *, where: str
) -> TrainConfig:
    """The preset of the recipe, overridden by a file, overridden by flags.

    Args:
        recipe: None takes the file's, else ``effort``.
        given: What a file says, by field.
        flags: What the command line says, by field.
        where: What messages call the file.

    Raises:
        ConfigError: If a name is unknown (near names are offered), a value has the wrong type or
            is out of its range, or values contradict each other.
    """
    values = _typed(given, where) | _typed(flags, "the options")
    named = str(recipe or values.get("recipe", "effort"))
    preset = next((values for name, values in PRESETS.items() if name == named), None)
    if preset is None:
        raise ConfigError(f"the recipe {named!r} is not known. {near_names(named, PRESETS)}")
    return TrainConfig(**{**preset, **values, "recipe": named})


def checked_keys(given: Mapping[str, object], where: str) -> None:
    """Nothing, if every name is a field.

    Raises:
        ConfigError: Names the first that is not, and those nearest to it.
    """
    known = {field.name for field in fields(TrainConfig)}
    for name in given:
        if name not in known:
            raise ConfigError(f"{where}: {name!r} is not known. {near_names(name, known)}")


_SHOWN = 200
"""Characters of a refused value that a message repeats."""


@cache
def _hints() -> Mapping[str, Any]:
    return get_type_hints(TrainConfig)


def _typed(given: Mapping[str, object], where: str) -> dict[str, Any]:
    """The values in the types of the fields; text that is a number is one (YAML's 1e-4)."""
    from pydantic import TypeAdapter, ValidationError

    checked_keys(given, where)
    typed: dict[str, Any] = {}
    for name, value in given.items():
        hint, shown = _hints()[name], repr(value)[:_SHOWN]
        if isinstance(value, bool) and hint is not bool:  # pydantic takes true as 1
            raise ConfigError(f"{where}: {name} is {shown}; true and false are no value for it")
        try:
            typed[name] = TypeAdapter(hint).validate_python(value)
        except ValidationError as error:
            expected = " or ".join(dict.fromkeys(one["msg"] for one in error.errors()))
            raise ConfigError(f"{where}: {name} is {shown}: {expected}") from error
    return typed


def _range(low: float, high: float) -> str:
    least = "above 0" if low == _TINY else f"{low:g} or more"
    if high == math.inf:
        return least
    return f"above 0, {high:g} at most" if low == _TINY else f"{low:g} to {high:g}"


def _check_choice(name: str, value: object) -> None:
    known = get_args(_hints()[name])
    if value not in known:
        raise ConfigError(f"{name} is {value!r}. {near_names(str(value), known)}")


def _check_together(config: TrainConfig) -> None:
    """Refuse values that are sound alone and mean nothing together."""
    if config.batch_size % config.accumulation:
        raise ConfigError(
            f"a batch_size of {config.batch_size} is not divided evenly by an accumulation of "
            f"{config.accumulation}; change one of them"
        )
    if config.min_lr > config.lr:
        raise ConfigError(f"min_lr is {config.min_lr}, above lr, which is {config.lr}")
    penalised = config.orthogonality or config.kept_singular_values
    if penalised and config.recipe != "effort":
        raise ConfigError(
            "orthogonality and kept_singular_values are penalties of the recipe 'effort'; with "
            f"{config.recipe!r} leave them at 0"
        )
    for name, default in (("layer_decay", 1), ("frozen_blocks", 0)):
        if getattr(config, name) != default and config.recipe != "full":
            raise ConfigError(
                f"{name} is for the recipe 'full', not for {config.recipe!r}; leave it at {default}"
            )
    for name in ("self_blended", "composites"):
        if getattr(config, name) and (config.faces == "none" or config.crop_scale < 1):
            raise ConfigError(
                f"{name} is {getattr(config, name)}, with faces {config.faces!r} and a crop_scale "
                f"of {config.crop_scale}; a pseudo-fake is made of a face that is wholly seen: "
                "faces 'largest' or 'both' and a crop_scale of at least 1"
            )
    if config.self_blended + config.composites > 1:
        raise ConfigError(
            f"self_blended is {config.self_blended} and composites {config.composites}; both are "
            "shares of the fakes and make 1 together at most"
        )


def _check_lists(config: TrainConfig) -> None:
    """Refuse a mean, a deviation or features that nothing can be computed with."""
    for name, low, high in (("mean", 0.0, 1.0), ("std", 1e-3, 10.0)):
        triple = getattr(config, name)
        if triple is not None and not all(low <= value <= high for value in triple):
            raise ConfigError(f"{name} is {triple}; each must be {_range(low, high)}")
    if len(set(config.features)) != len(config.features) or not config.features:
        raise ConfigError(
            f"features are {', '.join(config.features) or 'none'}; name at least one, each once"
        )
