"""Residuals go to PEFT's OSF and come back: the same names, the same features."""

import copy

import peft
import pytest
import torch
from torch import Tensor, nn

from tiny_towers import TOWERS
from unmask.errors import IncompatibleWeights
from unmask.models.backbone import build_backbone, extract
from unmask.models.effort import adapter_state, apply_state, attach, target_layers
from unmask.models.osf import from_osf, to_osf

WIDTH, KEPT = 32, 30


@pytest.fixture
def tower() -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(TOWERS["clip"], ("pooler",))


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def features(tower: nn.Module, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        return extract(tower, pixels, ("pooler",))


def osf(tower: nn.Module) -> peft.PeftModel:
    config = peft.OSFConfig(target_modules=target_layers(tower), effective_rank=KEPT)
    return peft.get_peft_model(copy.deepcopy(tower), config)


def disturb(parameters: list[nn.Parameter]) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for one in parameters:
            one += 0.05 * torch.randn(one.shape, generator=generator)


def test_what_was_trained_here_gives_the_same_features_in_peft(
    tower: nn.Module, pixels: Tensor
) -> None:
    model = osf(tower)
    plain = features(tower, pixels)
    attach(tower, keep=KEPT)
    disturb([one for one in tower.parameters() if one.requires_grad])
    loaded = peft.set_peft_model_state_dict(model, to_osf(adapter_state(tower)))
    assert loaded.unexpected_keys == []
    theirs = features(model.get_base_model(), pixels)
    # OSF splits in float32, we in float64.
    assert (theirs - features(tower, pixels)).abs().max() < 1e-5
    assert (theirs - plain).abs().max() > 1e-2


def test_what_peft_trained_gives_the_same_features_here(tower: nn.Module, pixels: Tensor) -> None:
    model = osf(tower)
    disturb([one for one in model.parameters() if one.requires_grad])
    state = from_osf(peft.get_peft_model_state_dict(model))
    plain = features(tower, pixels)
    assert apply_state(tower, state) == target_layers(tower)
    ours = features(tower, pixels)
    assert (ours - features(model.get_base_model(), pixels)).abs().max() < 1e-5
    assert (ours - plain).abs().max() > 1e-2


def test_there_and_back_is_the_same_state(tower: nn.Module) -> None:
    attach(tower, keep=KEPT)
    state = adapter_state(tower)
    back = from_osf(to_osf(state))
    assert list(back) == list(state)
    assert all(
        back[key] is to_osf(state)[name] for key, name in zip(back, to_osf(state), strict=True)
    )


@pytest.mark.parametrize("key", ["U_residual", "layer.weight", "layer.U_low"])
def test_a_key_that_is_no_residual_is_refused(key: str) -> None:
    with pytest.raises(IncompatibleWeights, match=f"'{key}' is no part of a residual"):
        to_osf({key: torch.ones(1)})


@pytest.mark.parametrize(
    "key",
    [
        "layer.osf_svd_params.U_low",
        "base_model.model.layer.lora_A.weight",
        "base_model.model.layer.osf_svd_params.U_high",
    ],
)
def test_a_key_that_is_no_osf_is_refused(key: str) -> None:
    with pytest.raises(IncompatibleWeights, match="is no part of an OSF adapter; expected"):
        from_osf({key: torch.ones(1)})
