import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

import unmask
from tiny_classifiers import save_classifier
from unmask.convert import conversion, convert, read_parity, source, verify
from unmask.convert.parity import largest_difference, parity_inputs, tolerance
from unmask.errors import (
    ConfigError,
    CorruptWeights,
    IncompatibleWeights,
    OutputError,
)
from unmask.models import catalog
from unmask.models.catalog import Published
from unmask.models.locate import Located, locate
from unmask.models.published.effort import read_effort
from unmask.models.weights import file_sha256, weights_sha256
from unmask.preprocess import Preprocess
from unmask.types import FaceSpec

FIXTURES = Path(__file__).parent / "fixtures" / "effort"
RELEASED = FIXTURES / "B_released_layout_module_prefix.pth"
BASE = FIXTURES / "tiny_clip"
FILES = {
    "README.md",
    "config.json",
    "model.safetensors",
    "parity.json",
    "preprocessor_config.json",
}


def make(folder, **options):
    return convert("effort", RELEASED, folder, **{"base": BASE, **options})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return make(tmp_path_factory.mktemp("converted") / "effort")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return make(tmp_path_factory.mktemp("converted") / "adapter", as_="adapter")


@pytest.fixture(scope="module")
def pixels():
    return torch.from_numpy(np.load(FIXTURES / "inputs.npz")["pixel_values"])


@pytest.fixture(scope="module")
def recorded():
    logits = np.load(FIXTURES / "arrays.npz")["B_logits"]
    return torch.from_numpy(logits[:, 1] - logits[:, 0])


def logits(folder, pixels, **options):
    model = unmask.load(folder, device="cpu", **options).model
    with torch.inference_mode():
        return model.logit(pixels)


@pytest.fixture
def reader(monkeypatch):
    """Lets a test change what reading gives."""

    def install(change):
        monkeypatch.setattr(
            source, "read_effort", lambda *given, **options: change(read_effort(*given, **options))
        )

    return install


# The folder.


def test_a_converted_folder_gives_the_recorded_logits(done, pixels, recorded):
    torch.testing.assert_close(logits(done.folder, pixels), recorded, rtol=0, atol=1e-5)


def test_the_folder_holds_a_detector_and_its_report_and_nothing_else(done):
    assert {path.name for path in done.folder.iterdir()} == FILES
    assert [path.name for path in done.folder.parent.iterdir()] == ["effort"]


def test_the_folder_does_not_need_the_base(done, pixels, recorded, tmp_path, monkeypatch):
    shutil.copytree(done.folder, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    torch.testing.assert_close(logits(tmp_path / "moved", pixels), recorded, rtol=0, atol=1e-5)


def test_the_configuration_says_where_the_weights_came_from(done):
    assert done.spec.training["converted_from"] == {
        "kind": "effort",
        "source": RELEASED.name,
        "files": {RELEASED.name: file_sha256(RELEASED)},
    }


def test_the_domain_of_the_source_can_be_set(tmp_path):
    spec = make(tmp_path / "new", domain="image").spec
    assert (spec.domain, spec.face) == ("image", None)


@pytest.mark.parametrize("domain", ["face", "image"])
def test_a_reader_that_knows_another_domain_is_overruled(domain, tmp_path, reader):
    other = "image" if domain == "face" else "face"

    def change(imported):
        face = FaceSpec() if other == "face" else None
        spec = replace(imported.model.spec, domain=other, face=face)
        model = conversion.assemble(imported.model.backbone, imported.model.head, spec)
        return replace(imported, model=model)

    reader(change)
    spec = make(tmp_path / "new", domain=domain).spec
    assert (spec.domain, spec.face) == (domain, FaceSpec(size=224) if domain == "face" else None)


def test_float16_weights_halve_the_file_and_stay_within_their_tolerance(tmp_path, done):
    half = make(tmp_path / "half", weights_dtype="float16")
    weights = [one.folder / "model.safetensors" for one in (half, done)]
    assert weights[0].stat().st_size < 0.55 * weights[1].stat().st_size
    assert done.parity.tolerance < half.parity.largest <= half.parity.tolerance
    assert half.parity.weights_dtype == "float16"


def test_each_step_is_told(tmp_path):
    steps = []
    make(tmp_path / "new", progress=steps.append)
    assert len(steps) == 4
    assert steps[0] == "reading the source"


# The report.


def test_the_report_names_source_and_weights_by_their_hashes(done):
    parity = read_parity(done.folder)
    assert parity == done.parity
    assert (parity.kind, parity.source, parity.base) == ("effort", RELEASED.name, "tiny_clip")
    assert parity.files == {RELEASED.name: file_sha256(RELEASED)}
    assert parity.weights_sha256 == weights_sha256(done.folder)


def test_the_report_has_both_logits_of_each_input(done):
    values = json.loads((done.folder / "parity.json").read_text(encoding="utf-8"))
    names = [one["name"] for one in values["inputs"]]
    assert names == ["noise", "gradient", "blocks", "black", "normal noise 0", "normal noise 1"]
    off = [abs(one["original"] - one["converted"]) for one in values["inputs"]]
    assert values["largest_difference"] == max(off)
    assert max(off) < values["tolerance"]
    assert values["versions"]["unmask"] == unmask.__version__


def test_the_logits_of_the_inputs_differ_so_that_equal_ones_prove_something(done):
    original = [one.original for one in done.parity.inputs]
    assert len({round(logit, 3) for logit in original}) == len(original)


def test_no_path_of_this_machine_is_in_the_folder(done):
    text = "".join(
        path.read_text(encoding="utf-8")
        for path in done.folder.iterdir()
        if path.suffix in {".md", ".json"}
    )
    assert str(FIXTURES.parent) not in text
    assert str(done.folder.parent) not in text


def test_the_same_preprocessing_gives_the_same_inputs():
    one, other = (parity_inputs(Preprocess.effort(32)) for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert {tuple(pixels.shape) for pixels in one.values()} == {(3, 32, 32)}


def test_the_tolerance_grows_with_the_logits():
    assert tolerance([0.1, -0.2], "merged", "float32") == 1e-5
    assert tolerance([0.1, -200.0], "merged", "float32") == pytest.approx(2e-3)
    assert tolerance([0.1], "adapter", "float32") == 1e-4


def test_a_value_that_is_not_finite_never_agrees():
    assert largest_difference([1.0, float("nan")], [1.0, 1.0]) == float("inf")
    assert largest_difference([1.0, float("inf")], [1.0, float("inf")]) == float("inf")


# Failures leave nothing behind.


def test_a_folder_that_computes_something_else_is_not_written(tmp_path, reader):
    def change(imported):
        return replace(imported, original=lambda pixels: imported.original(pixels) + 0.25)

    reader(change)
    with pytest.raises(IncompatibleWeights, match=r"does not compute what .* 0\.25 on 6 inputs"):
        make(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_float16_that_rounds_too_much_says_what_to_do(tmp_path, reader):
    def change(imported):
        return replace(imported, original=lambda pixels: imported.original(pixels) + 0.5)

    reader(change)
    with pytest.raises(IncompatibleWeights, match="try without --float16"):
        make(tmp_path / "new", weights_dtype="float16")


def test_a_failed_conversion_leaves_the_folder_that_was_there(tmp_path, reader, done):
    shutil.copytree(done.folder, tmp_path / "old")

    def change(imported):
        return replace(imported, original=lambda pixels: imported.original(pixels) + 1)

    reader(change)
    with pytest.raises(IncompatibleWeights):
        make(tmp_path / "old", overwrite=True)
    assert weights_sha256(tmp_path / "old") == weights_sha256(done.folder)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_source_whose_logits_are_not_finite_is_refused(tmp_path, reader):
    reader(lambda one: replace(one, original=lambda pixels: pixels.sum((1, 2, 3)) * float("inf")))
    with pytest.raises(IncompatibleWeights, match="not finite for noise"):
        make(tmp_path / "new")


def test_a_damaged_source_leaves_nothing(tmp_path):
    path = tmp_path / "cut.pth"
    path.write_bytes(RELEASED.read_bytes()[:100_000])
    with pytest.raises(CorruptWeights):
        convert("effort", path, tmp_path / "new", base=BASE)
    assert [each.name for each in tmp_path.iterdir()] == ["cut.pth"]


def test_a_folder_that_is_there_is_refused_before_anything_is_read(tmp_path, done):
    shutil.copytree(done.folder, tmp_path / "old")
    with pytest.raises(OutputError, match="--overwrite"):
        convert("effort", tmp_path / "not there.pth", tmp_path / "old")


def test_a_detector_is_replaced_where_that_is_asked_for(tmp_path, done):
    shutil.copytree(done.folder, tmp_path / "old")
    make(tmp_path / "old", overwrite=True, domain="image")
    assert unmask.load(tmp_path / "old", device="cpu").domain == "image"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


# Options.


def test_an_unknown_kind_names_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"the kind 'efort' is not known\. Did you mean 'effort'"):
        convert("efort", RELEASED, tmp_path / "new")


def test_fake_labels_belong_to_the_kind_hf(tmp_path):
    with pytest.raises(ConfigError, match="belongs to the kind hf"):
        make(tmp_path / "new", fake_labels=["fake"])


def test_a_head_alone_needs_its_clip(tmp_path):
    with pytest.raises(ConfigError, match="--base openai/clip-vit-large-patch14"):
        convert("univfd", RELEASED, tmp_path / "new")


def test_an_unknown_way_of_saving_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="'whole' is not one of merged, adapter"):
        make(tmp_path / "new", as_="whole")


def test_an_adapter_needs_its_base(tmp_path):
    with pytest.raises(ConfigError, match="only what training changed"):
        make(tmp_path / "new", as_="adapter", base=None)


def test_an_adapter_is_never_float16(tmp_path):
    with pytest.raises(ConfigError, match="always float32"):
        make(tmp_path / "new", as_="adapter", weights_dtype="float16")


# Adapters.


def test_an_adapter_on_its_base_gives_the_recorded_logits(adapter, pixels, recorded):
    given = logits(adapter.folder, pixels, base=BASE)
    torch.testing.assert_close(given, recorded, rtol=0, atol=1e-4)


def test_an_adapter_holds_only_what_training_changed(adapter):
    tensors = load_file(adapter.folder / "adapter.safetensors")
    # 8 layers of 64 x 64 with one triple each, and the head.
    assert sum(value.numel() for value in tensors.values()) == 8 * (64 + 1 + 64) + 2 * 64 + 2
    assert {path.name for path in adapter.folder.iterdir()} == FILES - {"model.safetensors"} | {
        "adapter.safetensors"
    }


def test_an_adapter_says_how_it_was_trained_and_on_what(adapter):
    config = json.loads((adapter.folder / "config.json").read_text(encoding="utf-8"))
    tuning = config["adapter"]["tuning"]
    assert (tuning["recipe"], tuning["keep"]) == ("effort", -1)
    assert len(config["adapter"]["base"]["sha256"]) == 64


def test_an_adapter_on_a_tower_that_was_not_trained_is_refused(tmp_path):
    other = CLIPModel.from_pretrained(BASE)
    with torch.no_grad():
        other.vision_model.encoder.layers[1].mlp.fc1.weight[0, 0] += 0.01
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(IncompatibleWeights, match=r"not the model .*mlp\.fc1\.weight differs"):
        make(tmp_path / "new", as_="adapter", base=tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_frozen_part_that_is_not_the_bases_is_refused(tmp_path):
    other = CLIPModel.from_pretrained(BASE)
    with torch.no_grad():
        other.vision_model.encoder.layers[0].self_attn.q_proj.weight[0, 0] += 0.01
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(IncompatibleWeights, match=r"q_proj\.weight differs by up to"):
        make(tmp_path / "new", as_="adapter", base=tmp_path / "other")


def test_a_source_that_does_not_say_what_was_trained_is_no_adapter(tmp_path, reader):
    reader(lambda imported: replace(imported, trained={}))
    with pytest.raises(IncompatibleWeights, match=r"which of its weights .* Save it merged"):
        make(tmp_path / "new", as_="adapter")
    assert list(tmp_path.iterdir()) == []


def test_layers_with_different_numbers_of_triples_are_no_adapter(tmp_path):
    state = load_file(FIXTURES / "B_released_layout.safetensors")
    layer = "backbone.encoder.layers.0.self_attn.q_proj"
    for leaf, axis in (("U_residual", 1), ("S_residual", 0), ("V_residual", 0)):
        value = state[f"{layer}.{leaf}"]
        state[f"{layer}.{leaf}"] = torch.cat([value, value * 0], dim=axis)
    save_file(state, tmp_path / "mixed.safetensors")
    with pytest.raises(IncompatibleWeights, match=r"\[1, 2\] singular directions"):
        convert(
            "effort", tmp_path / "mixed.safetensors", tmp_path / "new", base=BASE, as_="adapter"
        )


# The card.


def card_of(done):
    return (done.folder / "README.md").read_text(encoding="utf-8")


def test_the_card_names_the_source_by_its_hash(done):
    assert file_sha256(RELEASED) in card_of(done)


def test_the_card_has_the_numbers_of_the_comparison(done):
    assert done.parity.summary() in card_of(done)
    assert f"{done.parity.inputs[0].original:.6f}" in card_of(done)


def test_the_card_says_how_pictures_are_prepared(done):
    assert "found by `dlib81`" in card_of(done)
    assert "cv2_linear" in card_of(done)


def test_the_card_says_what_was_decided_without_the_source(done):
    assert all(note in card_of(done) for note in done.notes)


def test_the_card_of_an_adapter_says_that_it_needs_its_base(adapter, done):
    assert "unmask scan PICTURES -d FOLDER --base BASE" in card_of(adapter)
    assert "transformers alone does not read it" in card_of(adapter)
    assert "--base" not in card_of(done)


def test_a_folder_may_be_given_as_text(tmp_path):
    made = make(str(tmp_path / "text"))
    assert verify(str(made.folder)).problems == ()


def test_an_unknown_licence_is_unknown(done):
    assert 'license: "other"' in card_of(done)
    assert "licence of the weights: unknown" in card_of(done)
    assert done.spec.license == ""


def test_a_given_licence_and_name_are_the_cards(tmp_path):
    made = make(tmp_path / "new", license="MIT", name="My detector")
    assert 'license: "mit"' in card_of(made)
    assert "# My detector" in card_of(made)
    assert made.spec.license == "MIT"


@pytest.fixture
def listed(monkeypatch):
    entry = Published(
        id="tiny-effort",
        kind="effort",
        where=RELEASED.name,
        domain="image",
        command="",
        paper="A Paper, 2025",
        note="Trained on nothing.",
        licence_code="CC-BY-NC-4.0",
        licence_weights="Apache-2.0",
    )
    monkeypatch.setattr(catalog, "PUBLISHED", (entry,))
    return entry


def test_what_the_list_of_published_detectors_knows_is_in_the_card(tmp_path, listed):
    made = make(tmp_path / "new")
    text = card_of(made)
    assert "# tiny-effort" in text
    for known in (listed.paper, listed.note, "code: CC-BY-NC-4.0", "weights: Apache-2.0"):
        assert known in text
    assert made.spec.license == "Apache-2.0"
    assert made.spec.domain == "image"
    assert "It judges whole pictures" in text


def test_an_entry_of_another_kind_is_not_the_sources(tmp_path, listed, monkeypatch):
    monkeypatch.setattr(catalog, "PUBLISHED", (replace(listed, kind="hf"),))
    assert listed.paper not in card_of(make(tmp_path / "new"))


def test_what_is_known_by_its_name_only_says_so(tmp_path, listed):
    made = make(tmp_path / "new")
    sentence = "It is tiny-effort by its name only; its SHA-256 is not the published one"
    assert any(note.startswith(sentence) for note in made.notes)
    assert sentence in card_of(made)


@pytest.mark.parametrize("known", [{"sha256": "0" * 64}, {"tower": "ViT-L/14"}])
def test_a_known_name_with_another_hash_or_tower_has_no_title_or_terms(
    known, tmp_path, listed, monkeypatch
):
    monkeypatch.setattr(catalog, "PUBLISHED", (replace(listed, **known),))
    made = make(tmp_path / "new")
    assert listed.paper not in card_of(made)
    assert "tiny-effort" not in card_of(made)
    assert made.spec.license == ""


def test_what_is_known_by_its_hash_needs_no_doubt(tmp_path, listed, monkeypatch):
    entry = replace(listed, sha256=file_sha256(RELEASED), where="other.pth", tower="ViT-L/14")
    monkeypatch.setattr(catalog, "PUBLISHED", (entry,))
    made = make(tmp_path / "new")
    assert "# tiny-effort" in card_of(made)
    assert not any("name only" in note for note in made.notes)


# Names.


def test_a_name_with_signs_of_markdown_stays_in_its_place(tmp_path):
    path = tmp_path / "a\n# b`c``d.pth"
    shutil.copy(RELEASED, path)
    made = convert(
        "effort", path, tmp_path / "new", base=BASE, name="one\n# two", license="MIT\n- three"
    )
    text = card_of(made)
    assert "``` a\\n# b`c``d.pth ```" in text
    assert "# one\\n# two\n" in text
    assert "weights: MIT\\n- three\n" in text


def test_a_title_that_is_no_utf8_is_spelt_out(tmp_path):
    assert "# a\\udcff" in card_of(make(tmp_path / "new", name="a\udcff", license="\udcff"))


def test_a_destination_whose_name_is_no_utf8_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"o\\udcff is not valid UTF-8"):
        make(tmp_path / "o\udcff")
    assert list(tmp_path.iterdir()) == []


def test_a_base_whose_name_is_no_utf8_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"b\\udcff is not valid UTF-8"):
        make(tmp_path / "new", base=tmp_path / "b\udcff")


def test_a_failed_conversion_leaves_no_empty_folders(tmp_path, reader):
    reader(lambda one: replace(one, original=lambda pixels: one.original(pixels) + 1))
    with pytest.raises(IncompatibleWeights):
        make(tmp_path / "a" / "b" / "new")
    assert list(tmp_path.iterdir()) == []


# The other kinds.

ARRAYS = np.load(FIXTURES / "arrays.npz")


@pytest.fixture(scope="module")
def gend(tmp_path_factory):
    """A folder as GenD publishes them: the recorded tiny CLIP with the recorded head."""
    folder = tmp_path_factory.mktemp("published") / "gend"
    folder.mkdir()
    tensors = {
        f"feature_extractor.{key}": value
        for key, value in load_file(BASE / "model.safetensors").items()
        if key.startswith(("vision_model.", "visual_projection."))
    }
    tensors["model.linear.weight"] = torch.from_numpy(ARRAYS["GenD_linear_weight"])
    tensors["model.linear.bias"] = torch.from_numpy(ARRAYS["GenD_linear_bias"])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    values = {"model_type": "GenD", "backbone": "openai/clip-vit-tiny", "head": "linear"}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.fixture(scope="module")
def univfd(tmp_path_factory):
    generator = torch.Generator().manual_seed(0)
    path = tmp_path_factory.mktemp("published") / "fc_weights.pth"
    torch.save({"weight": torch.randn(1, 32, generator=generator), "bias": torch.ones(1)}, path)
    return path


def test_a_gend_folder_is_converted(gend, tmp_path, pixels):
    made = convert("gend", gend, tmp_path / "new", base=BASE)
    recorded = ARRAYS["GenD_logits_norm0"]
    torch.testing.assert_close(
        logits(made.folder, pixels),
        torch.from_numpy(recorded[:, 1] - recorded[:, 0]),
        rtol=0,
        atol=1e-5,
    )
    assert (made.parity.kind, made.parity.source) == ("gend", "gend")
    assert verify(made.folder, source=gend, base=BASE).problems == ()


def test_a_gend_adapter_holds_its_layer_norms(gend, tmp_path, pixels):
    made = convert("gend", gend, tmp_path / "new", base=BASE, as_="adapter")
    tensors = load_file(made.folder / "adapter.safetensors")
    assert all("norm" in name or name.startswith("head.") for name in tensors)
    recorded = ARRAYS["GenD_logits_norm0"]
    torch.testing.assert_close(
        logits(made.folder, pixels, base=BASE),
        torch.from_numpy(recorded[:, 1] - recorded[:, 0]),
        rtol=0,
        atol=1e-5,
    )


def test_a_univfd_head_is_converted_with_its_clip(univfd, tmp_path, pixels):
    made = convert("univfd", univfd, tmp_path / "new", base=BASE)
    layer = torch.load(univfd, weights_only=True)
    expected = torch.from_numpy(ARRAYS["visual_projection_of_pooler"]) @ layer["weight"][0] + 1
    torch.testing.assert_close(logits(made.folder, pixels), expected, rtol=0, atol=1e-5)
    assert made.spec.backbone_source.id == "tiny_clip"
    assert verify(made.folder, source=univfd, base=BASE).problems == ()


def test_a_base_of_the_hub_is_called_by_its_id_and_commit(univfd, tmp_path, monkeypatch):
    found = Located(BASE, "org/clip@0123abc", hub_id="org/clip", revision="0123abc")
    monkeypatch.setattr(source, "locate", lambda *_given, **_options: found)
    made = convert("univfd", univfd, tmp_path / "new", base="org/clip")
    where = made.spec.backbone_source
    assert (where.id, where.revision) == ("org/clip", "0123abc")
    assert made.parity.base == "org/clip@0123abc"


def test_a_base_of_the_hub_is_found_again_without_being_told(univfd, tmp_path, monkeypatch):
    found = Located(BASE, "org/clip@0123abc", hub_id="org/clip", revision="0123abc")
    asked = []

    def locating(reference, **_options):
        asked.append(reference)
        return found

    monkeypatch.setattr(source, "locate", locating)
    made = convert("univfd", univfd, tmp_path / "new", base="org/clip")
    assert verify(made.folder, source=univfd).problems == ()
    assert asked == ["org/clip", "org/clip@0123abc"]


def test_a_univfd_adapter_is_the_head_alone(univfd, tmp_path):
    made = convert("univfd", univfd, tmp_path / "new", base=BASE, as_="adapter")
    assert set(load_file(made.folder / "adapter.safetensors")) == {
        "head.linear.weight",
        "head.linear.bias",
    }


def test_an_image_classifier_is_converted(tmp_path):
    folder = save_classifier(tmp_path / "vit", "vit", ("Deepfake", "Realism"))
    made = convert("hf", folder, tmp_path / "new")
    assert (made.parity.source, made.spec.domain) == ("vit", "image")
    assert verify(made.folder, source=folder).problems == ()


def test_labels_that_mean_fake_are_recorded_for_the_next_comparison(tmp_path):
    folder = save_classifier(tmp_path / "vit", "vit", ("a", "b", "c"))
    made = convert("hf", folder, tmp_path / "new", fake_labels=["a", "c"])
    assert read_parity(made.folder).fake_labels == ("a", "c")
    assert verify(made.folder, source=folder).problems == ()


def test_labels_that_say_nothing_ask_for_the_fake_one(cli, tmp_path):
    folder = save_classifier(tmp_path / "vit", "vit", ("a", "b"))
    outcome = cli("convert", "hf", folder, tmp_path / "new")
    assert outcome.code == 2
    assert "--fake-label" in outcome.err


def test_the_labels_that_mean_fake_are_given_on_the_command_line(cli, tmp_path):
    folder = save_classifier(tmp_path / "vit", "vit", ("a", "b"))
    outcome = cli(
        "convert", "hf", folder, tmp_path / "new", "--fake-label", "a", "--domain", "face"
    )
    assert outcome.code == 0
    assert "domain: face" in outcome.out
    assert "note: How the faces were cut that it learnt from is not known" in outcome.out


def test_an_image_classifier_has_no_base(tmp_path):
    with pytest.raises(ConfigError, match="does not belong to an image classifier"):
        convert("hf", BASE, tmp_path / "new", base=BASE)


def test_an_image_classifier_is_no_adapter(tmp_path):
    with pytest.raises(ConfigError, match="cannot be an adapter; save it merged"):
        convert("hf", BASE, tmp_path / "new", as_="adapter")


def test_a_model_of_the_hub_is_called_by_its_id_and_commit(tmp_path, monkeypatch):
    folder = save_classifier(tmp_path / "vit", "vit")
    found = Located(folder, "org/vit@0123abc", hub_id="org/vit", revision="0123abc")
    monkeypatch.setattr(source, "locate", lambda *_given, **_options: found)
    made = convert("hf", "org/vit", tmp_path / "new")
    assert made.parity.source == "org/vit@0123abc"
    assert "Converted by unmask from `org/vit@0123abc`" in card_of(made)


@pytest.mark.parametrize(
    ("kind", "as_", "weights"),
    [("effort", "merged", False), ("effort", "adapter", True), ("univfd", "merged", True)],
)
def test_weights_of_the_base_are_only_fetched_where_they_are_used(
    kind, as_, weights, univfd, tmp_path, monkeypatch
):
    asked = []

    def locating(reference, **options):
        asked.append(options["weights"])
        return locate(reference)

    monkeypatch.setattr(source, "locate", locating)
    path = RELEASED if kind == "effort" else univfd
    convert(kind, path, tmp_path / "new", base=BASE, as_=as_)
    assert asked == [weights]


# The command line.


def test_the_command_prints_tensors_notes_parity_and_what_to_run_next(cli, tmp_path):
    outcome = cli("convert", "effort", RELEASED, tmp_path / "new", "--base", BASE)
    assert outcome.code == 0
    assert "backbone.encoder.layers.*.self_attn.q_proj.weight: 2 merged" in outcome.out
    assert "note: Nothing says whether" in outcome.out
    assert "licence: unknown" in outcome.out
    assert "parity: largest difference of logits" in outcome.out
    assert f"unmask scan PICTURES -d {tmp_path / 'new'}\n" in outcome.out
    assert "unmask fetch landmarks" in outcome.out
    assert "reading the source" in outcome.err


def test_every_tensor_is_printed_where_that_is_asked_for(cli, tmp_path):
    path = FIXTURES / "A_full_layout.safetensors"
    outcome = cli("convert", "effort", path, tmp_path / "new", "--base", BASE, "--keys")
    lines = [line for line in outcome.out.splitlines() if line.startswith("  backbone.")]
    assert len(lines) == len(load_file(path)) - 2
    assert any("U_r: dropped (frozen factor" in line for line in lines)
    head = "  head.bias -> head.linear.bias"
    assert head in outcome.out.splitlines()


def test_the_command_gives_one_json_object(cli, tmp_path):
    outcome = cli(
        "convert", "effort", RELEASED, tmp_path / "new", "--base", BASE, "--json",
        "--domain", "image", "--license", "MIT", "--float16", "--name", "Mine",
    )  # fmt: skip
    values = json.loads(outcome.out)
    assert (values["domain"], values["license"]) == ("image", "MIT")
    assert values["parity"]["weights_dtype"] == "float16"
    assert len(values["keys"]) == 65
    assert "# Mine" in (tmp_path / "new" / "README.md").read_text(encoding="utf-8")


def test_an_adapter_is_used_with_its_base(cli, tmp_path):
    outcome = cli(
        "convert", "effort", RELEASED, tmp_path / "new", "--base", BASE, "--as", "adapter"
    )
    assert f"-d {tmp_path / 'new'} --base {BASE}\n" in outcome.out


def test_an_error_is_a_sentence_and_exit_code_2(cli, tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    outcome = cli("convert", "effort", tmp_path / "text.pth", tmp_path / "new")
    assert outcome.code == 2
    assert "is a text file" in outcome.err
    assert outcome.out == ""


def test_an_unknown_kind_ends_the_command_with_2_and_a_sentence(cli, tmp_path):
    outcome = cli("convert", "efort", RELEASED, tmp_path / "new")
    assert outcome.code == 2
    assert "the kind 'efort' is not known. Did you mean 'effort'" in outcome.err
    assert "Value error" not in outcome.err
