"""``config.json`` of a detector folder, and the typed form in which the rest of the code has it.

The fields are described in ``docs/detector-folder.md``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

# AutoConfig is reached as an attribute, at call time: importing it makes _transformers register
# our own configuration, which needs this module complete.
import transformers
from transformers import PreTrainedConfig

from unmask.errors import ConfigError
from unmask.models import field_checks
from unmask.models.weights import NONSENSE, reason, refuse_redirection
from unmask.models.whole_pictures import WholePictures, read_whole_pictures
from unmask.preprocess import Preprocess
from unmask.types import FaceSpec, OperatingPoint

__all__ = [
    "FORMAT_VERSION",
    "AdapterSpec",
    "BackboneSource",
    "DetectorSpec",
    "Domain",
    "HeadSpec",
    "Recipe",
    "Tuning",
    "UnmaskConfig",
    "WholePictures",
    "backbone_config_of",
    "read_spec",
    "tower_config",
]

FORMAT_VERSION = 1
Domain = Literal["face", "image"]
Recipe = Literal["probe", "effort", "layernorm", "lora", "full"]
_NOT_OF_THE_TOWER = frozenset(
    {"_name_or_path", "architectures", "dtype", "id2label", "label2id", "transformers_version"}
)
ID2LABEL = {0: "real", 1: "fake"}
_MOST_OUTPUTS = 100_000
LABEL2ID = {name: number for number, name in ID2LABEL.items()}


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """The shape of the head, and whether it ever learnt anything; see :class:`Head`."""

    outputs: int = 1
    normalize: bool = False
    trained: bool = True
    kind: Literal["linear"] = "linear"
    fakes: int = 1
    """How many of the outputs, the last ones, stand for fakes."""


@dataclass(frozen=True, slots=True)
class BackboneSource:
    """Where the tower came from; ``revision`` is a commit, ``sha256`` that of its weights file."""

    id: str
    revision: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Tuning:
    """What of a tower is trained beside the head; see :mod:`unmask.models.tuning`.

    Raises:
        ConfigError: If a value is not one that the recipe can work with.
    """

    recipe: Recipe = "probe"
    keep: int | float = -1
    """Of ``effort``: singular triples of each layer that stay frozen. Negative counts from the
    layer's width (-1 trains one triple), below 1 it is a fraction of the width."""
    lora_rank: int = 8
    """Of ``lora``: the width of the product that is added to each layer."""
    lora_alpha: float = 16.0
    """Of ``lora``: the product is multiplied by ``lora_alpha / lora_rank``."""
    targets: str | tuple[str, ...] = "attention"
    """Of ``effort`` and ``lora``: which linear layers, as :func:`unmask.models.effort.attach`."""

    def __post_init__(self) -> None:
        numbers = field_checks.is_number(self.keep) and field_checks.is_number(self.lora_alpha)
        names = (self.targets,) if isinstance(self.targets, str) else self.targets
        by_name = isinstance(names, tuple) and all(isinstance(one, str) for one in names)
        if not isinstance(self.recipe, str) or self.recipe not in get_args(Recipe):
            known = ", ".join(get_args(Recipe))
            raise ConfigError(f"the recipe {self.recipe!r} is not known; known are {known}")
        if type(self.lora_rank) is not int or self.lora_rank < 1:
            raise ConfigError(f"lora_rank is {self.lora_rank!r}, not a whole number above 0")
        if not numbers or not 0 < self.lora_alpha < math.inf:
            raise ConfigError(
                f"keep is {self.keep!r} and lora_alpha {self.lora_alpha!r}; a number, and one "
                "above 0, were expected"
            )
        if not self.targets or not by_name:
            raise ConfigError(f"targets is {self.targets!r}, not a name of layers or several")


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """What a folder that holds only the changes of a training says about them."""

    tuning: Tuning
    base: BackboneSource
    """The tower that was trained. Its ``sha256`` is that of the tower's content, not of a file;
    see :mod:`unmask.models.fingerprint`."""
    changed: tuple[str, ...]
    """The layers (``effort``, ``lora``) or tensors (``layernorm``, ``full``) that the file has,
    by their names in published files."""


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """Everything that ``config.json`` says, checked."""

    backbone_config: Mapping[str, Any]
    """Of the tower alone, as transformers writes it; never that of a model with a text tower."""
    features: tuple[str, ...]
    head: HeadSpec
    preprocess: Preprocess
    domain: Domain = "image"
    face: FaceSpec | None = None
    temperature: float = 1.0
    calibration_record: Mapping[str, Any] = field(default_factory=dict)
    """How temperature and operating points came about, where ``unmask calibrate`` chose them."""
    operating_points: tuple[OperatingPoint, ...] = ()
    whole_pictures: WholePictures | None = None
    """Of domain ``face``; None where it learnt from faces alone."""
    backbone_source: BackboneSource | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    license: str = ""
    adapter: AdapterSpec | None = None
    """Of an adapter folder; None where the weights are whole."""

    def to_config(self) -> UnmaskConfig:
        """The configuration that :func:`read_spec` reads back."""
        source = self.backbone_source
        record = {"record": dict(self.calibration_record)} if self.calibration_record else {}
        return UnmaskConfig(
            format_version=FORMAT_VERSION,
            backbone_config=dict(self.backbone_config),
            features=list(self.features),
            head=asdict(self.head),
            preprocess=self.preprocess.to_dict(),
            domain=self.domain,
            face=None if self.face is None else asdict(self.face),
            calibration={"temperature": self.temperature, **record},
            operating_points=[asdict(point) for point in self.operating_points],
            whole_pictures=None if self.whole_pictures is None else self.whole_pictures.to_dict(),
            backbone_source=None if source is None else asdict(source),
            training=dict(self.training),
            license=self.license,
            adapter=None if self.adapter is None else asdict(self.adapter),
        )


class UnmaskConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers is untyped for mypy
    """The configuration that transformers' Auto classes read and write.

    Anything may be missing here, since transformers builds empty configurations;
    :func:`read_spec` is where it is checked.
    """

    model_type = "unmask"

    def __init__(
        self,
        *,
        format_version: int | None = None,
        backbone_config: dict[str, Any] | None = None,
        features: list[str] | None = None,
        head: dict[str, Any] | None = None,
        preprocess: dict[str, Any] | None = None,
        domain: str = "image",
        face: dict[str, Any] | None = None,
        calibration: dict[str, Any] | None = None,
        operating_points: list[dict[str, Any]] | None = None,
        whole_pictures: dict[str, Any] | None = None,
        backbone_source: dict[str, Any] | None = None,
        training: dict[str, Any] | None = None,
        license: str = "",  # noqa: A002, RUF100  # the key's name in model cards
        adapter: dict[str, Any] | None = None,
        id2label: Mapping[int, str] | None = None,
        **kwargs: Any,  # noqa: ANN401  # transformers passes its own fields through
    ) -> None:
        kwargs.setdefault("label2id", dict(LABEL2ID))
        super().__init__(id2label=dict(ID2LABEL if id2label is None else id2label), **kwargs)
        self.format_version = format_version
        self.backbone_config = backbone_config
        self.features = features
        self.head = head
        self.preprocess = preprocess
        self.domain = domain
        self.face = face
        # Not a field of its own: transformers takes a bare `temperature` for text generation's.
        self.calibration = calibration
        self.operating_points = operating_points
        if whole_pictures is not None:  # most folders have none, and keep the bytes they had
            self.whole_pictures = whole_pictures
        self.backbone_source = backbone_source
        self.training = training
        self.license = license
        self.adapter = adapter


def read_spec(config: UnmaskConfig) -> DetectorSpec:
    """What a configuration says, checked part by part.

    Raises:
        ConfigError: Names the field, what it holds and what was expected.
    """
    if config.format_version != FORMAT_VERSION:
        raise ConfigError(
            f"config.json: format_version is {config.format_version!r}; this version of unmask "
            f"reads {FORMAT_VERSION}. Update unmask, or convert the detector again."
        )
    if config.id2label != ID2LABEL or config.label2id != LABEL2ID:
        raise ConfigError(
            f"config.json: id2label is {config.id2label} and label2id {config.label2id}; they must "
            f"be {ID2LABEL} and {LABEL2ID}, since a swapped label would turn every answer round"
        )
    domain: Domain = config.domain  # type: ignore[assignment]  # checked on the next line
    if not isinstance(domain, str) or domain not in get_args(Domain):
        raise ConfigError(f"config.json: domain is {domain!r}, not one of {get_args(Domain)}")
    points = [] if config.operating_points is None else config.operating_points
    if not isinstance(points, list):
        raise ConfigError(f"config.json: operating_points is {points!r}; a list was expected")
    source, training = config.backbone_source, config.training or {}
    if not isinstance(training, Mapping):
        raise ConfigError(f"config.json: training is {training!r}; an object was expected")
    if not isinstance(config.license, str):
        raise ConfigError(f"config.json: license is {config.license!r}; a string was expected")
    return DetectorSpec(
        backbone_config=_backbone_config(config),
        features=_features(config),
        head=_head(_mapping(config, "head")),
        preprocess=field_checks.preprocess(_mapping(config, "preprocess")),
        domain=domain,
        face=None if config.face is None else field_checks.face(_mapping(config, "face")),
        temperature=field_checks.temperature(_mapping(config, "calibration")),
        calibration_record=field_checks.record(_mapping(config, "calibration")),
        operating_points=tuple(field_checks.point(one) for one in points),
        whole_pictures=read_whole_pictures(getattr(config, "whole_pictures", None), domain),
        backbone_source=None if source is None else _source("backbone_source", source),
        training=training,
        license=config.license,
        adapter=None if config.adapter is None else _adapter(_mapping(config, "adapter")),
    )


def tower_config(values: Mapping[str, Any]) -> PreTrainedConfig:
    """The transformers configuration that a nested ``backbone_config`` stands for.

    Raises:
        ConfigError: If it has no ``model_type``, or one that transformers does not know; if its
            fields cannot be those of one, or take weights from elsewhere.
    """
    rest = dict(values)
    model_type = rest.pop("model_type", None)
    if not isinstance(model_type, str) or model_type not in transformers.CONFIG_MAPPING:
        raise ConfigError(
            f"config.json: backbone_config.model_type is {model_type!r}, which the installed "
            "transformers does not know; update transformers"
        )
    refuse_redirection(rest, "config.json: backbone_config")
    try:
        return transformers.AutoConfig.for_model(model_type, **rest)
    except NONSENSE as error:
        raise ConfigError(
            f"config.json: backbone_config is not what a {model_type!r} is made of: {reason(error)}"
        ) from error


def backbone_config_of(config: PreTrainedConfig) -> dict[str, Any]:
    """What ``backbone_config`` holds for a tower with this configuration.

    All its fields are written, also those at their default, which may change in transformers;
    where it came from and what it was called are not.
    """
    values: dict[str, Any] = config.to_dict()
    return {key: value for key, value in values.items() if key not in _NOT_OF_THE_TOWER}


def _backbone_config(config: UnmaskConfig) -> Mapping[str, Any]:
    values = _mapping(config, "backbone_config")
    if "model_type" not in values:
        raise ConfigError("config.json: backbone_config has no model_type")
    return values


def _features(config: UnmaskConfig) -> tuple[str, ...]:
    features = config.features
    is_list = isinstance(features, list) and all(isinstance(name, str) for name in features)
    if not is_list or not features:
        raise ConfigError(
            f"config.json: features is {features!r}, not a list of names like ['pooler']"
        )
    return tuple(features)


def _head(values: Mapping[str, Any]) -> HeadSpec:
    spec = field_checks.build(HeadSpec, "head", values)
    counts = (spec.outputs, spec.fakes)
    whole = all(type(count) is int and abs(count) <= _MOST_OUTPUTS for count in counts)
    if spec.kind != "linear" or not whole:
        raise ConfigError(
            f"config.json: head is {dict(values)}; known is kind 'linear' with whole numbers of "
            "outputs and fakes"
        )
    if not (counts == (1, 1) or 1 <= spec.fakes < spec.outputs):
        raise ConfigError(
            f"config.json: head has {spec.outputs} outputs and {spec.fakes} of them fake; one "
            "output, or several of which some are fake, were expected"
        )
    if "trained" not in values or not isinstance(spec.trained, bool):
        raise ConfigError("config.json: head.trained must say true or false")
    if not isinstance(spec.normalize, bool):
        raise ConfigError(
            f"config.json: head.normalize is {spec.normalize!r}; it must say true or false"
        )
    return spec


def _source(name: str, values: object) -> BackboneSource:
    source = field_checks.build(BackboneSource, name, values)
    if not isinstance(source.id, str) or not source.id:
        raise ConfigError(f"config.json: {name}.id is {source.id!r}; a name was expected")
    for part in ("revision", "sha256"):
        value = getattr(source, part)
        if not isinstance(value, str | None):
            raise ConfigError(
                f"config.json: {name}.{part} is {value!r}; a string or null was expected"
            )
    return source


def _adapter(values: Mapping[str, Any]) -> AdapterSpec:
    parts: dict[str, Any] = dict(values)
    if "tuning" in parts:
        tuning = parts["tuning"]
        if isinstance(tuning, Mapping) and isinstance(tuning.get("targets"), list):
            tuning = {**tuning, "targets": tuple(tuning["targets"])}  # JSON has no tuples
        parts["tuning"] = field_checks.build(Tuning, "adapter.tuning", tuning)
    if "base" in parts:
        parts["base"] = _source("adapter.base", parts["base"])
    spec = field_checks.build(AdapterSpec, "adapter", parts)
    changed = spec.changed
    if not isinstance(changed, list | tuple) or not all(isinstance(one, str) for one in changed):
        raise ConfigError(f"config.json: adapter.changed is {changed!r}, not a list of names")
    if not spec.base.sha256:
        raise ConfigError(
            "config.json: adapter.base has no sha256, so whether a tower is the one that was "
            "trained cannot be told; save the adapter again"
        )
    return replace(spec, changed=tuple(changed))


def _mapping(config: UnmaskConfig, name: str) -> Mapping[str, Any]:
    values = getattr(config, name)
    if not isinstance(values, Mapping):
        raise ConfigError(f"config.json: {name} is {values!r}; an object was expected")
    return values
