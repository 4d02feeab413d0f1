"""What a step minimises: cross-entropy, and what is added to it, each part by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmask.models.penalties import Original, kept_singular_values, orthogonality
from unmask.train.config import TrainConfig

__all__ = ["alignment", "cross_entropy", "feature_losses", "penalties", "uniformity"]

_LEAST = 1e-6
"""Under the logarithm of the uniformity, as GenD has it."""


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """The summed cross-entropy, one scalar: positive logits mean fake.

    With two outputs it is ``F.cross_entropy`` of them, since the logit is their difference.

    Args:
        logits: ``(b,)`` float32.
        labels: ``(b,)`` of 0 and 1.
        smoothing: Share of each label that is spread over both classes.
    """
    soft = labels.float() * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, soft, reduction="sum")


def uniformity(features: Tensor) -> Tensor:
    """``log max(mean over pairs exp(-2 d^2), 1e-6)``: how close the features lie together.

    Wang and Isola, Understanding Contrastive Representation Learning (ICML 2020), section 4.1.2,
    with t = 2; the floor is that of GenD (Yermakov et al., arXiv:2508.06248), which unit vectors
    never reach: the least is -8. 0 without a pair.

    Args:
        features: ``(b, width)``; they are scaled to unit length here.
    """
    squared = _squared_distances(features)
    if not squared.numel():
        return features.sum() * 0
    return torch.exp(-2 * squared).mean().clamp(min=_LEAST).log()


def alignment(features: Tensor, labels: Tensor) -> Tensor:
    """The mean squared distance of pairs of one label; 0 without such a pair. As above, a = 2.

    Args:
        features: ``(b, width)``; they are scaled to unit length here.
        labels: ``(b,)``.
    """
    first, second = _pairs(len(features), features.device)
    same = labels[first] == labels[second]
    if not bool(same.any()):
        return features.sum() * 0
    return _squared_distances(features)[same].mean()


def feature_losses(config: TrainConfig, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The weighted losses on features that the configuration asks for."""
    wanted: dict[str, tuple[float, Callable[[], Tensor]]] = {
        "uniformity": (config.uniformity, lambda: uniformity(features)),
        "alignment": (config.alignment, lambda: alignment(features, labels)),
    }
    return {name: weight * loss() for name, (weight, loss) in wanted.items() if weight}


def penalties(
    config: TrainConfig, tower: nn.Module, start: Mapping[str, Original]
) -> dict[str, Tensor]:
    """The weighted penalties on the residuals of Effort that the configuration asks for.

    Args:
        config: The settings.
        tower: Split.
        start: Of the same tower, :func:`unmask.models.penalties.originals`.
    """
    wanted: dict[str, tuple[float, Callable[[], Tensor]]] = {
        "orthogonality": (config.orthogonality, lambda: orthogonality(tower, start)),
        "kept_singular_values": (
            config.kept_singular_values,
            lambda: kept_singular_values(tower, start),
        ),
    }
    return {name: weight * loss() for name, (weight, loss) in wanted.items() if weight}


def _pairs(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices of all pairs, each once."""
    both = torch.triu_indices(count, count, offset=1, device=device)
    return both[0], both[1]


def _squared_distances(features: Tensor) -> Tensor:
    """Of unit vectors, one for each pair."""
    unit = F.normalize(features.float(), dim=-1)
    first, second = _pairs(len(unit), unit.device)
    return (unit[first] - unit[second]).square().sum(dim=-1)
