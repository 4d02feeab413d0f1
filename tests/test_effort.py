import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModel, Dinov2Config, ViTConfig

from unmask.errors import ConfigError, IncompatibleWeights
from unmask.models.backbone import build_backbone, extract, load_backbone
from unmask.models.effort import SVDResidualLinear, attach, merge, split

FIXTURES = Path(__file__).parent / "fixtures" / "effort"
LARGE_14 = CLIPVisionConfig(
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    intermediate_size=4096,
    patch_size=14,
)


@pytest.fixture
def tower():
    return load_backbone(FIXTURES / "tiny_clip", ("pooler",))


@pytest.fixture(scope="module")
def inputs():
    return torch.from_numpy(np.load(FIXTURES / "inputs.npz")["pixel_values"])


@pytest.fixture(scope="module")
def arrays():
    return np.load(FIXTURES / "arrays.npz")


def logits(tower, state, pixels):
    with torch.no_grad():
        return F.linear(
            extract(tower, pixels, ("pooler",)), state["head.weight"], state["head.bias"]
        )


def load_residuals(tower, state):
    """Load the released layout into an attached tower, strictly."""
    prefix = "backbone."
    own = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    tower.load_state_dict(own, strict=True)


def test_a_fresh_split_changes_nothing(tower, inputs):
    with torch.no_grad():
        before = extract(tower, inputs, ("pooler",))
        attach(tower)
        after = extract(tower, inputs, ("pooler",))
    assert (before - after).abs().max() < 1e-5


def test_the_released_layout_gives_the_recorded_logits(tower, inputs, arrays):
    state = load_file(FIXTURES / "B_released_layout.safetensors")
    attach(tower, keep=63)
    load_residuals(tower, state)
    ours = logits(tower, state, inputs).numpy()
    np.testing.assert_allclose(ours, arrays["B_logits"], atol=1e-5)


def test_the_full_layout_at_the_start_gives_the_recorded_logits(tower, inputs, arrays):
    state = load_file(FIXTURES / "A_full_layout.safetensors")
    attach(tower, keep=63)
    load_residuals(
        tower, {key: v for key, v in state.items() if not key.endswith((".U_r", ".S_r", ".V_r"))}
    )
    ours = logits(tower, state, inputs).numpy()
    np.testing.assert_allclose(ours, arrays["A_logits"], atol=1e-5)


def test_our_own_split_of_the_plain_tower_gives_the_recorded_features(tower, inputs, arrays):
    attach(tower, keep=63)
    with torch.no_grad():
        ours = extract(tower, inputs, ("pooler",)).numpy()
    np.testing.assert_allclose(ours, arrays["A_feat"], atol=1e-5)


def test_merging_gives_the_recorded_merged_weights(tower):
    attach(tower, keep=63)
    load_residuals(tower, load_file(FIXTURES / "B_released_layout.safetensors"))
    merge(tower)
    expected = load_file(FIXTURES / "B_merged_clipvision_keys.safetensors")
    ours = tower.state_dict()
    assert set(ours) == {key for key in expected if not key.startswith("head.")}
    for key, value in ours.items():
        torch.testing.assert_close(value, expected[key], atol=1e-6, rtol=0)


def test_merged_equals_split(tower, inputs):
    attach(tower, keep=60)
    with torch.no_grad():
        for name, parameter in tower.named_parameters():
            if name.endswith("_residual"):
                parameter.add_(torch.randn(parameter.shape) * 0.05)
        before = extract(tower, inputs, ("pooler",))
        merge(tower)
        after = extract(tower, inputs, ("pooler",))
    assert (before - after).abs().max() < 1e-5
    assert not any(isinstance(module, SVDResidualLinear) for module in tower.modules())


def test_merging_twice_does_nothing_more(tower):
    attach(tower)
    assert len(merge(tower)) == 8
    assert merge(tower) == []


def test_only_the_residuals_are_trained(tower):
    attach(tower)
    trained = {name for name, one in tower.named_parameters() if one.requires_grad}
    assert len(trained) == 8 * 3
    assert all(
        name.rpartition(".")[2] in {"U_residual", "S_residual", "V_residual"} for name in trained
    )
    assert all(".self_attn." in name for name in trained)


def test_a_gradient_reaches_the_residuals_and_nothing_else(tower, inputs):
    attach(tower)
    extract(tower, inputs[:1], ("pooler",)).sum().backward()
    for name, parameter in tower.named_parameters():
        assert (parameter.grad is not None) == name.endswith("_residual"), name


def test_clip_large_trains_one_direction_in_each_of_96_layers():
    with torch.device("meta"):
        tower = CLIPVisionModel(LARGE_14)
        assert len(attach(tower)) == 24 * 4
    trained = sum(one.numel() for one in tower.parameters() if one.requires_grad)
    assert trained == 96 * (1024 + 1 + 1024) == 196_704


@pytest.mark.parametrize("rank", [64, 1023])
def test_a_rank_that_leaves_nothing_to_train_is_refused(tower, rank):
    before = copy.deepcopy(tower.state_dict())
    with pytest.raises(
        ConfigError, match=rf"rank of {rank} .* width 64 leaves nothing to train.*1 to 63"
    ):
        attach(tower, keep=rank)
    assert set(tower.state_dict()) == set(before)


def test_a_rank_of_zero_is_refused(tower):
    with pytest.raises(ConfigError, match="nothing of the layer frozen"):
        attach(tower, keep=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_precision_of_the_layer_is_kept(dtype):
    layer = nn.Linear(12, 8).to(dtype)
    residual = split(layer, 7)
    assert {one.dtype for one in residual.parameters()} == {dtype}
    assert residual.merged().weight.dtype == dtype
    x = torch.randn(3, 12, dtype=dtype)
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-14, torch.bfloat16: 0.1}[dtype]
    assert (residual(x) - layer(x)).abs().max() < tolerance


def test_a_layer_without_bias_stays_without():
    residual = split(nn.Linear(6, 6, bias=False), 5)
    assert residual.bias is None
    assert residual.merged().bias is None


@pytest.mark.parametrize(
    "config",
    [
        Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28),
        ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=32,
        ),
    ],
)
def test_other_towers_are_split_in_their_attention(config):
    tower = build_backbone(config, ("mean",))
    names = attach(tower)
    assert len(names) == 8
    assert all("attention" in name for name in names)


def test_a_tower_without_attention_is_refused():
    with pytest.raises(IncompatibleWeights, match="no linear layers in its attention"):
        attach(nn.Sequential(nn.Linear(3, 3)))
