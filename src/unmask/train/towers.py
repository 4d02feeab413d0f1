"""The tower that training starts from: any vision model, or that of another detector."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from platformdirs import user_cache_path

from unmask._device import choose_device, choose_dtype
from unmask.errors import ConfigError
from unmask.models.backbone import load_backbone
from unmask.models.checkpoint import load_model
from unmask.models.configuration import BackboneSource, DetectorSpec, UnmaskConfig
from unmask.models.locate import locate, read_preprocess
from unmask.models.modeling import UnmaskForImageClassification
from unmask.models.weights import read_config, weights_sha256
from unmask.preprocess import Preprocess
from unmask.train.features import Tower

__all__ = ["feature_cache", "keep_head", "load_tower"]


def load_tower(
    reference: str,
    *,
    features: Sequence[str] = (),
    revision: str | None,
    offline: bool,
    device: str,
    dtype: str,
    batch_size: int,
    workers: int | None,
) -> tuple[Tower, Preprocess, BackboneSource]:
    """The frozen tower, how crops become its input, and where it comes from.

    Crops are square already, so they are scaled to the tower's own input size as a whole,
    bilinearly, with the mean and deviation that the tower was published with. Of the tower, what
    gives ``features`` is loaded; where none are named, all of its blocks.

    Raises:
        WeightsError: the model cannot be found or used.
        ConfigError: its processor is not understood, or device or dtype do not exist.
    """
    located = locate(reference, revision=revision, offline=offline)
    if isinstance(read_config(located.folder), UnmaskConfig):
        model = load_model(located.folder)
        backbone, own = model.backbone, model.spec.preprocess
        source = model.spec.backbone_source
        if source is None or model.spec.training.get("recipe", "probe") != "probe":
            # Its tower is no longer the one that was published.
            source = BackboneSource(located.id, located.revision, weights_sha256(located.folder))
    else:
        backbone = load_backbone(located.folder, features or ["mean"])
        own = read_preprocess(located.folder)
        name = located.hub_id or Path(located.id).resolve().name
        sha256 = weights_sha256(located.folder)
        source = BackboneSource(name, located.revision, sha256)
    where = choose_device(device)
    precision = choose_dtype(dtype, where)
    backbone.requires_grad_(False).eval().to(where, precision)
    tower = Tower(backbone, weights_sha256(located.folder), where, precision, batch_size, workers)
    preprocess = Preprocess(own.height, own.width, "squash", "bilinear", own.mean, own.std)
    return tower, preprocess, source


def keep_head(
    model: UnmaskForImageClassification, reference: str, *, revision: str | None, offline: bool
) -> None:
    """Give the model the head of the detector that its tower is from.

    Raises:
        ConfigError: it is no detector, or its head sees other features or has another shape.
    """
    located = locate(reference, revision=revision, offline=offline)
    if not isinstance(read_config(located.folder), UnmaskConfig):
        raise ConfigError(
            f"head_start is 'kept', and {located.id} is a bare tower without a head; name a "
            "detector as backbone, or take head_start 'probe'"
        )
    found = load_model(located.folder)
    own, its = _seen(model.spec), _seen(found.spec)
    if own != its:
        raise ConfigError(
            f"head_start is 'kept', and the head of {located.id} has {its}, where the settings "
            f"say {own}; set features, outputs and normalize as it has them"
        )
    model.head.load_state_dict(found.head.state_dict())


def _seen(spec: DetectorSpec) -> str:
    """What a head sees and gives, in words."""
    head = spec.head
    return (
        f"features {','.join(spec.features)}, outputs {head.outputs}, "
        f"normalize {str(head.normalize).lower()}"
    )


def feature_cache() -> Path:
    """Where features are kept between runs: ``UNMASK_HOME``, else the user's cache folder."""
    home = os.environ.get("UNMASK_HOME")
    return (Path(home) if home else user_cache_path("unmask")) / "features"
