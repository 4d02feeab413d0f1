"""What a published ``preprocessor_config.json`` means, key by key; nothing is guessed."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from unmask.errors import ConfigError

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Interpolation",
    "ProcessorSteps",
    "ResizeRule",
    "Triple",
    "integer",
    "read_processor_config",
    "triple",
]

ResizeRule = Literal["squash", "shortest_edge", "none"]
Interpolation = Literal["bilinear", "bicubic", "lanczos", "nearest", "cv2_linear"]
Triple = tuple[float, float, float]

_BY_CODE: Mapping[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's codes, which the files use."""

CLIP_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
"""Of OpenAI's CLIP, as in the documented YAML files and in ``OPENAI_CLIP_MEAN``."""
CLIP_STD: Triple = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
_HALF: Triple = (0.5, 0.5, 0.5)

_CLIP_DEFAULTS: Mapping[str, object] = {
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "resample": 3,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
    "square": False,
}
# What each published processor class does where its file is silent (transformers 5,
# models/*/image_processing_pil_*.py). "square": whether a bare integer size means both sides.
_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "CLIP": _CLIP_DEFAULTS,
    "Bit": _CLIP_DEFAULTS,
    "ViT": {
        "size": {"height": 224, "width": 224},
        "resample": 2,
        "image_mean": _HALF,
        "image_std": _HALF,
        "square": True,
    },
    "Siglip": {
        "size": {"height": 224, "width": 224},
        "resample": 3,
        "image_mean": _HALF,
        "image_std": _HALF,
        "square": False,
    },
    "DINOv3ViT": {
        "size": {"height": 224, "width": 224},
        "resample": 2,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
        "square": True,
    },
    "ConvNext": {
        "size": {"shortest_edge": 384},
        "crop_pct": 224 / 256,
        "resample": 3,
        "image_mean": _HALF,
        "image_std": _HALF,
        "square": False,
    },
    "Beit": {
        "size": {"height": 224, "width": 224},
        "crop_size": {"height": 224, "width": 224},
        "resample": 3,
        "image_mean": _HALF,
        "image_std": _HALF,
        "square": True,
    },
    "DeiT": {
        "size": {"height": 256, "width": 256},
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "resample": 3,
        "image_mean": _HALF,
        "image_std": _HALF,
        "square": True,
    },
    "EfficientNet": {
        "size": {"height": 346, "width": 346},
        "crop_size": {"height": 289, "width": 289},
        "resample": 3,
        "image_mean": _HALF,
        "image_std": _HALF,
        "rescale_offset": False,
        "include_top": True,
        "square": True,
    },
}
# Keys that only one family has, by which its steps differ from those of the others.
_OWN_KEYS: Mapping[str, frozenset[str]] = {
    "ConvNext": frozenset({"crop_pct"}),
    "EfficientNet": frozenset({"rescale_offset", "include_top"}),
}
# From this size on ConvNext's processor squashes the whole picture instead of cutting its centre.
_CONVNEXT_SQUASHES = 384
_UNDERSTOOD = frozenset(
    {
        "size",
        "crop_size",
        "do_center_crop",
        "do_resize",
        "do_rescale",
        "do_normalize",
        "rescale_factor",
        "resample",
        "image_mean",
        "image_std",
        "image_processor_type",
        "feature_extractor_type",
    }
)
# Keys that say how a processor is called, not what it computes on an RGB uint8 image.
_WITHOUT_EFFECT = frozenset(
    {
        "processor_class",
        "do_convert_rgb",
        "data_format",
        "input_data_format",
        "return_tensors",
        "default_to_square",
        "do_reduce_labels",
        "reduce_labels",
        "disable_grouping",
        "device",
        "transformers_version",
        "_valid_processor_keys",
        "image_seq_length",
    }
)


@dataclass(frozen=True, slots=True)
class ProcessorSteps:
    """The fields of a ``Preprocess``, as a published processor has them."""

    height: int
    width: int
    resize_rule: ResizeRule
    interpolation: Interpolation
    mean: Triple
    std: Triple
    shortest_edge: int | None


def read_processor_config(config: Mapping[str, object]) -> ProcessorSteps:
    """The steps of a ``preprocessor_config.json`` (or ``processor_config.json``) of the Hub.

    Raises:
        ConfigError: Names the key and value that is not understood.
    """
    nested = config.get("image_processor")
    if isinstance(nested, Mapping):
        config = nested
    family = _family(config)
    _refuse_unknown(config, _UNDERSTOOD | _OWN_KEYS.get(family, frozenset()))
    values = {**_DEFAULTS[family], **{key: v for key, v in config.items() if v is not None}}
    if family == "ConvNext":
        values = _as_crop(values)
    mean, std = _folded_scale(values)
    height, width, rule, edge = _geometry(values)
    interpolation: Interpolation = "bicubic"
    if rule != "none":
        interpolation = _interpolation(values["resample"])
    return ProcessorSteps(height, width, rule, interpolation, mean, std, edge)


def _family(config: Mapping[str, object]) -> str:
    given = config.get("image_processor_type") or config.get("feature_extractor_type")
    name = str(given)
    for suffix in ("Fast", "Pil"):
        name = name.removesuffix(suffix)
    name = name.removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    if given is None or name not in _DEFAULTS:
        raise ConfigError(
            f"preprocessor config: image_processor_type is {given!r}; understood are "
            f"{', '.join(f'{family}ImageProcessor' for family in _DEFAULTS)}"
        )
    return name


def _refuse_unknown(config: Mapping[str, object], understood: Collection[str]) -> None:
    for key, value in config.items():
        # None and False mean that the step does not happen, whatever it is.
        active = value is not None and value is not False
        if active and key not in understood and key not in _WITHOUT_EFFECT:
            raise ConfigError(
                f"preprocessor config: {key} = {value!r} is not understood; its effect on the "
                "input is unknown, so scores could not be trusted"
            )


def _folded_scale(values: Mapping[str, object]) -> tuple[Triple, Triple]:
    """Mean and std on the scale 0..1, with another ``rescale_factor`` worked into them."""
    factor = 1.0
    if values.get("do_rescale", True):
        factor = _number("rescale_factor", values.get("rescale_factor", 1 / 255))
    if factor <= 0:
        raise ConfigError(f"preprocessor config: rescale_factor = {factor} must be positive")
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if values.get("do_normalize", True):
        mean = triple("image_mean", values["image_mean"])
        std = triple("image_std", values["image_std"])
    if values.get("rescale_offset") and values.get("do_rescale", True):
        mean = mean[0] + 1, mean[1] + 1, mean[2] + 1
    if values.get("include_top"):  # EfficientNet's second division, which its weights expect
        again = triple("image_std", values["image_std"])
        std = std[0] * again[0], std[1] * again[1], std[2] * again[2]
    fold = 255 * factor
    if math.isclose(fold, 1.0, rel_tol=1e-9):
        return mean, std
    return _divided(mean, fold), _divided(std, fold)


def _divided(triple: Triple, by: float) -> Triple:
    return triple[0] / by, triple[1] / by, triple[2] / by


def _as_crop(values: Mapping[str, object]) -> dict[str, object]:
    """ConvNext's ``size`` and ``crop_pct`` in the words of the other processors."""
    size = _size("size", values["size"], square=False)
    if isinstance(size, tuple) or values.get("do_center_crop"):
        raise ConfigError(
            f"preprocessor config: size = {values['size']!r} with do_center_crop = "
            f"{values.get('do_center_crop')!r} is not supported for ConvNextImageProcessor; "
            "a shortest_edge and crop_pct were expected"
        )
    share = _number("crop_pct", values["crop_pct"])
    if not 0 < share <= 1:
        raise ConfigError(
            f"preprocessor config: crop_pct = {share} is not a share above 0, up to 1"
        )
    if size >= _CONVNEXT_SQUASHES:
        return {**values, "size": {"height": size, "width": size}}
    edge = int(size / share)
    return {
        **values,
        "size": {"shortest_edge": edge},
        "crop_size": {"height": size, "width": size},
        "do_center_crop": True,
    }


def _geometry(values: Mapping[str, object]) -> tuple[int, int, ResizeRule, int | None]:
    """Height, width, resize rule and shortest edge that a processor file asks for."""
    square = bool(values["square"])
    size = _size("size", values["size"], square=square)
    crop = None
    if values.get("do_center_crop", False):
        crop = _size("crop_size", values.get("crop_size"), square=True)
    if not values.get("do_resize", True):
        if not isinstance(crop, tuple):
            raise ConfigError(
                "preprocessor config: do_resize = False without do_center_crop leaves the size "
                "of the input open; set one of them"
            )
        return *crop, "none", None
    if isinstance(size, tuple):
        if crop is not None and crop != size:
            raise ConfigError(
                f"preprocessor config: crop_size = {values.get('crop_size')!r} after size = "
                f"{values['size']!r} (both sides fixed) is not supported; make them equal"
            )
        return *size, "squash", None
    if not isinstance(crop, tuple):
        raise ConfigError(
            f"preprocessor config: size = {values['size']!r} without do_center_crop gives a "
            "different shape for each picture; a tower needs one"
        )
    return *crop, "shortest_edge", size


def _size(key: str, value: object, *, square: bool) -> int | tuple[int, int]:
    """``(height, width)``, or the shortest edge as an integer."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value) if square else value
    if isinstance(value, Mapping):
        given = {name: side for name, side in value.items() if side is not None}
        if set(given) == {"height", "width"}:
            return integer(key, given["height"]), integer(key, given["width"])
        if set(given) == {"shortest_edge"} and key == "size":
            return integer(key, given["shortest_edge"])
    raise ConfigError(
        f"preprocessor config: {key} = {value!r} is not understood; expected height and width, "
        "shortest_edge (for size), or an integer"
    )


def _interpolation(code: object) -> Interpolation:
    if isinstance(code, int) and code in _BY_CODE:
        return _BY_CODE[code]
    raise ConfigError(
        f"preprocessor config: resample = {code!r} is not supported; "
        f"known are {', '.join(f'{number} ({name})' for number, name in sorted(_BY_CODE.items()))}"
    )


def integer(key: str, value: object) -> int:
    """``value``, which must be an integer; ``ConfigError`` naming ``key`` otherwise."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ConfigError(f"preprocess: {key} = {value!r} must be an integer")


def _number(key: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ConfigError(f"preprocess: {key} = {value!r} must be a number")


def triple(key: str, value: object) -> Triple:
    """``value`` as three floats; ``ConfigError`` naming ``key`` if it is anything else."""
    if isinstance(value, list | tuple) and len(value) == 3:
        return _number(key, value[0]), _number(key, value[1]), _number(key, value[2])
    raise ConfigError(f"preprocess: {key} = {value!r} must be three numbers")
