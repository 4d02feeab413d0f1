"""The SVD residual: its mathematics, the recorded towers and trainings, and what it refuses."""

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModel

from tiny_towers import TOWERS
from unmask.errors import ConfigError, CorruptWeights, IncompatibleWeights
from unmask.models import svd
from unmask.models.backbone import build_backbone, extract, load_backbone
from unmask.models.effort import (
    SVDResidualLinear,
    adapter_parameters,
    adapter_state,
    apply_state,
    attach,
    detach,
    merge,
    residual_layers,
    split,
    target_layers,
)
from unmask.models.penalties import kept_singular_values, originals, orthogonality
from unmask.models.residual import exchanged

FIXTURES = Path(__file__).parent / "fixtures" / "effort"
RECORDED = json.loads((FIXTURES / "recorded.json").read_text())
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


def test_clip_large_trains_198754_parameters_with_its_head():
    with torch.device("meta"):
        tower, head = CLIPVisionModel(LARGE_14), nn.Linear(1024, 2)
        assert len(attach(tower)) == 24 * 4
    trained = adapter_parameters(tower, head)
    assert sum(one.numel() for one in trained.values()) == 96 * (1024 + 1 + 1024) + 2050 == 198_754
    required = {name for name, one in tower.named_parameters() if one.requires_grad}
    assert required | {"head.weight", "head.bias"} == set(trained)


@pytest.mark.parametrize("kept", ["1", "32", "60"])
def test_as_many_parameters_train_as_recorded(tower, kept):
    attach(tower, keep=int(kept))
    trained = sum(one.numel() for one in adapter_parameters(tower).values())
    assert trained == RECORDED["trained_by_rank"][kept]


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


ATTENTION = {
    "clip": {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"},
    "dinov2": {"attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj"},
}
ATTENTION |= {"siglip": ATTENTION["clip"], "registers": ATTENTION["dinov2"]}
ATTENTION |= {"dinov3": ATTENTION["dinov2"], "vit": ATTENTION["dinov2"]}


def small(family):
    torch.manual_seed(0)
    return build_backbone(TOWERS[family], ("pooler",))


@pytest.mark.parametrize("family", TOWERS)
def test_attention_is_the_four_projections_of_every_block(family):
    names = target_layers(small(family))
    assert len(names) == 3 * 4
    assert {".".join(name.split(".")[-2:]) for name in names} == ATTENTION[family]


@pytest.mark.parametrize("family", TOWERS)
def test_mlp_is_the_other_two_layers_of_every_block(family):
    names = target_layers(small(family), "mlp")
    assert len(names) == 3 * 2
    assert {name.split(".")[-2] for name in names} == {"mlp"}
    assert not any(name.startswith("head.") for name in names)


@pytest.mark.parametrize("family", TOWERS)
@pytest.mark.parametrize("targets", ["attention", "mlp", "all"])
def test_a_split_of_any_family_changes_nothing_and_comes_back(family, targets):
    tower = small(family)
    pixels = torch.randn(2, 3, 32, 32)
    state = {key: value.clone() for key, value in tower.state_dict().items()}
    with torch.no_grad():
        before = extract(tower, pixels, ("pooler",))
        names = attach(tower, keep=0.75, targets=targets)
        assert list(residual_layers(tower)) == names
        assert (extract(tower, pixels, ("pooler",)) - before).abs().max() < 1e-5
    assert detach(tower) == names
    assert {key: type(value) for key, value in state.items()} == {
        key: type(value) for key, value in tower.state_dict().items()
    }
    assert all(torch.equal(value, state[key]) for key, value in tower.state_dict().items())


def test_all_is_attention_and_mlp():
    tower = small("clip")
    both = set(target_layers(tower, "attention")) | set(target_layers(tower, "mlp"))
    assert set(target_layers(tower, "all")) == both


@pytest.mark.parametrize("targets", ["q_proj", ("1.self_attn.q_proj", "mlp.fc1")])
def test_targets_may_be_ends_of_names(targets):
    names = target_layers(small("clip"), targets)
    assert len(names) == (3 if targets == "q_proj" else 1 + 3)


def test_an_end_that_fits_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"ends with 'q_prj'. Did you mean 'q_proj'"):
        target_layers(small("clip"), ["v_proj", "q_prj"])


def test_a_tower_without_attention_is_refused():
    with pytest.raises(IncompatibleWeights, match="no linear layers in its attention"):
        attach(nn.Sequential(nn.Linear(3, 3)))


def test_a_tower_without_blocks_has_no_mlp():
    tower = nn.ModuleDict({"pooler": nn.Linear(3, 3)})
    with pytest.raises(IncompatibleWeights, match="no linear layers in its MLPs"):
        target_layers(tower, "mlp")


@pytest.mark.parametrize(("keep", "kept"), [(-1, 31), (-5, 27), (1, 1), (31, 31), (0.5, 16)])
def test_keep_counts_what_stays_frozen(keep, kept):
    tower = small("vit")
    attach(tower, keep=keep)
    assert {len(layer.S_residual) for layer in residual_layers(tower).values()} == {32 - kept}


def test_keep_is_relative_to_each_layer():
    tower = nn.ModuleList([nn.Linear(8, 8), nn.Linear(20, 12)])
    attach(tower, keep=-2, targets=("0", "1"))
    assert [layer.weight_main.shape for layer in tower] == [(8, 8), (12, 20)]
    assert [layer.U_residual.shape for layer in tower] == [(8, 2), (12, 2)]


@pytest.mark.parametrize("keep", [0.0, 1.0, 1.5, -0.5, float("nan")])
def test_a_fraction_is_between_0_and_1(keep):
    with pytest.raises(ConfigError, match=r"keep is .*; expected a fraction between 0 and 1"):
        attach(small("vit"), keep=keep)


@pytest.mark.parametrize("keep", [0.001, -32, -40])
def test_a_keep_that_leaves_nothing_frozen_is_refused(keep):
    with pytest.raises(ConfigError, match=r"0\.attention\.q_proj: .*nothing of the layer frozen"):
        attach(small("vit"), keep=keep)


def test_d12_an_empty_residual_is_an_error():
    # D12: a rank of 1023 on a narrower tower left nothing to train, without a word.
    with pytest.raises(ConfigError, match="rank of 1023 on a layer of width 32 leaves nothing"):
        attach(small("clip"), keep=1023)


def test_an_error_leaves_the_tower_as_it_was():
    tower = small("clip")
    with torch.no_grad():
        tower.get_submodule("encoder.layers.2.mlp.fc2").weight[0, 0] = torch.inf
    with pytest.raises(CorruptWeights, match=r"layers\.2\.mlp\.fc2: .*not finite"):
        attach(tower, targets="all")
    assert residual_layers(tower) == {}
    assert all(one.requires_grad for one in tower.parameters())


def test_a_tower_is_split_once(tower):
    attach(tower)
    with pytest.raises(ConfigError, match="split already; merge or detach it first"):
        attach(tower)


def test_attaching_tells_how_far_it_is(tower):
    said = []

    @contextmanager
    def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
        said.append((what, total))
        yield lambda: said.append("one")

    attach(tower, progress=progress)
    assert said == [("Splitting layers", 8), *["one"] * 8]


def test_attaching_takes_triples_from_the_cache(tower, tmp_path, monkeypatch):
    other = copy.deepcopy(tower)
    attach(tower, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 8
    monkeypatch.setattr(svd, "_compute", None)
    attach(other, cache=tmp_path)
    first, second = adapter_state(tower), adapter_state(other)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_split_layer_keeps_the_mode_of_the_plain_one(tower):
    attach(tower.eval())
    assert not any(layer.training for layer in residual_layers(tower).values())


def disturb(tower):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for one in adapter_parameters(tower).values():
            one += 0.05 * torch.randn(one.shape, generator=generator).to(one)


def test_in_double_precision_a_split_is_exact_to_the_last_digits(tower, inputs, arrays):
    tower.double()
    attach(tower, keep=63)
    with torch.no_grad():
        ours = tower(inputs.double()).pooler_output.numpy()
    np.testing.assert_allclose(ours, arrays["A_feat_f64"], atol=1e-12)


@pytest.mark.parametrize("merged", [False, True])
def test_in_double_precision_the_recorded_residual_gives_the_recorded_features(
    tower, inputs, arrays, merged
):
    attach(tower, keep=63)
    load_residuals(tower, load_file(FIXTURES / "B_released_layout.safetensors"))
    tower.double()
    if merged:
        merge(tower)
    with torch.no_grad():
        ours = tower(inputs.double()).pooler_output.numpy()
    np.testing.assert_allclose(ours, arrays["B_feat_f64"], atol=1e-12)


def test_merged_is_split_in_double_precision(tower, inputs):
    tower.double()
    attach(tower, keep=60)
    disturb(tower)
    with torch.no_grad():
        before = tower(inputs.double()).pooler_output
        merge(tower)
        assert (tower(inputs.double()).pooler_output - before).abs().max() < 1e-12


def test_the_singular_values_are_the_recorded_ones(tower, arrays):
    weights = {name: tower.get_submodule(name).weight for name in target_layers(tower)}
    recorded = dict(zip(RECORDED["start"]["modules"], arrays["A_singular_values"], strict=True))
    for name, weight in weights.items():
        ours = svd.smallest_triples(weight, 3).S.numpy()
        np.testing.assert_allclose(ours, recorded[name][-3:], atol=1e-10)


def start_training(tower, state):
    """The recorded set-up: residuals, head and optimiser."""
    attach(tower, keep=63)
    start = originals(tower)
    load_residuals(
        tower, {key: v for key, v in state.items() if not key.endswith((".U_r", ".S_r", ".V_r"))}
    )
    head = nn.Linear(64, 2)
    head.load_state_dict({"weight": state["head.weight"], "bias": state["head.bias"]})
    trained = adapter_parameters(tower, head)
    optimiser = torch.optim.Adam(trained.values(), lr=2e-4, weight_decay=5e-4)
    return start, head, trained, optimiser


TRAININGS = {
    "C1": ("A_full_layout", "C1_from_init_CE", False),
    "C2": ("B_released_layout", "C2_from_B_CE", False),
    "C3": ("B_released_layout", "C3_from_B_CE_plus_reg", True),
}


@pytest.mark.parametrize("training", TRAININGS)
def test_three_steps_of_training_are_the_recorded_ones(tower, inputs, training):
    begin, end, penalised = TRAININGS[training]
    start, head, trained, optimiser = start_training(
        tower, load_file(FIXTURES / f"{begin}.safetensors")
    )
    recorded = load_file(FIXTURES / f"{end}.safetensors")
    labels = torch.from_numpy(np.load(FIXTURES / "inputs.npz")["labels"])
    curve = []
    for step in range(3):
        entropy = F.cross_entropy(head(extract(tower, inputs, ("pooler",))), labels)
        loss = entropy
        if penalised:
            loss = loss + orthogonality(tower, start) + kept_singular_values(tower, start)
        optimiser.zero_grad()
        loss.backward()
        if step == 0:
            for name, one in trained.items():
                key = f"grad0.{'' if name.startswith('head.') else 'backbone.'}{name}"
                torch.testing.assert_close(one.grad, recorded[key], atol=2e-5, rtol=1e-4)
        optimiser.step()
        curve.append([loss.item(), entropy.item()])
    expected = RECORDED["trainings"][training]["loss_total_and_ce_before_each_step"]
    np.testing.assert_allclose(curve, expected, atol=1e-4)
    for name in merge(tower):
        weight = recorded[f"final_effective.{name}.weight"]
        torch.testing.assert_close(tower.get_submodule(name).weight, weight, atol=5e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("keep", [-1, 0.5])
def test_detaching_gives_every_bit_back_after_training(dtype, keep):
    tower = small("clip").to(dtype)
    state = {key: value.clone() for key, value in tower.state_dict().items()}
    attach(tower, keep=keep, targets="all")
    disturb(tower)
    detach(tower)
    assert residual_layers(tower) == {}
    assert all(torch.equal(value, state[key]) for key, value in tower.state_dict().items())


def test_the_way_back_costs_a_hundredth_of_the_weight():
    torch.manual_seed(0)
    layer = split(nn.Linear(512, 512), 511)
    kept = sum(part.nbytes for part in (layer.start.U, layer.start.S, layer.start.Vh))
    kept += layer.start.places.nbytes + layer.start.values.nbytes
    assert kept < 0.01 * 512 * 512 * 4


def test_the_way_back_is_not_in_the_state(tower):
    attach(tower)
    layer = next(iter(residual_layers(tower).values()))
    assert set(layer.state_dict()) == {
        "weight_main", "bias", "U_residual", "S_residual", "V_residual"
    }  # fmt: skip


@pytest.mark.parametrize("made", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_can_be_detached_too(tower, made):
    weight = tower.get_submodule("encoder.layers.0.self_attn.q_proj").weight.clone()
    attach(tower)
    copied = made(tower)
    detach(copied)
    assert torch.equal(copied.get_submodule("encoder.layers.0.self_attn.q_proj").weight, weight)
    assert len(residual_layers(tower)) == 8


def test_a_layer_of_a_published_file_cannot_be_detached():
    parts = (torch.eye(4), torch.ones(4, 1), torch.ones(1), torch.ones(1, 4))
    tower = nn.ModuleDict({"a": split(nn.Linear(4, 4), 3), "b": SVDResidualLinear(*parts)})
    with pytest.raises(IncompatibleWeights, match="b: the layer was not split here"):
        detach(tower)
    assert len(residual_layers(tower)) == 2


@pytest.mark.parametrize("change", ["file", "half"])
def test_other_frozen_weights_cannot_be_detached(tower, change):
    attach(tower)
    if change == "file":
        load_residuals(tower, load_file(FIXTURES / "B_released_layout.safetensors"))
    else:
        tower.half()
    with pytest.raises(IncompatibleWeights, match=r"other frozen weights now.*attach to the base"):
        detach(tower)


def test_plain_layers_that_come_back_do_not_train_and_keep_their_mode(tower):
    attach(tower)
    tower.eval()
    merge(tower)
    layer = tower.get_submodule("encoder.layers.0.self_attn.q_proj")
    assert type(layer) is nn.Linear
    assert not layer.training
    assert not any(one.requires_grad for one in tower.parameters())


@pytest.mark.parametrize("part", ["U_residual", "S_residual", "weight_main"])
def test_weights_that_are_not_finite_are_not_merged(tower, part):
    names = attach(tower)
    with torch.no_grad():
        tower.get_submodule(names[-1]).get_parameter(part).view(-1)[0] = torch.nan
    with pytest.raises(CorruptWeights, match=rf"{names[-1]}: .*not finite.*diverged"):
        merge(tower)
    assert len(residual_layers(tower)) == 8


def test_a_merged_weight_that_overflows_is_not_written():
    tower = nn.ModuleDict({"layer": split(nn.Linear(4, 4).half(), 3)})
    with torch.no_grad():
        tower["layer"].S_residual.fill_(60000)
        tower["layer"].U_residual.fill_(8)
        tower["layer"].V_residual.fill_(8)
    with pytest.raises(CorruptWeights, match=r"layer: .*not finite"):
        merge(tower)


@pytest.mark.parametrize("keep", [-1, -20])
def test_a_residual_merges_into_the_plain_tower_it_began_from(tower, keep, tmp_path):
    plain = copy.deepcopy(tower)
    names = attach(tower, keep=keep, targets="all")
    disturb(tower)
    state = adapter_state(tower)
    assert list(state) == [
        f"{name}.{part}" for name in names for part in ("U_residual", "S_residual", "V_residual")
    ]
    assert apply_state(plain, state, cache=tmp_path) == names
    merge(tower)
    for name in names:
        # Only the rounding of W_main lies between.
        torch.testing.assert_close(
            plain.get_submodule(name).weight,
            tower.get_submodule(name).weight,
            atol=1e-6,
            rtol=0,
        )


def test_the_state_does_not_change_with_the_tower(tower):
    attach(tower)
    state = adapter_state(tower)
    before = {key: value.clone() for key, value in state.items()}
    disturb(tower)
    assert all(torch.equal(value, before[key]) for key, value in state.items())
    assert not any(value.requires_grad for value in state.values())


def test_applying_keeps_type_and_training_of_the_tower(tower):
    other = copy.deepcopy(tower).bfloat16().requires_grad_(False)
    attach(tower)
    apply_state(other, adapter_state(tower))
    assert {one.dtype for one in other.parameters()} == {torch.bfloat16}
    assert not any(one.requires_grad for one in other.parameters())


LAYER = "encoder.layers.0.self_attn.q_proj"


@pytest.fixture
def state(tower):
    attached = copy.deepcopy(tower)
    attach(attached)
    disturb(attached)
    return adapter_state(attached)


def refused(tower, state, error, match):
    before = {key: value.clone() for key, value in tower.state_dict().items()}
    with pytest.raises(error, match=match):
        apply_state(tower, state)
    assert all(torch.equal(value, before[key]) for key, value in tower.state_dict().items())


def test_an_unknown_key_is_refused(tower, state):
    state[f"{LAYER}.weight"] = torch.ones(1)
    refused(tower, state, IncompatibleWeights, "q_proj.weight' is no part of a residual; expected")


def test_a_missing_key_is_refused(tower, state):
    del state[f"{LAYER}.S_residual"]
    refused(tower, state, IncompatibleWeights, f"residual of {LAYER} lacks S_residual")


def test_a_residual_of_an_absent_layer_is_refused(tower, state):
    state = {key.replace("layers.1.", "layers.7."): value for key, value in state.items()}
    refused(tower, state, IncompatibleWeights, r"layers\.7.*is missing in CLIPVisionModel")


def test_a_residual_of_another_kind_of_layer_is_refused(tower, state):
    state = {key.replace("1.self_attn.q_proj", "1.mlp"): value for key, value in state.items()}
    refused(tower, state, IncompatibleWeights, "1.mlp, which is a CLIPMLP .*the plain tower")


def test_a_residual_for_a_split_tower_is_refused(tower, state):
    attach(tower)
    refused(tower, state, IncompatibleWeights, "which is a SVDResidualLinear")


def test_a_residual_of_another_width_is_refused(tower, state):
    state[f"{LAYER}.U_residual"] = torch.ones(63, 1)
    refused(tower, state, IncompatibleWeights, rf"{LAYER}: .*U \(63, 1\).*do not fit together")


def test_a_residual_of_no_or_all_triples_is_refused(tower, state):
    for k, what in ((0, "nothing to train"), (64, "nothing of the layer frozen")):
        wrong = state | {
            f"{LAYER}.U_residual": torch.ones(64, k),
            f"{LAYER}.S_residual": torch.ones(k),
            f"{LAYER}.V_residual": torch.ones(k, 64),
        }
        refused(tower, wrong, ConfigError, f"{LAYER}: .*{what}")


def test_a_residual_that_is_not_finite_is_refused(tower, state):
    state[f"{LAYER}.V_residual"][0, 3] = torch.inf
    refused(tower, state, CorruptWeights, f"{LAYER}: the residual holds values that are not finite")


def test_exchanging_a_weight_s_own_triples_changes_nothing():
    weight = torch.randn(9, 7, dtype=torch.float64)
    own = svd.smallest_triples(weight, 2)
    torch.testing.assert_close(exchanged(weight, own.U, own.S, own.Vh), weight, atol=1e-14, rtol=0)


@pytest.mark.parametrize(
    "change",
    [
        {"weight_main": torch.ones(4)},
        {"U": torch.ones(3, 2)},
        {"S": torch.ones(2, 1)},
        {"V": torch.ones(1, 5)},
        {"bias": torch.ones(5)},
    ],
)
def test_parts_of_a_layer_that_do_not_fit_are_refused(change):
    parts = {
        "weight_main": torch.ones(4, 5),
        "U": torch.ones(4, 2),
        "S": torch.ones(2),
        "V": torch.ones(2, 5),
        "bias": torch.ones(4),
    }
    SVDResidualLinear(**parts)
    with pytest.raises(IncompatibleWeights, match=r"do not fit together; expected \(out, in\)"):
        SVDResidualLinear(**parts | change)


@pytest.mark.parametrize("dtype", [torch.float16, torch.int64])
def test_parts_of_a_layer_are_of_one_floating_type(dtype):
    parts = [torch.ones(4, 4), torch.ones(4, 1), torch.ones(1), torch.ones(1, 4, dtype=dtype)]
    with pytest.raises(IncompatibleWeights, match=r"of torch\.\S+, torch\.\S+; one floating type"):
        SVDResidualLinear(*parts)


def test_a_layer_shows_its_sizes():
    assert "in_features=6, out_features=5, trained=2" in repr(split(nn.Linear(6, 5), 3))


def test_d24_a_half_precision_tower_runs_after_the_split(inputs):
    # D24: the published layer is always float32, and fails in a tower of another precision.
    tower = small("clip").bfloat16()
    attach(tower)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.isfinite(extract(tower, pixels, ("pooler",))).all()


def test_d25_the_full_weight_is_not_rebuilt(monkeypatch):
    # D25: the published layer builds the full weight anew in every forward.
    layer = split(nn.Linear(64, 48), 47)
    sizes = []
    linear = F.linear
    monkeypatch.setattr(
        F,
        "linear",
        lambda x, weight, bias=None: sizes.append(weight.shape) or linear(x, weight, bias),
    )
    layer(torch.randn(2, 64))
    assert sizes == [(1, 64), (48, 64), (48, 1)]
