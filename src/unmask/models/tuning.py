"""Recipes: which weights of a detector are trained, and how they become one plain tower again.

``probe`` trains the head alone; ``effort`` the smallest singular directions of the attention
(:mod:`unmask.models.effort`); ``layernorm`` the layer norms, as GenD does; ``lora`` a product of
two thin matrices beside each attention projection; ``full`` everything. LayerNorm tuning and LoRA
are PEFT's, put into the tower in place, so that it stays a transformers model whose blocks can be
tapped and cut.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unmask.errors import ConfigError, CorruptWeights, IncompatibleWeights
from unmask.models import effort
from unmask.models.configuration import Recipe, Tuning
from unmask.models.fingerprint import published_names, tensor_digests
from unmask.models.modeling import UnmaskForImageClassification

__all__ = [
    "Recipe",
    "Tuning",
    "adapted_weight",
    "merge",
    "trained_parameters",
    "trained_state",
    "tune",
]

_NAME = "default"  # PEFT's for the only adapter


def tune(
    model: UnmaskForImageClassification,
    tuning: Tuning,
    *,
    cache: Path | None = None,
    progress: effort.Progress | None = None,
) -> list[str]:
    """The names of the parameters that train from here on; the tower is prepared in place.

    No output changes by it. The head always trains. Where LoRA starts is drawn from torch's
    global generator.

    Args:
        model: Plain; :func:`merge` makes a tuned one plain.
        tuning: The recipe and its settings.
        cache: A folder where ``effort`` keeps the triples it has computed.
        progress: As :func:`unmask.models.effort.attach` takes it.

    Raises:
        ConfigError: If the model is tuned already, or the settings do not suit the tower.
        IncompatibleWeights: If the tower has no layers of the kind that the recipe trains.
    """
    tower = model.backbone
    if any(True for _ in _adapted(tower)):
        raise ConfigError("the model is tuned already; merge it before it is tuned again")
    if tuning.recipe == "effort":
        effort.attach(
            tower, keep=tuning.keep, targets=tuning.targets, cache=cache, progress=progress
        )
    elif tuning.recipe == "layernorm":
        _inject_layernorm(tower)
    elif tuning.recipe == "lora":
        _inject_lora(tower, tuning)
    else:
        tower.requires_grad_(tuning.recipe == "full")
    model.head.requires_grad_(True)
    return list(trained_parameters(model))


def trained_parameters(model: UnmaskForImageClassification) -> dict[str, nn.Parameter]:
    """What an optimiser is given, by its name in the model as it is now."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def merge(model: UnmaskForImageClassification) -> None:
    """Make the tower a plain one of its family again, with what was trained in its weights.

    Nothing of the adapter is left and nothing trains any more. A plain model stays as it is.

    Raises:
        CorruptWeights: If a weight is not finite; nothing is merged then.
    """
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise CorruptWeights(
                f"{name} holds values that are not finite, so it is not merged: the training has "
                "diverged. Train again with a smaller learning rate."
            )
    tower = model.backbone
    effort.merge(tower)
    for name, layer in list(_peft_layers(tower)):
        _put(tower, name, _merged(name, layer))
    if hasattr(tower, "peft_config"):
        del tower.peft_config
    model.requires_grad_(False)


def trained_state(
    model: UnmaskForImageClassification,
    tuning: Tuning,
    *,
    base: Mapping[str, str] | None = None,
) -> dict[str, Tensor]:
    """What an adapter folder stores of a model that was tuned and is not merged yet.

    Args:
        model: As :func:`tune` prepared it.
        tuning: The one that it was prepared with.
        base: Digests of the plain tower's tensors before the training, of ``full`` only: tensors
            that are still the same are left out.

    Returns:
        Tensors in float32 by the keys of ``docs/detector-folder.md``, detached.

    Raises:
        ConfigError: If the model is not tuned by this recipe.
    """
    tower = model.backbone
    state = {f"head.{name}": value for name, value in model.head.state_dict().items()}
    state |= {f"backbone.{key}": value for key, value in _changes(tower, tuning, base).items()}
    return {key: value.detach().float() for key, value in state.items()}


def adapted_weight(
    weight: Tensor,
    lora_A: Tensor,  # noqa: N803  # the paper's
    lora_B: Tensor,  # noqa: N803  # the paper's
    scaling: float,
) -> Tensor:
    """``W + scaling * B A`` (Hu et al. 2021, arXiv:2106.09685, eq. 3) in the weight's dtype.

    Computed in float64, so that a merged folder and an adapter folder hold the same weight.

    Args:
        weight: ``(out, in)``.
        lora_A: ``(r, in)``.
        lora_B: ``(out, r)``.
        scaling: ``lora_alpha / r``.
    """
    where = torch.device("cpu") if weight.device.type == "mps" else weight.device
    wide, A, B = (part.detach().to(where, torch.float64) for part in (weight, lora_A, lora_B))
    return (wide + scaling * (B @ A)).to(weight)


def _changes(
    tower: nn.Module, tuning: Tuning, base: Mapping[str, str] | None
) -> Mapping[str, Tensor]:
    """The tower's part of the state, without the prefix."""
    recipe = tuning.recipe
    found = {_recipe_of(layer) for _, layer in _adapted(tower)}
    expected = {recipe} if recipe in ("effort", "layernorm", "lora") else set()
    if found != expected:
        raise ConfigError(
            f"the model is tuned by {', '.join(sorted(found)) or 'no adapter'} and {recipe!r} was "
            "expected; take its state after tune() and before merge()"
        )
    if recipe == "effort":
        return effort.adapter_state(tower)
    if recipe == "layernorm":
        return {
            f"{name}.{leaf}": value
            for name, layer in _peft_layers(tower)
            for leaf, value in layer.ln_tuning_layers[_NAME].state_dict().items()
        }
    if recipe == "lora":
        return {
            f"{name}.{part}": getattr(layer, part)[_NAME].weight
            for name, layer in _peft_layers(tower)
            for part in ("lora_A", "lora_B")
        }
    if recipe == "full":
        names = published_names(tower)
        now = tensor_digests(tower) if base is not None else {}
        return {
            name: value
            for name, value in tower.state_dict().items()
            if base is None or now[names[name]] != base.get(names[name])
        }
    return {}


def _inject_layernorm(tower: nn.Module) -> None:
    import peft

    norms = [name for name, module in tower.named_modules() if isinstance(module, nn.LayerNorm)]
    if not norms:
        raise IncompatibleWeights(f"{type(tower).__name__} has no layer norms to tune")
    with warnings.catch_warnings():
        # It asks every layer for its widths, which those that this recipe is made for do not have.
        warnings.filterwarnings("ignore", message="Unsupported layer type", module=r"peft\.")
        peft.inject_adapter_in_model(peft.LNTuningConfig(target_modules=norms), tower)


def _inject_lora(tower: nn.Module, tuning: Tuning) -> None:
    import peft

    layers = effort.target_layers(tower, tuning.targets)
    shapes = (tower.get_parameter(f"{name}.weight").shape for name in layers)
    widest = max(min(shape) for shape in shapes)
    if tuning.lora_rank > widest:
        raise ConfigError(
            f"lora_rank is {tuning.lora_rank}, and a change of these layers has a rank of "
            f"{widest} at most; the usual is 8"
        )
    config = peft.LoraConfig(
        r=tuning.lora_rank,
        lora_alpha=tuning.lora_alpha,  # type: ignore[arg-type]  # PEFT only divides it
        target_modules=layers,
    )
    peft.inject_adapter_in_model(config, tower)


def _merged(name: str, layer: Any) -> nn.Module:  # noqa: ANN401  # PEFT is untyped
    """The plain layer that computes what this one does."""
    plain: nn.Module = layer.get_base_layer()
    if _recipe_of(layer) == "layernorm":
        trained: nn.Module = layer.ln_tuning_layers[_NAME]
        return trained
    if not isinstance(plain, nn.Linear):
        raise IncompatibleWeights(f"{name} is a {type(plain).__name__}, not a linear layer")
    A, B = layer.lora_A[_NAME].weight, layer.lora_B[_NAME].weight
    plain.weight = nn.Parameter(adapted_weight(plain.weight, A, B, layer.scaling[_NAME]))
    return plain


def _adapted(tower: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in tower.named_modules():
        if isinstance(module, effort.SVDResidualLinear):
            yield name, module
    yield from _peft_layers(tower)


def _peft_layers(tower: nn.Module) -> Iterator[tuple[str, Any]]:
    """PEFT's layers by name; those know themselves by what they hold the plain layer in."""
    for name, module in tower.named_modules():
        if hasattr(module, "base_layer"):
            yield name, module


def _recipe_of(layer: nn.Module) -> Recipe:
    if isinstance(layer, effort.SVDResidualLinear):
        return "effort"
    return "layernorm" if hasattr(layer, "ln_tuning_layers") else "lora"


def _put(tower: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(tower.get_submodule(parent), leaf, module)
