import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import FocalNetConfig, PoolFormerConfig, ViTModel

from tiny_classifiers import CLASSIFIERS, SIDE, edit_config, save_classifier
from tiny_towers import TOWERS
from unmask.errors import ConfigError, CorruptWeights, IncompatibleWeights
from unmask.models.checkpoint import load_model, save
from unmask.models.published import classifier
from unmask.models.published.classifier import architecture, read_classifier
from unmask.preprocess import Preprocess
from unmask.types import FaceSpec

READS = {
    "clip": ("mean",),
    "metaclip2": ("mean",),
    "siglip": ("mean",),
    "dinov2": ("cls", "mean"),
    "registers": ("cls", "mean"),
    "vit": ("cls",),
    "deit": ("cls",),
    "vit_msn": ("cls",),
    "ijepa": ("mean",),
}


@pytest.fixture(scope="module", params=list(CLASSIFIERS))
def published(request, tmp_path_factory):
    """Family, folder as published, and what was read of it; three labels, two of them fake."""
    folder = tmp_path_factory.mktemp("classifiers") / request.param
    save_classifier(folder, request.param, ("fake", "real", "midjourney"))
    return request.param, folder, read_classifier(folder)


def pixels(count=3, side=SIDE):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def theirs(family, folder):
    """Log-odds of fake by transformers alone, from the softmax of the published labels."""
    kind = getattr(transformers, CLASSIFIERS[family][0])
    with torch.inference_mode():
        p = kind.from_pretrained(folder).eval()(pixels()).logits.double().softmax(dim=1)
    return torch.log((p[:, 0] + p[:, 2]) / p[:, 1]).float()


def ours(imported):
    with torch.inference_mode():
        return imported.model.logit(pixels())


def saved_vit(folder, monkeypatch, kind):
    """A folder of a classifier whose class calls itself ViTForImageClassification, and is it."""
    kind.__name__ = "ViTForImageClassification"
    monkeypatch.setattr(transformers, "ViTForImageClassification", kind)
    return save_classifier(folder)


def test_the_logit_is_the_log_odds_of_the_published_softmax(published):
    family, folder, imported = published
    torch.testing.assert_close(ours(imported), theirs(family, folder), atol=1e-5, rtol=0)


def test_the_original_is_the_log_odds_of_the_published_softmax(published):
    family, folder, imported = published
    torch.testing.assert_close(
        imported.original(pixels()), theirs(family, folder), atol=1e-5, rtol=0
    )


def test_a_saved_detector_gives_the_published_log_odds(published, tmp_path):
    family, folder, imported = published
    save(imported.model, tmp_path / "out", card="# x\n", weights_dtype="float32")
    with torch.inference_mode():
        again = load_model(tmp_path / "out").logit(pixels())
    torch.testing.assert_close(again, theirs(family, folder), atol=1e-5, rtol=0)


def test_each_tensor_of_the_file_is_accounted_for(published):
    _, folder, imported = published
    assert {fate.key for fate in imported.keys} == set(load_file(folder / "model.safetensors"))
    assert all(fate.target or fate.reason for fate in imported.keys)


def test_each_tensor_of_the_detector_comes_from_one_of_the_file(published):
    _, folder, imported = published
    file, state = load_file(folder / "model.safetensors"), imported.model.state_dict()
    made = {fate.target: fate.key for fate in imported.keys if fate.target}
    assert made.keys() == state.keys()
    for target, key in made.items():
        order = [1, 0, 2] if target.startswith("head.") else ...
        assert torch.equal(file[key][order], state[target])


def test_the_feature_is_the_one_that_the_family_reads(published):
    family, _, imported = published
    assert imported.model.spec.features == READS.get(family, ("pooler",))


def test_the_pooling_head_of_siglip_is_dropped_with_its_reason(tmp_path):
    imported = read_classifier(save_classifier(tmp_path, "siglip"))
    dropped = [fate for fate in imported.keys if fate.target is None]
    assert {fate.key.split(".")[1] for fate in dropped} == {"head"}
    assert all("does not read" in fate.reason for fate in dropped)


def test_the_rows_are_ordered_real_first(tmp_path):
    imported = read_classifier(save_classifier(tmp_path, labels=("AI", "human", "dalle")))
    spec = imported.model.spec.head
    assert (spec.outputs, spec.fakes, spec.trained) == (3, 2, True)
    weight = load_file(tmp_path / "model.safetensors")["classifier.weight"]
    assert torch.equal(imported.model.head.linear.weight, weight[[1, 0, 2]])


def test_labels_named_by_the_user_decide(tmp_path):
    folder = save_classifier(tmp_path, labels=("a", "b"))
    one, two = (read_classifier(folder, fake_labels=[name]) for name in "ab")
    torch.testing.assert_close(ours(one), -ours(two))


def test_a_label_that_does_not_tell_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="--fake-label"):
        read_classifier(save_classifier(tmp_path, labels=("a", "fake")))


def test_a_classifier_without_label_names_is_an_error(tmp_path):
    folder = save_classifier(tmp_path)
    edit_config(folder, id2label=None, label2id=None)
    with pytest.raises(ConfigError, match="LABEL_0"):
        read_classifier(folder)


def test_label2id_may_hold_text(tmp_path):
    folder = save_classifier(tmp_path, labels=("AiArtData", "RealArt"))
    edit_config(folder, label2id={"AiArtData": "0", "RealArt": "1"})
    assert read_classifier(folder).notes[0].endswith("'RealArt' as real, 'AiArtData' as fake.")


def test_labels_that_contradict_each_other_are_an_error(tmp_path):
    folder = save_classifier(tmp_path)
    edit_config(folder, label2id={"real": 1, "fake": 0})
    with pytest.raises(ConfigError, match="contradict"):
        read_classifier(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("label2id", ["real", "fake"]),
        ("label2id", {"real": None, "fake": 1}),
        ("id2label", ["real", "fake"]),
        ("id2label", {"0": 0, "1": 1}),
    ],
)
def test_labels_of_another_form_are_an_error(tmp_path, field, value):
    folder = save_classifier(tmp_path)
    edit_config(folder, **{field: value})
    with pytest.raises(ConfigError, match=f"{field} is .* an object of names and numbers"):
        read_classifier(folder, fake_labels=["1"])


def test_a_configuration_with_a_value_of_another_kind_is_an_error(tmp_path):
    folder = save_classifier(tmp_path)
    edit_config(folder, hidden_size="wide")
    with pytest.raises(ConfigError, match=r"does not read: .*'hidden_size'"):
        read_classifier(folder)


def test_a_single_output_that_is_named_is_the_logit(tmp_path):
    folder = save_classifier(tmp_path, labels=("manipulated",))
    imported = read_classifier(folder, fake_labels=["0"])
    whole = transformers.ViTForImageClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        torch.testing.assert_close(ours(imported), whole(pixels()).logits[:, 0])
    torch.testing.assert_close(imported.original(pixels()), ours(imported))


def test_a_name_that_says_the_opposite_is_noted(tmp_path):
    imported = read_classifier(save_classifier(tmp_path), fake_labels=["real"])
    assert "say the opposite" in imported.notes[1]


@pytest.mark.parametrize("problem", ["regression", "multi_label_classification"])
def test_outputs_that_are_not_exclusive_labels_are_refused(tmp_path, problem):
    folder = save_classifier(tmp_path)
    edit_config(folder, problem_type=problem)
    with pytest.raises(IncompatibleWeights, match="exclude each other"):
        read_classifier(folder)


def test_the_preprocessing_is_that_of_the_folder(tmp_path):
    spec = read_classifier(save_classifier(tmp_path)).model.spec
    assert spec.preprocess == Preprocess(
        SIDE, SIDE, "squash", "bilinear", (0.5, 0.4, 0.3), (0.25, 0.5, 0.5)
    )


def test_a_classifier_takes_whole_pictures_unless_told(tmp_path):
    spec = read_classifier(save_classifier(tmp_path)).model.spec
    assert (spec.domain, spec.face) == ("image", None)


def test_a_classifier_of_faces_gets_faces_of_its_size(tmp_path):
    imported = read_classifier(save_classifier(tmp_path), domain="face")
    spec = imported.model.spec
    assert (spec.domain, spec.face) == ("face", FaceSpec(finder="yunet", size=SIDE))
    assert "is not known" in imported.notes[1]


def test_a_classifier_in_a_bin_file_is_read(tmp_path):
    folder = save_classifier(tmp_path)
    expected = ours(read_classifier(folder))
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    imported = read_classifier(folder)
    assert torch.equal(ours(imported), expected)
    assert [path.name for path in imported.files] == ["pytorch_model.bin"]
    assert all(fate.target for fate in imported.keys)


def test_a_classifier_in_half_precision_is_computed_in_float32(tmp_path):
    folder = save_classifier(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    half = {key: value.half() for key, value in tensors.items()}
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    edit_config(folder, dtype="float16")
    imported = read_classifier(folder)
    assert {one.dtype for one in imported.model.parameters()} == {torch.float32}
    torch.testing.assert_close(imported.original(pixels()), ours(imported), atol=1e-5, rtol=0)


def test_tables_and_poolers_of_older_files_are_left_aside(tmp_path):
    folder = save_classifier(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["vit.pooler.dense.weight"] = torch.zeros(32, 32)
    tensors["vit.embeddings.position_ids"] = torch.arange(17)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    dropped = {one.key: one.reason for one in read_classifier(folder).keys if not one.target}
    assert dropped == {
        "vit.pooler.dense.weight": "a pooler that the head does not read",
        "vit.embeddings.position_ids": "a table that is computed anew",
    }


@pytest.mark.parametrize("change", ["left over", "missing"])
def test_weights_that_do_not_fit_are_refused(tmp_path, change):
    folder = save_classifier(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["extra.weight"] = tensors.pop("classifier.bias")
    if change == "left over":
        tensors["classifier.bias"] = tensors["extra.weight"].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IncompatibleWeights, match=change):
        read_classifier(folder)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    folder = save_classifier(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"][0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CorruptWeights, match="not finite"):
        read_classifier(folder)


def test_a_head_without_bias_gets_one_of_zeros(tmp_path, monkeypatch):
    class Unbiased(transformers.ViTForImageClassification):
        def __init__(self, config):
            super().__init__(config)
            self.classifier = nn.Linear(32, 2, bias=False)

    imported = read_classifier(saved_vit(tmp_path, monkeypatch, Unbiased))
    assert not imported.model.head.linear.bias.any()
    torch.testing.assert_close(imported.original(pixels()), ours(imported))


def test_a_head_of_several_layers_is_refused(tmp_path, monkeypatch):
    class Deep(transformers.ViTForImageClassification):
        def __init__(self, config):
            super().__init__(config)
            self.classifier = nn.Sequential(nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 2))

    with pytest.raises(IncompatibleWeights, match="one linear layer named 'classifier'"):
        read_classifier(saved_vit(tmp_path, monkeypatch, Deep))


def test_a_norm_between_tower_and_head_is_refused(tmp_path):
    config = PoolFormerConfig(
        hidden_sizes=[8, 16],
        depths=[1, 1],
        num_encoder_blocks=2,
        patch_sizes=[7, 3],
        strides=[4, 2],
        padding=[2, 1],
        id2label={0: "real", 1: "fake"},
    )
    transformers.PoolFormerForImageClassification(config).save_pretrained(tmp_path)
    other = save_classifier(tmp_path / "other")
    (other / "preprocessor_config.json").rename(tmp_path / "preprocessor_config.json")
    with pytest.raises(IncompatibleWeights, match="PoolFormerForImageClassification is not supp"):
        read_classifier(tmp_path)


def test_a_tower_of_unknown_width_is_refused(tmp_path):
    config = FocalNetConfig(
        image_size=SIDE, embed_dim=8, depths=[1, 1], focal_levels=[1, 1], focal_windows=[3, 3]
    )
    config.id2label = {0: "real", 1: "fake"}
    transformers.FocalNetForImageClassification(config).save_pretrained(tmp_path)
    other = save_classifier(tmp_path / "other")
    (other / "preprocessor_config.json").rename(tmp_path / "preprocessor_config.json")
    with pytest.raises(IncompatibleWeights, match="no hidden_size"):
        read_classifier(tmp_path)


@pytest.mark.parametrize(
    ("family", "features", "message"),
    [
        ("vit", ("mean",), "not those of its linear layer on mean"),
        ("vit", ("cls@1",), "the one that is built for the feature cls@1"),
        ("vit", ("pooler",), "missing .'pooler.dense.bias'"),
        ("dinov2", ("cls",), "a feature of 32 were expected"),
    ],
)
def test_a_feature_that_the_head_does_not_read_is_found_out(
    tmp_path, monkeypatch, family, features, message
):
    folder = save_classifier(tmp_path, family)
    monkeypatch.setattr(classifier, "_READS", {family: features})
    with pytest.raises(IncompatibleWeights, match=message):
        read_classifier(folder)


def test_a_processor_of_another_size_than_the_tower_is_an_error(tmp_path):
    folder = save_classifier(tmp_path)
    path = folder / "preprocessor_config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "size": {"height": 48, "width": 48}}))
    with pytest.raises(IncompatibleWeights, match="does not take pictures of 48x48"):
        read_classifier(folder)


def test_a_bare_tower_is_no_classifier(tmp_path):
    ViTModel(TOWERS["vit"]).save_pretrained(tmp_path)
    assert architecture(tmp_path) is None
    with pytest.raises(IncompatibleWeights, match=r"architecture .'ViTModel'"):
        read_classifier(tmp_path)


def test_a_wrapper_of_timm_is_refused(tmp_path):
    config = {"model_type": "timm_wrapper", "architectures": ["TimmWrapperForImageClassification"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(IncompatibleWeights, match="a model of timm"):
        read_classifier(tmp_path)


def test_a_class_that_transformers_lacks_is_refused(tmp_path):
    config = {"model_type": "vit", "architectures": ["MyForImageClassification"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(IncompatibleWeights, match="its own code is not run"):
        read_classifier(tmp_path)


def test_a_folder_without_configuration_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        read_classifier(tmp_path)


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ("[]", "holds list")])
def test_a_damaged_configuration_is_an_error(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_classifier(tmp_path)


def test_a_folder_without_processor_is_an_error(tmp_path):
    folder = save_classifier(tmp_path)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match=r"no preprocessor_config\.json"):
        read_classifier(folder)


@pytest.mark.parametrize("names", [5, "ViTForImageClassification", [None], {"a": 1}])
def test_architectures_of_another_form_are_an_error(names, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": names}))
    with pytest.raises(ConfigError, match=r"architectures is .*; a list of names was expected"):
        architecture(tmp_path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
@pytest.mark.parametrize("part", ["classifier.weight", "query.weight"])
def test_quantized_weights_are_refused(part, dtype, tmp_path):
    path = save_classifier(tmp_path / "vit") / "model.safetensors"
    state = load_file(path)
    key = next(key for key in state if key.endswith(part))
    save_file({**state, key: state[key].to(dtype)}, path, metadata={"format": "pt"})
    with pytest.raises(IncompatibleWeights, match=rf"{key} is stored as"):
        read_classifier(tmp_path / "vit")
