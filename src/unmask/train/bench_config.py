"""The YAML files of DeepfakeBench (``effort.yaml``, ``huggingface_clip.yaml``) as our settings.

Every key is honoured, or reported with the reason why not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unmask.errors import ConfigError, near_names
from unmask.train.config import checked_keys
from unmask.train.config_file import read_document

__all__ = ["Given", "read_config_file"]

_MODELS = ("effort", "huggingface_clip")

_ELSEWHERE = "which data are read is said on the command line"
_OUTPUT = "what is written, and where, is said on the command line"
_ALWAYS = "it has no counterpart here"
_IGNORED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("all_dataset", "train_dataset", "test_dataset", "dataset_json_folder", "label_dict"),
            *("dataset_root_rgb", "rgb_dir", "lmdb", "lmdb_dir", "compression", "mode"),
        ),
        _ELSEWHERE,
    ),
    **dict.fromkeys(
        ("log_dir", "logdir", "save_ckpt", "save_feat", "save_avg", "save_epoch", "rec_iter"),
        _OUTPUT,
    ),
    **dict.fromkeys(
        (
            *("video_mode", "clip_size", "with_mask", "with_landmark", "dry_run", "SWA"),
            *("start_epoch", "losstype", "pretrained", "backbone_name", "backbone_config", "ngpu"),
            *("cudnn", "test_batchSize"),
        ),
        _ALWAYS,
    ),
    "cuda": "the device is said on the command line (--device)",
    "workers": "the number of threads is said on the command line (--workers)",
}
_PLAIN: Mapping[str, str] = {
    "train_batchSize": "batch_size",
    "nEpochs": "epochs",
    "manualSeed": "seed",
    "resolution": "resolution",
    "mean": "mean",
    "std": "std",
    "huggingface_model_name": "backbone",
}
"""Keys whose value is taken as it is."""
_OPTIMIZER: Mapping[str, str] = {
    "lr": "lr",
    "beta1": "beta1",
    "beta2": "beta2",
    "eps": "eps",
    "momentum": "momentum",
    "weight_decay": "weight_decay",
}
_OF_A_RECIPE = ("use_svd", "svd_rank", "base", "model_name")
_WITH_RULES = (
    *("optimizer", "lr_scheduler", "loss_func", "metric_scoring", "frame_num"),
    *("use_data_augmentation", "data_aug"),
)
_CHANCES: Mapping[str, str] = {
    "flip_prob": "flip",
    "rotate_prob": "affine",
    "blur_prob": "blur",
    "brightness_prob": "tone",
}
"""Keys of ``data_aug`` that are probabilities, and the knobs of our augmentation."""
_EITHER_WAY: Mapping[str, str] = {
    "rotate_limit": "rotation",
    "brightness_limit": "brightness",
    "contrast_limit": "contrast",
}
"""Keys that are a number, or two of which one is the other's negative."""
_ENDS = ("blur_limit", "quality_lower", "quality_upper")
"""Keys that are ends of ranges."""
_JPEG_CHANCE = 0.5
"""Of DeepfakeBench's loader (``abstract_dataset.py``), where no key says it."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a file says, by field of :class:`unmask.train.config.TrainConfig`."""

    values: Mapping[str, object]
    ignored: tuple[str, ...] = field(default=())
    """A sentence for each key that has no effect."""


def read_config_file(path: Path) -> Given:
    """The settings in a file of ours (YAML, TOML) or of DeepfakeBench (told by ``model_name``).

    Raises:
        ConfigError: If the file cannot be read, or a key or value is not understood.
    """
    document = read_document(path)
    if "model_name" in document:
        return _of_bench(document, path)
    checked_keys(document, str(path))
    return Given(document)


def _of_bench(document: Mapping[str, Any], path: Path) -> Given:
    values: dict[str, object] = {}
    ignored: list[str] = []
    known = {*_IGNORED, *_PLAIN, *_OF_A_RECIPE, *_WITH_RULES}
    for key, value in document.items():
        if key in _IGNORED:
            ignored.append(f"{path}: {key} has no effect: {_IGNORED[key]}")
        elif key in _PLAIN and value is not None:
            values[_PLAIN[key]] = value
        elif key not in known:
            raise ConfigError(f"{path}: {key!r} is not known. {near_names(key, known)}")
    values |= _recipe(document, path)
    values |= _optimizer(document.get("optimizer"), path, ignored)
    _refuse_others(document, path)
    metric = document.get("metric_scoring", "auc")
    if metric != "auc":
        ignored.append(f"{path}: metric_scoring {metric!r} has no effect: the AUC decides")
    values |= _frames(document.get("frame_num"), path, ignored)
    values |= _augmentation(document, path, ignored)
    return Given(values, tuple(ignored))


def _recipe(document: Mapping[str, Any], path: Path) -> dict[str, object]:
    """The recipe of the file; a model without the residual is a head on a frozen tower."""
    name = document["model_name"]
    if name not in _MODELS:
        raise ConfigError(f"{path}: model_name is {name!r}. {near_names(str(name), _MODELS)}")
    found: dict[str, object] = {"recipe": "effort"}
    residual = document.get("use_svd", name == "effort")
    if not isinstance(residual, bool) or (name == "effort" and not residual):
        raise ConfigError(
            f"{path}: use_svd is {residual!r}; expected true or false without quotes, and true of "
            "the model effort, which is the residual"
        )
    if not residual:
        found["recipe"] = "probe"
    elif "svd_rank" in document:
        found["keep"] = document["svd_rank"]
    if document.get("base") is not None:
        found["backbone"] = document["base"]
    return found


def _frames(section: object, path: Path, ignored: list[str]) -> dict[str, object]:
    if section is None:
        return {}
    if not isinstance(section, Mapping) or not {*section} <= {"train", "test"}:
        raise ConfigError(f"{path}: frame_num is {section!r}; 'train' and 'test' were expected")
    if "test" in section:
        ignored.append(f"{path}: frame_num.test has no effect: validation takes all frames")
    return {"frames_per_video": section["train"]} if "train" in section else {}


def _augmentation(document: Mapping[str, Any], path: Path, ignored: list[str]) -> dict[str, object]:
    section = document.get("data_aug")
    used = document.get("use_data_augmentation", True)
    if not isinstance(used, bool):
        raise ConfigError(
            f"{path}: use_data_augmentation is {used!r}; expected true or false, without quotes"
        )
    if not used:
        if section is not None:
            ignored.append(f"{path}: data_aug has no effect: use_data_augmentation is false")
        return {"augmentation": "none"}
    return {} if section is None else {"augmentation": _in_our_words(section, path)}


def _in_our_words(section: object, path: Path) -> str:
    """What ``data_aug`` says (D31: the loader of the published Effort training reads none of it).

    The loader for which the keys were made flips, rotates, blurs, changes brightness and contrast,
    and compresses likewise. It also changes colours in two ways that no key names; those are left
    out, and brightness changes as often as its own key says.
    """
    if not isinstance(section, Mapping):
        raise ConfigError(f"{path}: data_aug is {section!r}; keys such as flip_prob were expected")
    known = (*_CHANCES, *_EITHER_WAY, *_ENDS)
    for key in map(str, section):
        if key not in known:
            raise ConfigError(f"{path}: data_aug.{key} is not known. {near_names(key, known)}")
    ends = {key: _ends(value, f"{path}: data_aug.{key}") for key, value in section.items()}
    knobs = {_CHANCES[key]: f"{ends[key][0]:.10g}" for key in _CHANCES if key in ends}
    for key, knob in _EITHER_WAY.items():
        if key in ends:
            low, high = ends[key]
            if low not in (-high, high):
                raise ConfigError(
                    f"{path}: data_aug.{key} is {section[key]!r}; only ranges about 0, such as "
                    f"[{-abs(high):g}, {abs(high):g}], are supported"
                )
            knobs[knob] = f"{high:.10g}"
    if "blur_limit" in ends:
        # OpenCV's sigma for a kernel of so many pixels, which is what the loader blurs with.
        low, high = (0.3 * ((side - 1) / 2 - 1) + 0.8 for side in ends["blur_limit"])
        knobs["blur_sigma"] = f"{low:.10g}-{high:.10g}"
    if "quality_lower" in ends or "quality_upper" in ends:
        low, high = ends.get("quality_lower", (99.0,))[0], ends.get("quality_upper", (100.0,))[0]
        knobs |= {"jpeg": f"{_JPEG_CHANCE}", "jpeg_quality": f"{low:.10g}-{high:.10g}"}
    return ", ".join(["none", *(f"{knob}={value}" for knob, value in knobs.items())])


def _ends(value: object, name: str) -> tuple[float, float]:
    """A number twice, or two numbers."""
    both = value if isinstance(value, list) else [value, value]
    numbers = [float(each) for each in both if isinstance(each, int | float)]
    if len(both) != 2 or len(numbers) != 2:
        raise ConfigError(f"{name} is {value!r}; a number or two of them were expected")
    return numbers[0], numbers[1]


def _optimizer(section: object, path: Path, ignored: list[str]) -> dict[str, object]:
    if section is None:
        return {}
    kind = section.get("type") if isinstance(section, Mapping) else None
    if not isinstance(section, Mapping) or kind not in ("adam", "sgd"):
        raise ConfigError(f"{path}: optimizer is {section!r}; a type adam or sgd was expected")
    found: dict[str, object] = {"optimizer": kind}
    options = section.get(kind) or {}
    if not isinstance(options, Mapping):
        raise ConfigError(
            f"{path}: optimizer.{kind} is {options!r}; names and values such as lr were expected"
        )
    for key, value in options.items():
        if key in _OPTIMIZER:
            found[_OPTIMIZER[key]] = value
        elif key == "amsgrad" and value is False:
            continue
        else:
            raise ConfigError(
                f"{path}: optimizer.{kind}.{key} is {value!r}, which is not supported; known are "
                f"{', '.join(_OPTIMIZER)}"
            )
    others = [key for key in section if key not in ("type", kind)]
    ignored += [f"{path}: optimizer.{key} has no effect: the type is {kind}" for key in others]
    return found


def _refuse_others(document: Mapping[str, Any], path: Path) -> None:
    """Refuse a loss or a schedule that would change what is trained."""
    for key, only in (("lr_scheduler", None), ("loss_func", "cross_entropy")):
        value = document.get(key, only)
        if value != only:
            raise ConfigError(
                f"{path}: {key} is {value!r}, and only {only!r} is read from such a file; say it "
                "in a file of this tool's own settings (schedule, uniformity, ...)"
            )
