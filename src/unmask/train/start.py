"""What a training starts from: a plain tower, its preprocessing, and a head on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from unmask.errors import ConfigError
from unmask.flow import grouped, ordered
from unmask.images import Limits
from unmask.models import heads
from unmask.models.backbone import build_backbone, feature_width
from unmask.models.configuration import (
    BackboneSource,
    DetectorSpec,
    HeadSpec,
    backbone_config_of,
)
from unmask.models.fingerprint import content_sha256, tensor_digests
from unmask.models.modeling import UnmaskForImageClassification, assemble
from unmask.prepare import Stage
from unmask.preprocess import Preprocess
from unmask.train.batches import normalized
from unmask.train.config import TrainConfig
from unmask.train.crops import Crops
from unmask.train.domains import validate_domains
from unmask.train.features import Tower
from unmask.train.inputs import resized
from unmask.train.lanes import side_by_side
from unmask.train.probe import fit_head, fit_temperature
from unmask.types import FaceSpec, Image

__all__ = ["Start", "check_classes", "input_stages", "over_crops", "plain_start", "warm_head"]

_STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1)
"""Of the probe that the head starts from: values of scikit-learn's ``C`` to choose from."""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """A detector before its training."""

    model: UnmaskForImageClassification
    base: BackboneSource
    """Of the tower, with the hash of its content."""
    digests: dict[str, str]
    """Of the tower's tensors, by published name."""
    whole: bool
    """Whether the tower is the one that was published, with none of its blocks left out."""


def input_stages(
    config: TrainConfig, published: Preprocess, tower_config: object
) -> tuple[Stage, ...]:
    """What happens to a picture before the tower: the same that runs when the detector is used.

    Of ``both`` there are two: that of faces, then that of whole pictures.

    Raises:
        ConfigError: If the resolution cuts the tower's patches.
    """
    preprocess = replace(
        resized(published, config.resolution, tower_config),
        mean=config.mean or published.mean,
        std=config.std or published.std,
    )
    face = FaceSpec("yunet", config.crop_scale, preprocess.height, antialias=True)
    modes: tuple[Literal["largest", "none"], ...]
    modes = ("largest", "none") if config.faces == "both" else (config.faces,)
    return tuple(
        Stage(
            mode=mode,
            face=face,
            preprocess=preprocess,
            limits=Limits(),
            max_faces=1,
            min_face_px=config.least_face_px,
        )
        for mode in modes
    )


def plain_start(tower: Tower, source: BackboneSource, config: TrainConfig, stage: Stage) -> Start:
    """The smallest tower with the features that are asked for, and a seeded head.

    Raises:
        ConfigError: If a feature is not understood.
        IncompatibleWeights: If the tower does not have it.
    """
    published = tensor_digests(tower.model)
    backbone = build_backbone(tower.model.config, config.features)
    weights = tower.model.state_dict()
    backbone.load_state_dict({name: weights[name] for name in backbone.state_dict()})
    digests = tensor_digests(backbone)
    width = feature_width(backbone.config, config.features)
    head = heads.new_head(width, config.outputs, config.seed, normalize=config.normalize)
    spec = DetectorSpec(
        backbone_config=backbone_config_of(backbone.config),
        features=config.features,
        head=HeadSpec(outputs=config.outputs, normalize=config.normalize),
        preprocess=stage.preprocess,
        domain="image" if stage.mode == "none" else "face",
        face=None if stage.mode == "none" else stage.face,
        backbone_source=source,
    )
    base = replace(source, sha256=content_sha256(digests))
    return Start(assemble(backbone, head, spec), base, digests, digests == published)


def over_crops(
    crops: Crops,
    compute: Callable[[torch.Tensor], torch.Tensor],
    preprocess: Preprocess,
    *,
    device: torch.device,
    batch_size: int,
    workers: int,
    indices: Sequence[int] | None = None,
    picture: Callable[[int], Image] | None = None,
    advance: Callable[[], None] = lambda: None,
) -> npt.NDArray[np.float32]:
    """``compute`` of crops, rows in their order.

    Args:
        crops: The crops.
        compute: Gives ``(b, ...)`` from pixels ``(b, 3, H, W)``.
        preprocess: Of the detector.
        device: Where it computes.
        batch_size: Crops at once.
        workers: Threads that read them.
        indices: Which crops; all by default.
        picture: Gives what is computed of a crop by its number; the crop as it is by default.
        advance: Called once per crop.
    """
    wanted = range(len(crops.samples)) if indices is None else indices
    taken = picture or (lambda index: crops[index].image)

    def one(images: list[Image]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            pixels = normalized(torch.from_numpy(np.stack(images)).to(device), preprocess)
            result: npt.NDArray[np.float32] = compute(pixels).float().cpu().numpy()
        return result

    rows: list[npt.NDArray[np.float32]] = []
    ready = ordered(taken, wanted, max(1, workers), 4 * batch_size)
    computed = side_by_side(one, grouped(ready, batch_size), device)
    with closing(ready), closing(computed):
        for values in computed:
            rows.append(values)
            for _ in values:
                advance()
    return np.concatenate(rows) if rows else np.empty(0, np.float32)


def warm_head(
    model: UnmaskForImageClassification,
    train: Crops,
    val: Crops,
    features: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
) -> float:
    """Make the head a logistic regression on features of the frozen tower; its mean AUC.

    Two things keep the first steps from destroying the tower, since an optimiser like Adam moves
    each weight by the learning rate however steep the loss is. All features have one scale, so that
    the penalty is on the weights as they are: a feature that hardly varies gets no large weight
    (on ViT-S/14 the same AUC with weights 40 times smaller). And the logits are divided by the
    temperature that suits the validation part.

    Args:
        model: Whose head is set.
        train: What it is fitted to.
        val: What the strength of its penalty is chosen on.
        features: ``(N, width)`` of both.
    """
    x_train, x_val = (_unit(each) if model.head.normalize else each for each in features)
    found = []
    for strength in _STRENGTHS:
        head = fit_head(x_train, train.samples, strength=strength, common=True)
        found.append((validate_domains(head(x_val), val).macro_auc, head))
    score, head = max(found, key=lambda pair: pair[0])
    temperature = fit_temperature(head(x_val), val.samples)
    linear = model.head.linear
    # Two outputs whose difference is the logit.
    signs = torch.tensor([[1.0]] if len(linear.bias) == 1 else [[-0.5], [0.5]])
    with torch.no_grad():
        linear.weight.copy_(signs * torch.from_numpy(head.weight / temperature).float())
        linear.bias.copy_(signs[:, 0] * (head.bias / temperature))
    return score


def check_classes(crops: Crops, part: str) -> None:
    """Nothing, if crops of both classes are there.

    Raises:
        ConfigError: Says how many samples gave none, and why the first did not.
    """
    if {sample.label for sample in crops.samples} != {0, 1}:
        total = len(crops.samples) + len(crops.left_out)
        first = crops.left_out[0][1].message if crops.left_out else "none"
        raise ConfigError(
            f"{len(crops.left_out)} of {total} {part} samples gave no crop, and none is left of "
            f"one of the classes; the first reason: {first}"
        )


def _unit(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    result: npt.NDArray[np.float32] = features / np.maximum(lengths, 1e-12)
    return result
