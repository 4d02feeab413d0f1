"""Every recipe on every family, saved both ways: what must hold whatever was trained."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tuned_models import (
    FAMILIES,
    RECIPES,
    TUNINGS,
    logits,
    pixels,
    plain_model,
    save_base,
    train,
    trained,
)
from unmask.errors import CorruptWeights, IncompatibleWeights
from unmask.models import svd
from unmask.models.checkpoint import load_model, save
from unmask.models.detector import load
from unmask.models.tuning import merge, trained_parameters, trained_state, tune

TOLERANCE = 1e-5
"""Of float32 logits of size 1: weights differ by the rounding of a merge, 1e-7 relative."""
WAYS = ("merged", "adapter")
every_recipe = pytest.mark.parametrize("recipe", RECIPES)
every_family = pytest.mark.parametrize("family", FAMILIES)
every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(scope="module", autouse=True)
def no_cache_of_the_user(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNMASK_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    return {family: save_base(root / family, family) for family in FAMILIES}


@pytest.fixture(scope="module")
def everything(tmp_path_factory, bases):
    """What was trained by each recipe on each family, made when it is first asked for."""
    root = tmp_path_factory.mktemp("trained")
    made = {}

    def get(recipe, family):
        key = (recipe, family)
        if key not in made:
            folder = root / f"{recipe}-{family}"
            folder.mkdir()
            made[key] = trained(folder, bases[family], TUNINGS[recipe])
        return made[key]

    return get


def copy_of(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def weights_of(folder):
    return next(folder.glob("*.safetensors"))


def edit(folder, change):
    path = weights_of(folder)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@every_way
@every_family
@every_recipe
def test_what_was_trained_answers_the_same_when_it_is_loaded(recipe, family, way, everything):
    one = everything(recipe, family)
    assert (one.after - one.before).abs().max() > 100 * TOLERANCE
    detector = load(getattr(one, way), device="cpu")
    torch.testing.assert_close(logits(detector.model), one.after, rtol=0, atol=TOLERANCE)


@every_family
@every_recipe
def test_both_ways_load_as_the_same_weights(recipe, family, everything):
    one = everything(recipe, family)
    merged, adapted = (load(folder, device="cpu").model for folder in (one.merged, one.adapter))
    assert merged.state_dict().keys() == adapted.state_dict().keys()
    for name, value in merged.state_dict().items():
        torch.testing.assert_close(adapted.state_dict()[name], value, rtol=0, atol=1e-6)
    assert merged.spec == adapted.spec


@every_family
@every_recipe
def test_a_loaded_adapter_saved_whole_is_the_merged_detector(recipe, family, everything, tmp_path):
    one = everything(recipe, family)
    model = load(one.adapter, device="cpu").model
    folder = save(model, tmp_path / "whole", card="", weights_dtype="float32")
    assert "adapter" not in json.loads((folder / "config.json").read_text())
    assert torch.equal(logits(load_model(folder)), logits(model))


@every_family
@every_recipe
def test_merging_twice_changes_no_more_than_once(recipe, family, bases):
    model, _ = plain_model(bases[family])
    tune(model, TUNINGS[recipe])
    train(model, steps=1)
    before = logits(model)
    merge(model)
    once = {name: value.clone() for name, value in model.state_dict().items()}
    torch.testing.assert_close(logits(model), before, rtol=0, atol=TOLERANCE)
    merge(model)
    assert all(torch.equal(value, once[name]) for name, value in model.state_dict().items())


@every_family
@every_recipe
def test_a_merged_tower_is_a_plain_one_of_its_family(recipe, family, bases):
    plain, _ = plain_model(bases[family])
    model, _ = plain_model(bases[family])
    tune(model, TUNINGS[recipe])
    merge(model)
    kinds = [(name, type(module)) for name, module in model.named_modules()]
    assert kinds == [(name, type(module)) for name, module in plain.named_modules()]
    assert list(model.state_dict()) == list(plain.state_dict())
    assert vars(model.backbone).keys() == vars(plain.backbone).keys()
    assert trained_parameters(model) == {}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@every_family
@every_recipe
def test_half_precision_answers_nearly_the_same(recipe, family, dtype, everything):
    one = everything(recipe, family)  # both ways load as the same weights, see above
    detector = load(one.adapter, device="cpu", dtype=dtype)
    # bfloat16 has 8 bits: errors of 0.4 % per operation, on logits of size 1 to 5.
    atol = {"bfloat16": 0.15, "float16": 0.03}[dtype]
    torch.testing.assert_close(logits(detector.model), one.after, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@every_family
@every_recipe
def test_a_tower_in_half_precision_is_tuned_trained_and_merged(recipe, family, dtype, bases):
    model, _ = plain_model(bases[family])
    model.backbone.to(dtype)
    tune(model, TUNINGS[recipe])
    before = logits(model)
    train(model, steps=2, optimiser=torch.optim.SGD)  # Adam's epsilon is 0 in float16
    assert not torch.equal(logits(model), before)
    unmerged = logits(model)
    merge(model)
    assert {value.dtype for value in model.backbone.parameters()} == {dtype}
    torch.testing.assert_close(logits(model), unmerged, rtol=0, atol=0.15)


@pytest.mark.parametrize(
    "move",
    [
        pytest.param(lambda model: model.double(), id="double"),
        pytest.param(lambda model: model.double().to("cpu").float(), id="back"),
        *[
            pytest.param(lambda model, to=device: model.to(to), id=device)
            for device, there in {
                "cuda": torch.cuda.is_available(),
                "mps": torch.backends.mps.is_available(),
            }.items()
            if there
        ],
    ],
)
@every_family
@every_recipe
def test_a_tuned_model_moves_to_another_device_or_precision(recipe, family, move, bases):
    model, _ = plain_model(bases[family])
    tune(model, TUNINGS[recipe])
    train(model, steps=1)
    before = logits(model)
    model = move(model)
    where = next(model.parameters()).device
    with torch.inference_mode():
        moved = model.logit(pixels(seed=1).to(where)).cpu()
    torch.testing.assert_close(moved, before, rtol=0, atol=1e-3 if where.type != "cpu" else 1e-4)
    merge(model)
    with torch.inference_mode():
        merged = model.logit(pixels(seed=1).to(where)).cpu()
    torch.testing.assert_close(merged, moved, rtol=0, atol=1e-3 if where.type != "cpu" else 1e-5)


@every_way
@every_family
@every_recipe
def test_a_missing_tensor_is_refused_by_name(recipe, family, way, everything, tmp_path):
    folder = copy_of(getattr(everything(recipe, family), way), tmp_path)
    key = sorted(load_file(weights_of(folder)))[0]
    edit(folder, lambda tensors: tensors.pop(key))
    # transformers renames what a whole folder holds before it says what is missing.
    with pytest.raises(IncompatibleWeights, match="missing" if way == "merged" else key):
        load(folder, device="cpu")


@every_way
@every_family
@every_recipe
def test_an_unknown_tensor_is_refused_by_name(recipe, family, way, everything, tmp_path):
    folder = copy_of(getattr(everything(recipe, family), way), tmp_path)
    edit(folder, lambda tensors: tensors.update({"backbone.strange": torch.zeros(2)}))
    with pytest.raises(IncompatibleWeights, match=r"backbone\.strange"):
        load(folder, device="cpu")


@every_family
@every_recipe
def test_another_base_is_refused_with_both_hashes(recipe, family, everything, tmp_path):
    one = everything(recipe, family)
    other = save_base(tmp_path / "other", family, seed=7)
    hashes = [plain_model(folder)[1].sha256 for folder in (one.base, other)]
    with pytest.raises(IncompatibleWeights) as refused:
        load(one.adapter, base=other, device="cpu")
    message = str(refused.value)
    assert all(text in message for text in (*hashes, str(one.base), str(other), "--base"))


@every_family
@every_recipe
def test_weights_that_are_not_finite_are_not_merged(recipe, family, bases):
    model, _ = plain_model(bases[family])
    tune(model, TUNINGS[recipe])
    name, parameter = next(iter(trained_parameters(model).items()))
    with torch.no_grad():
        parameter.view(-1)[0] = float("nan")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CorruptWeights, match=name):
        merge(model)
    assert all(
        torch.equal(value.isnan(), before[key].isnan()) for key, value in model.state_dict().items()
    )


@every_family
@every_recipe
def test_the_state_that_is_saved_is_finite_float32(recipe, family, bases):
    model, _ = plain_model(bases[family])
    tune(model, TUNINGS[recipe])
    state = trained_state(model, TUNINGS[recipe])
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert not any(value.requires_grad for value in state.values())


def test_an_effort_adapter_uses_the_cache_of_triples(everything):
    load(everything("effort", "clip").adapter, device="cpu")
    assert list(svd.default_cache().iterdir())
