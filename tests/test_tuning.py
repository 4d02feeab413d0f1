"""Which weights each recipe trains, and that a tuned tower stays a tower."""

import math

import peft
import pytest
import torch
from torch import nn

from tiny_towers import TOWERS
from tuned_models import TUNINGS, logits, pixels, plain_model, save_base, train
from unmask.errors import ConfigError, IncompatibleWeights
from unmask.models.backbone import blocks, extract, truncate
from unmask.models.effort import SVDResidualLinear
from unmask.models.fingerprint import tensor_digests
from unmask.models.tuning import (
    Tuning,
    adapted_weight,
    merge,
    trained_parameters,
    trained_state,
    tune,
)

HEAD = ["head.linear.weight", "head.linear.bias"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    return {family: save_base(root / family, family) for family in TOWERS}


@pytest.fixture
def model(bases):
    return plain_model(bases["clip"])[0]


# --- what trains --------------------------------------------------------------------------------


def test_a_probe_trains_the_head_alone(model):
    assert tune(model, Tuning("probe")) == HEAD


def test_full_trains_everything(model):
    assert tune(model, Tuning("full")) == [name for name, _ in model.named_parameters()]


def test_layernorm_trains_the_norms_that_gend_trains(model):
    names = tune(model, Tuning("layernorm"))
    norms = {name.partition(".ln_tuning_layers.")[0] for name in names if name not in HEAD}
    of_blocks = {
        f"backbone.encoder.layers.{block}.layer_norm{number}"
        for block in range(3)
        for number in (1, 2)
    }
    assert norms == {"backbone.pre_layrnorm", "backbone.post_layernorm", *of_blocks}
    assert len(names) == 2 * len(norms) + len(HEAD)


@pytest.mark.parametrize("family", list(TOWERS))
def test_layernorm_trains_all_norms_of_every_family(family, bases):
    model, _ = plain_model(bases[family])
    norms = sum(isinstance(module, nn.LayerNorm) for module in model.modules())
    names = tune(model, Tuning("layernorm"))
    assert norms >= 2 * 3 + 1
    assert len(names) == 2 * norms + len(HEAD)


@pytest.mark.parametrize("family", list(TOWERS))
def test_lora_trains_two_thin_matrices_per_attention_projection(family, bases):
    model, _ = plain_model(bases[family])
    names = tune(model, Tuning("lora", lora_rank=2))
    assert len(names) == 3 * 4 * 2 + len(HEAD)
    shapes = {tuple(value.shape) for value in trained_parameters(model.backbone).values()}
    assert shapes == {(2, 32), (32, 2)}


@pytest.mark.parametrize("family", list(TOWERS))
def test_effort_trains_one_triple_per_attention_projection(family, bases):
    model, _ = plain_model(bases[family])
    names = tune(model, Tuning("effort"))
    assert len(names) == 3 * 4 * 3 + len(HEAD)
    layers = [module for module in model.modules() if isinstance(module, SVDResidualLinear)]
    assert {layer.S_residual.numel() for layer in layers} == {1}


@pytest.mark.parametrize("recipe", ["effort", "lora"])
def test_targets_are_chosen_by_name(recipe, model):
    names = tune(model, Tuning(recipe, targets=("q_proj",)))
    assert all("q_proj" in name for name in names if name not in HEAD)
    assert len({name.split(".q_proj")[0] for name in names if name not in HEAD}) == 3


def test_effort_keeps_as_many_triples_as_asked(model):
    tune(model, Tuning("effort", keep=0.75))
    layers = [module for module in model.modules() if isinstance(module, SVDResidualLinear)]
    assert {layer.S_residual.numel() for layer in layers} == {8}


def test_effort_reports_its_progress_and_fills_the_cache(model, tmp_path):
    from contextlib import contextmanager

    told = []

    @contextmanager
    def progress(what, total):
        told.append(total)
        yield lambda: told.append(1)

    tune(model, Tuning("effort"), cache=tmp_path / "svd", progress=progress)
    assert told == [12, *[1] * 12]
    assert list((tmp_path / "svd").iterdir())


@pytest.mark.parametrize("recipe", list(TUNINGS))
def test_tuning_changes_no_answer_yet(recipe, model):
    before = logits(model)
    tune(model, TUNINGS[recipe])
    torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("recipe", list(TUNINGS))
def test_training_moves_what_trains_and_nothing_else(recipe, model):
    names = set(tune(model, TUNINGS[recipe]))
    before = {name: value.clone() for name, value in model.named_parameters()}
    train(model, steps=2)
    moved = {name for name, value in model.named_parameters() if not value.equal(before[name])}
    assert moved <= names
    # Attention does not see the bias of keys: softmax takes it away again.
    assert {name for name in names - moved if "k_proj.bias" not in name} == set()


# --- a tuned tower is a tower -------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["effort", "layernorm", "lora", "full"])
@pytest.mark.parametrize("family", list(TOWERS))
def test_features_of_blocks_are_tapped_and_carry_gradients(recipe, family, bases):
    model, _ = plain_model(bases[family], ("mean@1", "mean"))
    tune(model, TUNINGS[recipe])
    model.train()
    features = extract(model.backbone, pixels(2), ("mean@1", "mean"))
    assert features.shape == (2, 64)
    features[:, :32].sum().backward()
    first = [
        name
        for name, value in trained_parameters(model).items()
        if value.grad is not None and value.grad.abs().sum() > 0
    ]
    assert first
    assert not any(
        f"layers.{n}." in name or f"layer.{n}." in name for n in (1, 2) for name in first
    )


@pytest.mark.parametrize("recipe", ["effort", "layernorm", "lora", "full"])
@pytest.mark.parametrize("family", list(TOWERS))
def test_a_tuned_tower_is_cut_after_a_block(recipe, family, bases):
    model, _ = plain_model(bases[family], ("mean@2", "mean"))
    tune(model, TUNINGS[recipe])
    with torch.inference_mode():
        whole = extract(model.backbone, pixels(2), ("mean@2",))
        assert len(blocks(truncate(model.backbone, 2))) == 2
        torch.testing.assert_close(extract(model.backbone, pixels(2), ("mean@2",)), whole)
    merge(model)
    with torch.inference_mode():
        cut = extract(model.backbone, pixels(2), ("mean@2",))
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-5)


def test_a_merged_model_is_tuned_again_by_another_recipe(model):
    tune(model, Tuning("lora"))
    train(model, steps=1)
    merge(model)
    before = logits(model)
    names = tune(model, Tuning("layernorm"))
    assert not any("lora" in name for name in names)
    assert set(HEAD) <= set(names)
    torch.testing.assert_close(logits(model), before)


@pytest.mark.parametrize("recipe", ["effort", "layernorm", "lora"])
def test_a_tuned_model_is_not_tuned_again(recipe, model):
    tune(model, TUNINGS[recipe])
    with pytest.raises(ConfigError, match="tuned already; merge it"):
        tune(model, Tuning("probe"))


def test_a_tower_without_norms_has_none_to_tune(model):
    model.backbone = nn.Linear(3, 3)
    with pytest.raises(IncompatibleWeights, match="Linear has no layer norms"):
        tune(model, Tuning("layernorm"))


@pytest.mark.parametrize("recipe", ["effort", "lora"])
def test_targets_that_fit_nothing_are_refused(recipe, model):
    with pytest.raises(ConfigError, match="qproj"):
        tune(model, Tuning(recipe, targets=("qproj",)))


# --- LoRA's product -----------------------------------------------------------------------------


def test_a_merged_lora_layer_is_what_peft_merges(model):
    tune(model, Tuning("lora", lora_rank=2, lora_alpha=3.0))
    train(model, steps=2)
    layer = model.backbone.get_submodule("encoder.layers.0.self_attn.q_proj")
    delta = layer.get_delta_weight("default")
    expected = layer.get_base_layer().weight + delta
    assert delta.abs().max() > 1e-3
    merge(model)
    merged = model.backbone.get_submodule("encoder.layers.0.self_attn.q_proj")
    torch.testing.assert_close(merged.weight, expected, rtol=0, atol=1e-6)


def test_a_lora_product_is_scaled_and_added_in_full_precision():
    weight = torch.full((2, 3), 1e4)
    A, B = torch.tensor([[1.0, 2, 3]]), torch.tensor([[1.0], [-1]])
    assert adapted_weight(weight, A, B, 0.5).tolist() == [
        [10000.5, 10001, 10001.5],
        [9999.5, 9999, 9998.5],
    ]
    assert adapted_weight(weight.half(), A, B, 0.5).dtype == torch.float16


def test_peft_adapters_on_something_else_than_a_linear_layer_are_refused(model):
    patches = peft.LoraConfig(target_modules=["patch_embedding"])
    peft.inject_adapter_in_model(patches, model.backbone)
    with pytest.raises(IncompatibleWeights, match=r"patch_embedding is a Conv2d, not a linear"):
        merge(model)


# --- what is stored -----------------------------------------------------------------------------


def test_the_state_of_a_probe_is_its_head(model):
    tune(model, Tuning("probe"))
    assert sorted(trained_state(model, Tuning("probe"))) == sorted(HEAD)


def test_the_state_of_full_leaves_out_what_stayed_the_same(bases):
    model, _ = plain_model(bases["dinov2"])
    digests = tensor_digests(model.backbone)
    tune(model, Tuning("full"))
    assert sorted(trained_state(model, Tuning("full"), base=digests)) == sorted(HEAD)
    train(model, steps=1)
    state = trained_state(model, Tuning("full"), base=digests)
    # The mask token is never seen without a mask.
    left_out = trained_state(model, Tuning("full")).keys() - state.keys()
    assert "backbone.embeddings.mask_token" in left_out
    assert all(name.endswith(("mask_token", "k_proj.bias")) for name in left_out)


def test_the_state_is_a_copy_by_the_names_of_layers(model):
    tuning = Tuning("lora", lora_rank=2)
    tune(model, tuning)
    state = trained_state(model, tuning)
    assert tuple(state["backbone.encoder.layers.0.self_attn.q_proj.lora_A"].shape) == (2, 32)
    assert len(state) == 3 * 4 * 2 + 2


def test_the_state_of_another_recipe_is_refused(model):
    tune(model, Tuning("lora"))
    with pytest.raises(ConfigError, match="tuned by lora and 'effort' was expected"):
        trained_state(model, Tuning("effort"))


def test_the_state_of_a_merged_model_is_refused(model):
    tune(model, Tuning("lora"))
    merge(model)
    with pytest.raises(ConfigError, match=r"by no adapter .* before merge"):
        trained_state(model, Tuning("lora"))


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"recipe": "lorra"}, "the recipe 'lorra' is not known; known are probe, effort"),
        ({"recipe": "lora", "lora_rank": 0}, "lora_rank is 0"),
        ({"recipe": "lora", "lora_rank": True}, "lora_rank is True"),
        ({"recipe": "lora", "lora_alpha": 0}, "lora_alpha 0"),
        ({"recipe": "lora", "lora_alpha": math.inf}, "lora_alpha inf"),
        ({"recipe": "effort", "keep": "all"}, "keep is 'all'"),
        ({"recipe": "effort", "targets": ()}, "targets is ()"),
        ({"recipe": "effort", "targets": (1,)}, "targets is (1,)"),
    ],
)
def test_settings_that_no_recipe_can_work_with_are_refused(settings, word):
    with pytest.raises(ConfigError) as refused:
        Tuning(**settings)
    assert word in str(refused.value)


def test_an_effort_that_would_train_nothing_is_refused_and_leaves_the_tower(model):
    kinds = [type(module) for module in model.modules()]
    with pytest.raises(ConfigError, match="nothing to train"):
        tune(model, Tuning("effort", keep=32))
    assert [type(module) for module in model.modules()] == kinds
