"""Optimiser, learning rate and running mean of the weights, from the settings alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unmask.errors import ConfigError
from unmask.models.backbone import blocks
from unmask.models.modeling import UnmaskForImageClassification
from unmask.models.tuning import trained_parameters
from unmask.train.config import TrainConfig

__all__ = ["Plan", "RunningMean", "freeze_blocks", "lr_factor", "new_optimizer", "put", "set_lr"]

_BACKBONE, _HEAD = "backbone.", "head."


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a training is, in steps."""

    steps: int
    per_epoch: int

    @classmethod
    def of(cls, config: TrainConfig, samples: int) -> Plan:
        """For so many training samples."""
        per_epoch = max(1, math.ceil(samples / config.batch_size))
        steps = config.steps or max(1, round(config.epochs * per_epoch))
        return cls(steps, per_epoch)

    def evaluates(self, step: int, config: TrainConfig) -> bool:
        """Whether the validation part is scored after so many steps; always at the end."""
        times = config.evaluations_per_epoch
        passed = step * times // self.per_epoch > (step - 1) * times // self.per_epoch
        return step == self.steps or passed


def lr_factor(config: TrainConfig, plan: Plan, step: int) -> float:
    """What the learning rates are multiplied by in a step (from 0): warm-up, then the schedule.

    The cosine is that of Loshchilov and Hutter (SGDR, arXiv:1608.03983, eq. 5) without restarts.
    """
    warmup = config.warmup_epochs * plan.per_epoch
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1.0, plan.steps - warmup)
    least = config.min_lr / config.lr
    return least + (1 - least) * (1 + math.cos(math.pi * min(1.0, done))) / 2


def freeze_blocks(model: UnmaskForImageClassification, count: int) -> None:
    """Train neither the first blocks of the tower nor what comes before them.

    No gradient is computed for them, so a step costs up to two thirds of their share less.

    Raises:
        ConfigError: If the tower has no block beyond these.
    """
    if not count:
        return
    layers = len(blocks(model.backbone))
    if count >= layers:
        raise ConfigError(
            f"frozen_blocks is {count}, and the tower has {layers} blocks with the features that "
            "it is used with; leave at least one to train, or take the recipe 'probe'"
        )
    depths = _depths(model)
    for name, parameter in model.named_parameters():
        if depths.get(name, 0) > layers - count:
            parameter.requires_grad_(False)


def new_optimizer(
    model: UnmaskForImageClassification, config: TrainConfig
) -> torch.optim.Optimizer:
    """The optimiser of what trains; groups differ in learning rate and weight decay only."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    depth = _depths(model) if config.layer_decay != 1 else {}
    for name, parameter in trained_parameters(model).items():
        lr = config.lr * config.layer_decay ** depth.get(name, 0)
        if name.startswith(_HEAD):
            lr = config.head_lr or config.lr
        decays = parameter.ndim > 1 or not config.decay_only_matrices
        groups.setdefault((lr, config.weight_decay if decays else 0.0), []).append(parameter)
    given: list[dict[str, Any]] = [
        {"params": parameters, "lr": lr, "weight_decay": decay, "first_lr": lr}
        for (lr, decay), parameters in groups.items()
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(given, momentum=config.momentum)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(given, betas=(config.beta1, config.beta2), eps=config.eps)


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Each group's learning rate at this factor of its own."""
    for group in optimizer.param_groups:
        group["lr"] = group["first_lr"] * factor


class RunningMean:
    """The exponential mean of the trained weights; in its early steps the mean of all so far.

    The decay of step t is ``min(decay, (1 + t) / (10 + t))``, so that the first weights are soon
    forgotten.
    """

    def __init__(self, parameters: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.mean = {name: value.detach().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: Mapping[str, Tensor], step: int) -> None:
        """Take in the weights after so many steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in parameters.items():
            self.mean[name].lerp_(value.detach(), 1 - decay)

    @contextmanager
    def used(self, parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
        """The mean in the place of the weights while the block runs."""
        kept = {name: value.detach().clone() for name, value in parameters.items()}
        put(parameters, self.mean)
        try:
            yield
        finally:
            put(parameters, kept)


@torch.no_grad()
def put(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    """Copy values into parameters of the same names."""
    for name, parameter in parameters.items():
        parameter.copy_(values[name])


def _depths(model: UnmaskForImageClassification) -> dict[str, int]:
    """How many blocks lie between a parameter and the head; 0 for what comes after the blocks.

    Parameters outside of the blocks come before or after them as they stand in the model.
    """
    tower = model.backbone
    layers = blocks(tower)
    depth_of = {
        id(parameter): len(layers) - number
        for number, layer in enumerate(layers)
        for parameter in layer.parameters()
    }
    found: dict[str, int] = {}
    before = True
    for name, parameter in tower.named_parameters():
        if id(parameter) in depth_of:
            before = False
            found[_BACKBONE + name] = depth_of[id(parameter)]
        else:
            found[_BACKBONE + name] = len(layers) + 1 if before else 0
    return found
