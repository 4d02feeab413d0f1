"""The detector YAML of the documented commands -> a typed configuration.

Only what concerns inference is kept; the many keys about training are known and left aside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from unmask.errors import ConfigError, near_names

__all__ = ["ScriptConfig", "find_file", "read_script_config"]

Triple = tuple[float, float, float]

_LARGEST = 4096
"""Of the input's side in pixels, and of the pictures per forward pass: more is a slip of the
keyboard, and would end in a lack of memory that names no key."""

# Keys of the original detector, train_config and test_config files that say nothing about how
# one picture is scored. They may stay in a file; they are not read.
_NOT_INFERENCE = frozenset(
    (
        *("all_dataset", "train_dataset", "test_dataset", "dataset_json_folder", "label_dict"),
        *("dataset_root_rgb", "rgb_dir", "lmdb", "lmdb_dir", "compression", "frame_num"),
        *("video_mode", "clip_size", "with_mask", "with_landmark", "workers", "mode", "dry_run"),
        *("use_data_augmentation", "data_aug", "train_batchSize", "optimizer", "lr_scheduler"),
        *("nEpochs", "start_epoch", "save_epoch", "rec_iter", "SWA", "loss_func", "losstype"),
        *("log_dir", "logdir", "save_ckpt", "save_feat", "save_avg", "metric_scoring"),
        # Of the model, but its file says it all (backbone_*), or never read by the original.
        *("backbone_name", "backbone_config", "pretrained", "ngpu", "cudnn"),
    )
)


@dataclass(frozen=True, slots=True)
class ScriptConfig:
    """What a detector YAML says about scoring. Field names are the YAML's keys."""

    model_name: str = "huggingface_clip"
    """Which script the file belongs to."""
    huggingface_model_name: str = "openai/clip-vit-large-patch14"
    use_svd: bool = False
    """Attach the Effort residual to the attention projections."""
    svd_rank: int = 1023
    """Singular directions kept in the frozen part; must be below the tower's width."""
    mean: Triple | None = None
    """Per channel R, G, B, on the scale 0..1; None is that of the model's own processor."""
    std: Triple | None = None
    resolution: int | None = None
    """Side of the input and of face crops, in pixels; None is the tower's own."""
    test_batchSize: int = 32  # noqa: N815  # the key of the file
    manualSeed: int = 1024  # noqa: N815  # the key of the file
    cuda: bool = True
    """False keeps the script off a GPU unless ``--device`` names one."""
    base: str | None = None
    """Folder or Hub id of a CLIP whose configuration says of an Effort file what its tensors
    cannot; None takes OpenAI's CLIP of the same shapes."""


def find_file(path: Path, roots: Sequence[Path]) -> Path | None:
    """``path`` if it exists, else where it exists below the first of ``roots`` that has it."""
    places = [path, *(root / path for root in roots if not path.is_absolute())]
    return next((place for place in places if place.is_file()), None)


def read_script_config(path: Path, *, model: str, warn: Callable[[str], None]) -> ScriptConfig:
    """The configuration in a YAML file; keys that it leaves out have their defaults.

    Args:
        path: The file.
        model: The ``model_name`` of the files that the calling script reads.
        warn: Told about keys that nobody knows.

    Raises:
        ConfigError: The file cannot be read, is no YAML mapping, belongs to another script, or a
            value has the wrong type; names file, key, value and what was expected.
    """
    known = {field.name for field in fields(ScriptConfig)}
    given: dict[str, object] = {}
    for key, value in _mapping(path).items():
        if key in known:
            given[key] = value
        elif key not in _NOT_INFERENCE:
            warn(f"{path}: key {key!r} is not known and has no effect. {near_names(key, known)}")
    config = _typed(path, {"model_name": model, **given})
    if config.model_name != model:
        raise ConfigError(
            f"{path}: model_name is {config.model_name!r}; this script reads {model!r}. "
            "Give the YAML file of this script with --detector_config."
        )
    return config


def _mapping(path: Path) -> dict[str, object]:
    try:
        with path.open(encoding="utf-8") as file:
            document = yaml.safe_load(file)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} cannot be read as YAML: {reason}") from error
    if not isinstance(document, dict):
        raise ConfigError(
            f"{path}: holds {type(document).__name__}; expected a mapping of keys to values such "
            "as 'huggingface_model_name: openai/clip-vit-large-patch14'"
        )
    return {str(key): value for key, value in document.items()}


def _typed(path: Path, given: dict[str, object]) -> ScriptConfig:
    read = _Reader(path, given)
    default = ScriptConfig()
    return ScriptConfig(
        model_name=read.text("model_name", default.model_name),
        huggingface_model_name=read.text("huggingface_model_name", default.huggingface_model_name),
        use_svd=read.truth("use_svd", default.use_svd),
        svd_rank=read.count("svd_rank", default.svd_rank),
        mean=read.triple("mean"),
        std=read.triple("std", positive=True),
        resolution=read.size("resolution"),
        test_batchSize=read.count("test_batchSize", default.test_batchSize, most=_LARGEST),
        manualSeed=read.count("manualSeed", default.manualSeed, least=0),
        cuda=read.truth("cuda", default.cuda),
        base=None if given.get("base") is None else read.text("base", ""),
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Takes typed values out of what a file says."""

    path: Path
    given: dict[str, object]

    def text(self, key: str, default: str) -> str:
        value = self.given.get(key, default)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, "a name")
        return value.strip()

    def truth(self, key: str, default: bool) -> bool:
        value = self.given.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def count(self, key: str, default: int, *, least: int = 1, most: int | None = None) -> int:
        value = self.given.get(key, default)
        bound = "" if most is None else f" to {most}"
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.wrong(key, f"a whole number from {least}{bound}")
        if most is not None and value > most:
            raise self.wrong(key, f"a whole number from {least}{bound}")
        return value

    def size(self, key: str) -> int | None:
        return None if self.given.get(key) is None else self.count(key, 0, most=_LARGEST)

    def triple(self, key: str, *, positive: bool = False) -> Triple | None:
        values = self.given.get(key)
        if values is None:
            return None
        expected = f"three {'positive ' if positive else ''}numbers for R, G, B, or null"
        if not isinstance(values, list) or len(values) != 3:
            raise self.wrong(key, expected)
        numbers = [float(value) for value in values if _is_number(value)]
        if len(numbers) != 3 or (positive and min(numbers) <= 0):
            raise self.wrong(key, expected)
        return numbers[0], numbers[1], numbers[2]

    def wrong(self, key: str, expected: str) -> ConfigError:
        return ConfigError(f"{self.path}: {key} is {self.given[key]!r}; expected {expected}")


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value)
