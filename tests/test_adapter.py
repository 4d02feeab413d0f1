"""Adapter folders: what they hold, on what they load, and what is refused."""

import copy
import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageClassification, CLIPModel, CLIPVisionConfig

from hub_standin import Repository, files_of, serve
from test_hub import use
from tiny_towers import CLIP
from tuned_models import TUNINGS, logits, plain_model, save_base, train, trained
from unmask.errors import (
    ConfigError,
    CorruptWeights,
    HubUnreachable,
    IncompatibleWeights,
    OutputError,
    UnknownDetector,
)
from unmask.models.adapter import load_adapter, save_adapter
from unmask.models.backbone import build_backbone, load_backbone
from unmask.models.checkpoint import load_model, save
from unmask.models.configuration import (
    AdapterSpec,
    BackboneSource,
    DetectorSpec,
    HeadSpec,
    Tuning,
    UnmaskConfig,
    backbone_config_of,
    read_spec,
    tower_config,
)
from unmask.models.detector import load
from unmask.models.fingerprint import content_sha256, published_names, tensor_digests
from unmask.models.heads import Head
from unmask.models.modeling import UnmaskForImageClassification, assemble
from unmask.models.tuning import trained_state, tune
from unmask.models.weights import file_sha256
from unmask.preprocess import Preprocess

LAYERS = [
    f"encoder.layers.{block}.self_attn.{part}_proj"
    for block in range(3)
    for part in ("k", "out", "q", "v")
]


@pytest.fixture(scope="module", autouse=True)
def no_cache_of_the_user(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNMASK_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base") / "clip", "clip")


@pytest.fixture(scope="module")
def effort(tmp_path_factory, base):
    return trained(tmp_path_factory.mktemp("effort"), base, TUNINGS["effort"])


@pytest.fixture
def folder(effort, tmp_path):
    """A copy of an Effort adapter, to be spoilt."""
    return shutil.copytree(effort.adapter, tmp_path / "copy")


def edit_config(folder, change):
    path = folder / "config.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def edit(folder, change):
    tensors = load_file(folder / "adapter.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter.safetensors", metadata={"format": "pt"})


def tuned(base, recipe="effort"):
    model, source = plain_model(base)
    tune(model, TUNINGS[recipe])
    train(model, steps=1)
    return model, source, trained_state(model, TUNINGS[recipe])


# --- the folder ---------------------------------------------------------------------------------


def test_the_folder_holds_only_what_changed(effort):
    names = {path.name for path in effort.adapter.iterdir()}
    assert names == {
        "config.json",
        "adapter.safetensors",
        "preprocessor_config.json",
        "README.md",
    }
    tensors = load_file(effort.adapter / "adapter.safetensors")
    parts = [f"backbone.{layer}.{part}_residual" for layer in LAYERS for part in "SUV"]
    assert sorted(tensors) == [*sorted(parts), "head.linear.bias", "head.linear.weight"]
    assert tuple(tensors["backbone.encoder.layers.0.self_attn.q_proj.U_residual"].shape) == (32, 2)


def test_the_configuration_says_what_changed_and_of_which_tower(effort, base):
    section = json.loads((effort.adapter / "config.json").read_text())["adapter"]
    sha256 = content_sha256(tensor_digests(load_backbone(base, ["pooler"])))
    assert section["base"] == {"id": str(base), "revision": None, "sha256": sha256}
    assert section["tuning"]["recipe"] == "effort"
    assert section["tuning"]["keep"] == -2
    assert section["changed"] == LAYERS


def test_its_files_are_as_readable_as_each_other(effort):
    assert len({path.stat().st_mode for path in effort.adapter.iterdir()}) == 1


@pytest.mark.parametrize(
    ("recipe", "keys"),
    [
        ("probe", []),
        ("lora", [f"backbone.{layer}.lora_{part}" for layer in LAYERS for part in "AB"]),
        (
            "layernorm",
            [
                f"backbone.{norm}.{part}"
                for norm in (
                    "pre_layrnorm",
                    "post_layernorm",
                    *(f"encoder.layers.{n}.layer_norm{k}" for n in range(3) for k in (1, 2)),
                )
                for part in ("weight", "bias")
            ],
        ),
    ],
)
def test_each_recipe_stores_its_own_tensors(recipe, keys, base, tmp_path):
    model, source, state = tuned(base, recipe)
    folder = save_adapter(
        model, tmp_path / "a", state=state, tuning=TUNINGS[recipe], base=source, card=""
    )
    stored = load_file(folder / "adapter.safetensors").keys()
    assert stored == {*keys, "head.linear.weight", "head.linear.bias"}


def test_keys_are_the_names_of_published_files(tmp_path):
    base = save_base(tmp_path / "dinov2", "dinov2")
    model, source, state = tuned(base, "effort")
    assert "backbone.encoder.layer.0.attention.q_proj.U_residual" in state
    folder = save_adapter(
        model, tmp_path / "a", state=state, tuning=TUNINGS["effort"], base=source, card=""
    )
    stored = load_file(folder / "adapter.safetensors")
    assert "backbone.encoder.layer.0.attention.attention.query.U_residual" in stored
    assert (
        "encoder.layer.0.attention.output.dense"
        in read_spec(UnmaskConfig.from_pretrained(folder)).adapter.changed
    )


def test_an_adapter_is_saved_of_a_merged_model_too(base, tmp_path):
    from unmask.models.tuning import merge

    model, source, state = tuned(base)
    merge(model)
    expected = logits(model)
    folder = save_adapter(
        model, tmp_path / "a", state=state, tuning=TUNINGS["effort"], base=source, card=""
    )
    torch.testing.assert_close(logits(load_adapter(folder, base=base)), expected, rtol=0, atol=1e-5)


def test_the_parity_report_is_stored(base, tmp_path):
    model, source, state = tuned(base, "probe")
    arguments = {"state": state, "tuning": TUNINGS["probe"], "base": source, "card": "# A card"}
    folder = save_adapter(model, tmp_path / "a", **arguments, parity='{"largest": 0}')
    assert (folder / "parity.json").read_text() == '{"largest": 0}'
    assert (folder / "README.md").read_text() == "# A card"


def test_an_existing_folder_is_replaced_only_when_asked(base, tmp_path):
    model, source, state = tuned(base, "probe")
    arguments = {"state": state, "tuning": TUNINGS["probe"], "base": source, "card": ""}
    folder = save_adapter(model, tmp_path / "a", **arguments)
    with pytest.raises(OutputError, match="exists already"):
        save_adapter(model, folder, **arguments)
    assert save_adapter(model, folder, **arguments, overwrite=True) == folder
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


# --- its size on ViT-L/14 -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def large():
    """A detector with the dimensions of CLIP ViT-L/14, without weights."""
    config = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        patch_size=14,
        image_size=224,
        projection_dim=768,
    )
    with torch.device("meta"):
        tower = build_backbone(config, ["pooler"])
        head = Head(1024, 2)
        spec = DetectorSpec(
            backbone_config=backbone_config_of(tower.config),
            features=("pooler",),
            head=HeadSpec(outputs=2),
            preprocess=Preprocess.openai_clip(224),
        )
        return assemble(tower, head, spec)


@pytest.mark.parametrize(
    ("recipe", "count"),
    [
        ("effort", 96 * (1024 + 1024 + 1) + 2050),  # 198,754, as published
        ("layernorm", (24 * 2 + 2) * 2 * 1024 + 2050),
    ],
)
def test_an_adapter_of_vit_l14_takes_less_than_a_megabyte(recipe, count, large, tmp_path):
    model = copy.deepcopy(large)
    tuning = Tuning(recipe)
    tune(model, tuning)
    state = {
        key: torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
        for key, value in trained_state(model, tuning).items()
    }
    assert sum(value.numel() for value in state.values()) == count
    source = BackboneSource("openai/clip-vit-large-patch14", "0" * 40, "0" * 64)
    folder = save_adapter(
        model, tmp_path / "a", state=state, tuning=tuning, base=source, card="# Card\n" * 100
    )
    assert 4 * count < (folder / "adapter.safetensors").stat().st_size
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000


# --- the base -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_clip(tmp_path_factory):
    """One random CLIP as published: both halves, as .safetensors and as .bin."""
    root = tmp_path_factory.mktemp("clip")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        clip = CLIPModel(copy.deepcopy(CLIP))
        for parameter in clip.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        clip.save_pretrained(root / "safetensors")
    (root / "bin").mkdir()
    shutil.copy(root / "safetensors" / "config.json", root / "bin")
    tensors = load_file(root / "safetensors" / "model.safetensors")
    torch.save(tensors, root / "bin" / "pytorch_model.bin")
    clip.vision_model.save_pretrained(root / "tower")
    return root


@pytest.mark.parametrize("form", ["safetensors", "bin", "tower"])
def test_the_hash_of_a_tower_does_not_depend_on_its_file(form, whole_clip):
    towers = [load_backbone(whole_clip / name, ["pooler"]) for name in ("safetensors", form)]
    one, other = (content_sha256(tensor_digests(tower)) for tower in towers)
    assert one == other


def test_the_hash_counts_a_projection_and_nothing_of_its_prefix(whole_clip):
    plain, projected = (
        tensor_digests(load_backbone(whole_clip / "bin", [feature]))
        for feature in ("pooler", "projection")
    )
    assert {**plain, "visual_projection.weight": projected["visual_projection.weight"]} == projected


def test_the_hash_is_of_the_blocks_that_the_features_need(whole_clip):
    whole, cut = (
        content_sha256(tensor_digests(load_backbone(whole_clip / "bin", [feature])))
        for feature in ("pooler", "mean@2")
    )
    assert whole != cut


def test_the_hash_is_the_same_in_half_precision_that_loses_nothing():
    tower = torch.nn.Linear(2, 2)
    with torch.no_grad():
        tower.weight.copy_(torch.tensor([[1.0, 0.5], [2, -4]]))
    digests = [tensor_digests_of(tower), tensor_digests_of(copy.deepcopy(tower).half())]
    assert digests[0] == digests[1]


def tensor_digests_of(linear):
    """Of the weight alone; a bare layer has no published name to look up."""
    from unmask.models import fingerprint

    return fingerprint._digest(linear.weight)


def test_the_hash_tells_shapes_apart():
    from unmask.models import fingerprint

    assert fingerprint._digest(torch.zeros(2, 3)) != fingerprint._digest(torch.zeros(3, 2))


def test_an_adapter_made_on_one_form_of_a_clip_loads_on_the_others(whole_clip, tmp_path):
    one = trained(tmp_path, whole_clip / "safetensors", TUNINGS["effort"])
    for form in ("bin", "tower"):
        model = load_adapter(one.adapter, base=whole_clip / form)
        torch.testing.assert_close(logits(model), one.after, rtol=0, atol=1e-5)


def test_an_adapter_on_the_projection_is_saved_without_the_prefix(whole_clip, tmp_path):
    one = trained(tmp_path, whole_clip / "bin", TUNINGS["effort"], features=("projection",))
    tensors = load_file(one.adapter / "adapter.safetensors")
    assert f"backbone.{LAYERS[0]}.U_residual" in tensors
    torch.testing.assert_close(logits(load_adapter(one.adapter)), one.after, rtol=0, atol=1e-5)


def test_an_adapter_of_a_cut_tower_loads_on_the_whole_one(whole_clip, tmp_path):
    one = trained(tmp_path, whole_clip / "bin", TUNINGS["lora"], features=("mean@2",))
    model = load_adapter(one.adapter)
    assert len(model.backbone.encoder.layers) == 2
    torch.testing.assert_close(logits(model), one.after, rtol=0, atol=1e-5)


def test_the_tower_computes_what_the_adapter_says_not_what_its_folder_says(effort, base, tmp_path):
    other = shutil.copytree(base, tmp_path / "base")
    edit_config(other, lambda values: values.update(hidden_act="gelu"))
    model = load_adapter(effort.adapter, base=other)
    torch.testing.assert_close(logits(model), effort.after, rtol=0, atol=1e-5)


def test_an_adapter_on_the_tower_of_another_detector_loads_on_it(effort, tmp_path):
    model = load_model(effort.merged)
    source = BackboneSource(
        str(effort.merged), None, content_sha256(tensor_digests(model.backbone))
    )
    tuning = TUNINGS["layernorm"]
    tune(model, tuning)
    train(model)
    after = logits(model)
    folder = save_adapter(
        model,
        tmp_path / "a",
        state=trained_state(model, tuning),
        tuning=tuning,
        base=source,
        card="",
    )
    torch.testing.assert_close(
        logits(load_adapter(folder, base=effort.merged)), after, rtol=0, atol=1e-5
    )


def test_a_base_that_is_gone_asks_for_it(folder, tmp_path):
    edit_config(folder, lambda values: values["adapter"]["base"].update(id="gone"))
    with pytest.raises(UnknownDetector, match=r"made on gone, .* is not found: .* --base"):
        load(folder, device="cpu")


def test_a_base_of_another_form_is_refused_with_its_hash(folder, effort, tmp_path):
    other = save_base(tmp_path / "siglip", "siglip")
    sha256 = json.loads((folder / "config.json").read_text())["adapter"]["base"]["sha256"]
    named = rf"{sha256}, and .*siglip \(file [0-9a-f]{{64}}\) has not even its form"
    with pytest.raises(IncompatibleWeights, match=named):
        load_adapter(folder, base=other)


def test_a_base_is_fetched_from_the_hub_at_its_revision(
    whole_clip, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    one = trained(tmp_path, whole_clip / "safetensors", TUNINGS["layernorm"])
    clip = Repository(files_of(whole_clip / "safetensors"))
    with serve({"org/clip": clip, "org/adapter": Repository({})}) as hub:
        edit_config(
            one.adapter,
            lambda values: values["adapter"]["base"].update(id="org/clip", revision=clip.commit),
        )
        hub.repositories["org/adapter"] = Repository(files_of(one.adapter))
        use(monkeypatch, hub.url, tmp_path / "cache")
        detector = load("org/adapter", device="cpu")
        assert sorted(hub.fetched())[:1] == ["adapter.safetensors"]
        torch.testing.assert_close(logits(detector.model), one.after, rtol=0, atol=1e-5)
        again = load("org/adapter", offline=True, device="cpu")
        assert hub.fetched() == []
        assert again.ref == detector.ref
        assert detector.ref.id == f"org/adapter@{hub.repositories['org/adapter'].commit}"
        edit_config(one.adapter, lambda values: values["adapter"]["base"].update(revision="0" * 40))
        with pytest.raises(UnknownDetector, match="org/clip has no revision '0000"):
            load(one.adapter, device="cpu")


def test_a_base_that_is_not_in_the_cache_asks_for_it(folder, tmp_path, monkeypatch):
    use(monkeypatch, "http://127.0.0.1:1", tmp_path / "cache")
    edit_config(folder, lambda values: values["adapter"]["base"].update(id="org/clip"))
    with pytest.raises(HubUnreachable, match=r"made on org/clip.*--base"):
        load(folder, offline=True, device="cpu")


def test_scan_takes_the_base_by_option(cli, pictures, folder, base):
    edit_config(folder, lambda values: values["adapter"]["base"].update(id="gone"))
    arguments = ("scan", pictures("a.png"), "-d", folder, "--device", "cpu", "--json")
    refused = cli(*arguments)
    assert refused.code == 2
    assert "--base" in refused.err
    scored = cli(*arguments, "--base", base)
    assert scored.code == 0
    assert json.loads(scored.out)["detector"]["sha256"] == load(folder, base=base).ref.sha256


# --- who answered -------------------------------------------------------------------------------


def test_the_reference_covers_the_adapter_and_its_base(folder, effort):
    ref = load(effort.adapter, device="cpu").ref
    assert ref.trained
    assert ref.id == str(effort.adapter)
    assert ref.sha256 != file_sha256(effort.adapter / "adapter.safetensors")
    assert load(folder, device="cpu").ref.sha256 == ref.sha256
    edit(folder, lambda tensors: tensors["head.linear.bias"].add_(1))
    assert load(folder, device="cpu").ref.sha256 != ref.sha256


def test_the_reference_tells_bases_apart(folder, effort, tmp_path):
    """The same changes on another tower are another detector."""
    other = save_base(tmp_path / "other", "clip", seed=5)
    _, source = plain_model(other)
    edit_config(
        folder,
        lambda values: values["adapter"]["base"].update(id=str(other), sha256=source.sha256),
    )
    assert (folder / "adapter.safetensors").read_bytes() == (
        effort.adapter / "adapter.safetensors"
    ).read_bytes()
    one, two = load(folder, device="cpu").ref, load(effort.adapter, device="cpu").ref
    assert one.sha256 != two.sha256


def test_a_base_is_of_no_use_to_a_whole_detector(effort, base):
    with pytest.raises(ConfigError, match="is no adapter, so it has no base"):
        load(effort.merged, base=base)


def test_a_base_is_of_no_use_to_a_bare_tower(base):
    with pytest.raises(ConfigError, match="is no adapter, so it has no base"):
        load(base, base=base, allow_untrained=True)


def test_a_loaded_adapter_gives_its_fields(effort):
    detector = load(effort.adapter, device="cpu")
    assert detector.model.spec == load(effort.merged, device="cpu").model.spec
    assert detector.model.spec.adapter is None
    assert {value.dtype for value in detector.model.parameters()} == {torch.float32}
    assert not detector.model.training


# --- refused ------------------------------------------------------------------------------------


def test_a_whole_detector_is_no_adapter(effort):
    with pytest.raises(IncompatibleWeights, match="is no adapter folder; load it with unmask"):
        load_adapter(effort.merged)


def test_a_bare_tower_is_no_adapter(base):
    with pytest.raises(IncompatibleWeights, match="is no adapter folder"):
        load_adapter(base)


def test_an_adapter_is_no_whole_detector(effort):
    with pytest.raises(IncompatibleWeights, match=r"is an adapter: .* load_adapter"):
        load_model(effort.adapter)


def test_transformers_alone_finds_no_weights_in_an_adapter(effort):
    with pytest.raises(OSError, match=r"model\.safetensors"):
        AutoModelForImageClassification.from_pretrained(effort.adapter)


def test_whole_weights_are_not_saved_as_an_adapter(effort, tmp_path):
    model = load(effort.merged, device="cpu").model
    section = AdapterSpec(Tuning("probe"), BackboneSource("x", None, "0" * 64), ())
    described = assemble(model.backbone, model.head, replace(model.spec, adapter=section))
    with pytest.raises(ConfigError, match="describes an adapter"):
        save(described, tmp_path / "d", card="")


def test_a_base_without_a_hash_is_not_saved(base, tmp_path):
    model, source, state = tuned(base, "probe")
    with pytest.raises(ConfigError, match="has no sha256"):
        save_adapter(
            model,
            tmp_path / "a",
            state=state,
            tuning=TUNINGS["probe"],
            base=replace(source, sha256=None),
            card="",
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("recipe", "change", "error", "word"),
    [
        (
            "effort",
            lambda state: state.pop("head.linear.bias"),
            IncompatibleWeights,
            r"lacks tensors: head\.linear\.bias",
        ),
        (
            "effort",
            lambda state: state.pop(f"backbone.{LAYERS[0]}.S_residual"),
            IncompatibleWeights,
            "lacks tensors: .*k_proj.S_residual",
        ),
        (
            "probe",
            lambda state: state.update({"backbone.pre_layrnorm.weight": torch.ones(32)}),
            IncompatibleWeights,
            r"recipe 'probe', does not have: pre_layrnorm\.weight",
        ),
        (
            "effort",
            lambda state: state.update({f"backbone.{LAYERS[0]}x.S_residual": torch.ones(2)}),
            IncompatibleWeights,
            "does not have: .*k_projx",
        ),
        (
            "lora",
            lambda state: state.update({f"backbone.{LAYERS[0]}.lora_C": torch.ones(2)}),
            IncompatibleWeights,
            "do not belong there: .*lora_C",
        ),
        (
            "lora",
            lambda state: state.update({f"backbone.{LAYERS[0]}.lora_A": torch.ones(3, 32)}),
            IncompatibleWeights,
            r"another shape: .*lora_A \[3, 32\] instead of \[2, 32\]",
        ),
        (
            "layernorm",
            lambda state: state["backbone.pre_layrnorm.weight"].fill_(float("nan")),
            CorruptWeights,
            "pre_layrnorm.weight holds values that are not finite",
        ),
        (
            "probe",
            lambda state: state.update({"head.linear.weight": torch.ones(2, 31)}),
            IncompatibleWeights,
            r"another shape: head.linear.weight \[2, 31\]",
        ),
    ],
)
def test_a_state_that_does_not_fit_is_not_saved(recipe, change, error, word, base, tmp_path):
    model, source, state = tuned(base, recipe)
    state = {key: value.clone() for key, value in state.items()}
    change(state)
    with pytest.raises(error, match=word):
        save_adapter(
            model, tmp_path / "a", state=state, tuning=TUNINGS[recipe], base=source, card=""
        )
    assert list(tmp_path.iterdir()) == []


def test_a_long_list_of_missing_tensors_is_cut(folder):
    edit(folder, lambda tensors: [tensors.pop(key) for key in list(tensors)[:20]])
    with pytest.raises(IncompatibleWeights, match=r"lacks tensors: .* and 12 more; fetch"):
        load_adapter(folder)


def test_a_file_that_was_cut_short_is_refused(folder):
    path = folder / "adapter.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptWeights, match="damaged or cut short"):
        load_adapter(folder)


def test_a_folder_without_the_file_is_refused(folder):
    (folder / "adapter.safetensors").unlink()
    with pytest.raises(IncompatibleWeights, match=r"adapter\.safetensors is missing"):
        load_adapter(folder)


def test_values_that_are_not_finite_are_refused(folder):
    edit(folder, lambda tensors: tensors["head.linear.bias"].fill_(float("inf")))
    with pytest.raises(CorruptWeights, match=r"head\.linear\.bias holds values that"):
        load_adapter(folder)


def test_changes_that_make_a_weight_infinite_are_refused(base, tmp_path):
    model, source, state = tuned(base, "lora")
    state = {
        key: torch.full_like(value, 1e30) if "lora" in key else value
        for key, value in state.items()
    }
    folder = save_adapter(
        model, tmp_path / "a", state=state, tuning=TUNINGS["lora"], base=source, card=""
    )
    with pytest.raises(CorruptWeights, match=r"q_proj\.weight holds values|k_proj\.weight holds"):
        load_adapter(folder, base=base)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda adapter: adapter.update(extra=1), r"adapter has unknown \['extra'\]"),
        (lambda adapter: adapter.pop("changed"), "adapter is incomplete"),
        (lambda adapter: adapter.pop("tuning"), "adapter is incomplete"),
        (lambda adapter: adapter.update(changed="all"), "adapter.changed is 'all'"),
        (lambda adapter: adapter.update(changed=[1]), r"adapter.changed is \[1\]"),
        (lambda adapter: adapter.update(tuning=[]), r"adapter.tuning holds \[\]"),
        (lambda adapter: adapter["tuning"].update(recipe="x"), "the recipe 'x' is not known"),
        (lambda adapter: adapter["tuning"].update(recipe=["effort"]), "is not known"),
        (lambda adapter: adapter["tuning"].update(lora_alpha=10**400), "lora_alpha 1000"),
        (lambda adapter: adapter["tuning"].update(keep=float("nan")), "keep is nan"),
        (lambda adapter: adapter["tuning"].update(targets=5), "targets is 5"),
        (lambda adapter: adapter["base"].update(id=5), r"adapter\.base\.id is 5"),
        (lambda adapter: adapter["base"].update(sha256=5), r"adapter\.base\.sha256 is 5"),
        (lambda adapter: adapter["tuning"].update(rank=1), r"tuning has unknown \['rank'\]"),
        (lambda adapter: adapter.update(base="clip"), "adapter.base holds 'clip'"),
        (lambda adapter: adapter["base"].pop("id"), "adapter.base is incomplete"),
        (lambda adapter: adapter["base"].update(sha256=None), "adapter.base has no sha256"),
    ],
)
def test_a_damaged_description_is_refused(change, word, folder):
    edit_config(folder, lambda values: change(values["adapter"]))
    with pytest.raises(ConfigError, match=word):
        load_adapter(folder)


def test_targets_by_name_survive_the_file(base, tmp_path):
    model, source = plain_model(base)
    tuning = Tuning("lora", targets=("q_proj", "v_proj"))
    tune(model, tuning)
    state = trained_state(model, tuning)
    folder = save_adapter(model, tmp_path / "a", state=state, tuning=tuning, base=source, card="")
    assert read_spec(UnmaskConfig.from_pretrained(folder)).adapter.tuning == tuning
    torch.testing.assert_close(
        logits(load_adapter(folder, base=base)), logits(model), rtol=0, atol=1e-5
    )


def test_the_description_of_an_adapter_survives_the_file(effort):
    spec = read_spec(UnmaskConfig.from_pretrained(effort.adapter))
    _, source = plain_model(effort.base)
    assert spec.adapter == AdapterSpec(TUNINGS["effort"], source, tuple(LAYERS))
    assert read_spec(spec.to_config()) == spec


def test_published_names_are_those_of_the_file(whole_clip):
    tower = load_backbone(whole_clip / "tower", ["pooler"])
    names = published_names(tower)
    assert list(names) == list(tower.state_dict())
    in_file = load_file(whole_clip / "tower" / "model.safetensors")
    assert set(names.values()) == {name.removeprefix("vision_model.") for name in in_file}


@pytest.mark.parametrize("family", ["dinov2", "dinov3", "vit", "siglip"])
def test_published_names_are_the_same_before_and_after_a_file(family, tmp_path):
    folder = save_base(tmp_path / family, family)
    loaded = load_backbone(folder, ["pooler"])
    with torch.device("meta"):
        built = build_backbone(tower_config(backbone_config_of(loaded.config)), ["pooler"])
    assert published_names(loaded) == published_names(built)
    assert set(published_names(built).values()) == set(load_file(folder / "model.safetensors"))


def test_two_tensors_of_one_published_name_are_refused():
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = None
            self.layer = torch.nn.Linear(2, 2)
            self.vision_model = torch.nn.ModuleDict({"layer": torch.nn.Linear(2, 2)})

    tower = Twice()
    object.__setattr__(tower, "_weight_conversions", [])
    with pytest.raises(IncompatibleWeights, match="two tensors of one name"):
        published_names(tower)


def test_the_model_class_is_the_one_of_merged_folders(effort):
    assert type(load_adapter(effort.adapter)) is UnmaskForImageClassification


# --- what a hostile folder tries ------------------------------------------------------------------


def test_whole_weights_beside_an_adapter_are_refused(folder, effort):
    """They would be hashed in the place of the adapter's, which answer."""
    shutil.copy(effort.merged / "model.safetensors", folder)
    with pytest.raises(IncompatibleWeights, match=r"both model\.safetensors and adapter\."):
        load_adapter(folder)
    with pytest.raises(IncompatibleWeights, match=r"both model\.safetensors and adapter\."):
        load(folder, device="cpu")


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_tensors_that_are_not_floating_point_are_refused(dtype, folder):
    key = "head.linear.weight"
    edit(folder, lambda tensors: tensors.update({key: tensors[key].to(dtype)}))
    with pytest.raises(IncompatibleWeights, match=f"{dtype}, and floating point was expected"):
        load_adapter(folder)


@pytest.mark.parametrize("count", [0, 33])
def test_a_number_of_triples_that_the_layer_does_not_have_is_a_fault_of_the_file(count, folder):
    key = f"backbone.{LAYERS[0]}"

    def change(tensors):
        tensors[f"{key}.U_residual"] = torch.zeros(32, count)
        tensors[f"{key}.S_residual"] = torch.zeros(count)
        tensors[f"{key}.V_residual"] = torch.zeros(count, 32)

    edit(folder, change)
    with pytest.raises(IncompatibleWeights, match=rf"{count} singular triples of .*Fetch the ad"):
        load_adapter(folder)


def test_no_path_of_the_machine_that_trained_it_is_stored(base, tmp_path):
    model, source, state = tuned(base, "probe")
    folder = save_adapter(
        model, tmp_path / "a", state=state, tuning=TUNINGS["probe"], base=source, card=""
    )
    text = (folder / "config.json").read_text()
    assert json.loads(text)["adapter"]["base"]["id"] == base.name
    assert str(base.parent) not in text


def test_a_hub_id_of_a_base_is_stored_as_it_is(base, tmp_path):
    model, source, state = tuned(base, "probe")
    there = replace(source, id="org/clip", revision="0" * 40)
    folder = save_adapter(
        model, tmp_path / "a", state=state, tuning=TUNINGS["probe"], base=there, card=""
    )
    assert read_spec(UnmaskConfig.from_pretrained(folder)).adapter.base == there


def test_a_base_is_found_beside_the_adapter_by_its_name(folder, base, effort):
    edit_config(folder, lambda values: values["adapter"]["base"].update(id="clip"))
    shutil.copytree(base, folder.parent / "clip")
    torch.testing.assert_close(logits(load_adapter(folder)), effort.after, rtol=0, atol=1e-5)


def test_the_advice_is_a_sentence_of_its_own(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnknownDetector, match=r"so no detector is there\. Give the folder"):
        load_adapter(folder, base=tmp_path / "empty")
