import hashlib
import json
import os
import shutil
import stat
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from safetensors.torch import load_file, save_file
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    CLIPModel,
    ViTForImageClassification,
    pipeline,
)

from tiny_detectors import published, write_pictures
from tiny_towers import CLIP, TOWERS
from unmask.errors import (
    ConfigError,
    CorruptWeights,
    IncompatibleWeights,
    OutputError,
    UnknownDetector,
    UntrainedHead,
)
from unmask.models import builtin
from unmask.models.backbone import build_backbone, feature_width
from unmask.models.builtin import builtin_folder
from unmask.models.checkpoint import load_model, save
from unmask.models.configuration import (
    BackboneSource,
    DetectorSpec,
    FaceSpec,
    HeadSpec,
    UnmaskConfig,
    WholePictures,
    backbone_config_of,
    read_spec,
    tower_config,
)
from unmask.models.detector import load, untrained_detector
from unmask.models.heads import new_head
from unmask.models.modeling import assemble
from unmask.models.weights import file_sha256, weights_sha256
from unmask.pipeline import Pipeline
from unmask.preprocess import Preprocess
from unmask.types import DetectorRef, OperatingPoint

POINT = OperatingPoint("default", 0.6, 0.4, "validation of x", target_fpr=0.01, target_fnr=None)


def make(family="clip", features=("pooler",), outputs=2, trained=True, **changes):
    """A small detector with random weights and every field of its configuration filled."""
    torch.manual_seed(0)
    tower = build_backbone(TOWERS[family], features)
    spec = DetectorSpec(
        backbone_config=backbone_config_of(tower.config),
        features=tuple(features),
        head=HeadSpec(outputs=outputs, trained=trained),
        preprocess=Preprocess.openai_clip(32),
        domain="face",
        face=FaceSpec("yunet", 1.5, 64, antialias=True),
        temperature=1.7,
        operating_points=(POINT,),
        backbone_source=BackboneSource("org/tower", "abc", "0" * 64),
        training={"recipe": "probe"},
        license="mit",
    )
    spec = replace(spec, **changes)
    width = feature_width(TOWERS[family], features)
    return assemble(tower, new_head(width, outputs, seed=1, normalize=spec.head.normalize), spec)


def pictures(count=3, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    return save(make(), tmp_path / "detector", card="# A card\n")


@pytest.fixture
def clip_folder(tmp_path):
    torch.manual_seed(0)
    return published(CLIPModel(CLIP), tmp_path / "clip")


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder, change):
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


# --- the folder -------------------------------------------------------------------------------


def test_a_folder_holds_everything_that_was_saved(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"}
    detector = load(folder, device="cpu")
    assert detector.model.spec == make().spec
    assert detector.domain == "face"
    assert detector.face == FaceSpec("yunet", 1.5, 64, antialias=True)
    assert detector.operating_points == (POINT,)
    assert detector.preprocess == Preprocess.openai_clip(32)
    assert (folder / "README.md").read_text() == "# A card\n"


def test_the_reference_names_the_weights(folder):
    detector = load(folder, device="cpu")
    assert detector.ref.id == str(folder)
    assert detector.ref.trained
    assert detector.ref.sha256 == weights_sha256(folder)
    assert detector.ref.sha256 == file_sha256(folder / "model.safetensors")


def test_the_tower_is_saved_in_half_and_the_head_in_full_precision(folder):
    weights = load_file(folder / "model.safetensors")
    assert {value.dtype for key, value in weights.items() if key.startswith("head.")} == {
        torch.float32
    }
    assert {value.dtype for key, value in weights.items() if key.startswith("backbone.")} == {
        torch.float16
    }
    model = load_model(folder)
    assert {one.dtype for one in model.parameters()} == {torch.float32}


def test_a_model_in_half_precision_is_saved_to_load_in_full(tmp_path):
    folder = save(make().to(torch.bfloat16), tmp_path / "d", card="")
    model = AutoModelForImageClassification.from_pretrained(folder)
    assert {one.dtype for one in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("family", list(TOWERS))
def test_full_precision_is_saved_and_loaded_bit_for_bit(family, tmp_path):
    model = make(family, ("mean", "mean@2"))
    folder = save(model, tmp_path / "d", card="", weights_dtype="float32")
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(load_model(folder).logit(pixels), model.logit(pixels))


def test_the_config_names_no_path_of_the_machine_that_saved_it(clip_folder, tmp_path):
    detector = untrained_detector(clip_folder, device="cpu")
    model = assemble(
        detector.model.backbone,
        detector.model.head,
        replace(detector.model.spec, backbone_source=None),
    )
    folder = save(model, tmp_path / "d", card="")
    assert str(tmp_path) not in (folder / "config.json").read_text()


def test_an_existing_folder_is_not_overwritten_unasked(folder):
    before = file_sha256(folder / "model.safetensors")
    with pytest.raises(OutputError, match="exists already"):
        save(make(), folder, card="")
    assert file_sha256(folder / "model.safetensors") == before


def test_an_existing_folder_is_replaced_whole_when_asked(folder):
    (folder / "model.safetensors.index.json").write_text("x")
    save(make(outputs=1), folder, card="new", overwrite=True)
    assert not (folder / "model.safetensors.index.json").exists()
    assert (folder / "README.md").read_text() == "new"
    assert [path.name for path in folder.parent.iterdir()] == ["detector"]


@pytest.mark.parametrize("name", ["thesis.txt", "real/a.jpg"])
def test_a_folder_with_anything_but_a_detector_is_never_replaced(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("precious")
    with pytest.raises(OutputError, match="something else than a detector"):
        save(make(), folder, card="", overwrite=True)
    assert (folder / name).read_text() == "precious"


@pytest.mark.parametrize("text", [None, "{", "[]", '{"model_type": "clip"}'])
def test_the_folder_of_another_model_is_never_replaced(folder, text):
    (folder / "config.json").unlink()
    if text is not None:
        (folder / "config.json").write_text(text)
    with pytest.raises(OutputError, match="something else than a detector"):
        save(make(), folder, card="", overwrite=True)
    assert (folder / "model.safetensors").exists()


def test_a_file_is_never_replaced_and_no_advice_says_so(tmp_path):
    (tmp_path / "a.jpg").write_text("precious")
    with pytest.raises(OutputError, match="is not a folder; name a new folder") as caught:
        save(make(), tmp_path / "a.jpg", card="", overwrite=True)
    assert "overwrite" not in str(caught.value)


def test_an_empty_folder_may_be_saved_into(tmp_path):
    (tmp_path / "d").mkdir()
    assert load_model(save(make(), tmp_path / "d", card=""))


def test_a_failed_save_leaves_nothing(tmp_path, monkeypatch):
    model = make()
    monkeypatch.setattr(type(model), "save_pretrained", lambda *_a, **_k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(model, tmp_path / "d", card="")
    assert list(tmp_path.iterdir()) == []


def test_a_saved_folder_can_be_read_by_others(folder):
    if os.name == "posix":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_an_unknown_weights_dtype_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="float8"):
        save(make(), tmp_path / "d", card="", weights_dtype="float8")


def test_weights_beyond_float16_are_refused(tmp_path):
    model = make()
    with torch.no_grad():
        next(model.backbone.parameters()).fill_(1e6)
    with pytest.raises(IncompatibleWeights, match="beyond the range of float16"):
        save(model, tmp_path / "d", card="")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model = make()
    with torch.no_grad():
        model.head.linear.weight.fill_(float("inf"))
    with pytest.raises(CorruptWeights, match="not finite"):
        save(model, tmp_path / "d", card="")


# --- what is wrong with a folder ----------------------------------------------------------------


def test_missing_weights_are_listed(folder):
    edit_weights(folder, lambda w: w.pop("head.linear.bias"))
    with pytest.raises(IncompatibleWeights, match=r"are missing: head\.linear\.bias"):
        load(folder)


def test_a_head_of_another_shape_is_refused_by_name(folder):
    edit_weights(folder, lambda w: w.update({"head.linear.weight": torch.zeros(2, 3)}))
    with pytest.raises(IncompatibleWeights, match=r"have another shape: head\.linear\.weight"):
        load(folder)


def test_left_over_weights_are_listed(folder):
    edit_weights(folder, lambda w: w.update({"classifier.weight": torch.zeros(2)}))
    with pytest.raises(IncompatibleWeights, match=r"are left over: classifier\.weight"):
        load(folder)


def test_a_file_that_was_cut_short_is_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CorruptWeights, match=r"model\.safetensors is damaged or cut short"):
        load(folder)


def test_weights_that_are_not_finite_are_refused(folder):
    edit_weights(folder, lambda w: w["head.linear.weight"].fill_(float("nan")))
    with pytest.raises(CorruptWeights, match="not finite"):
        load(folder)


GIVEN_POINT = {"name": "a", "fake_at": 0.5, "real_below": 0.5, "source": "fixed"}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"format_version": 2}, "format_version"),
        ({"format_version": None}, "format_version"),
        ({"id2label": {"0": "fake", "1": "real"}}, "id2label"),
        ({"id2label": {"0": "real", "1": "fake", "2": "other"}}, "id2label"),
        ({"domain": "video"}, "domain"),
        ({"features": []}, "features"),
        ({"features": "pooler"}, "features"),
        ({"features": ["nonsense"]}, "nonsense"),
        ({"backbone_config": {}}, "model_type"),
        ({"backbone_config": {"model_type": "martian"}}, "martian"),
        ({"backbone_config": None}, "backbone_config"),
        ({"head": None}, "head"),
        ({"head": {"outputs": 2}}, "trained"),
        ({"head": {"outputs": 3, "trained": True, "fakes": 3}}, "3 of them fake"),
        ({"head": {"outputs": 2.5, "trained": True}}, "whole numbers"),
        ({"head": {"outputs": 2, "trained": True, "depth": 3}}, "depth"),
        ({"preprocess": None}, "preprocess"),
        ({"preprocess": {"height": 3}}, "preprocess"),
        ({"calibration": None}, "calibration"),
        ({"calibration": {"temperature": 0}}, "temperature"),
        ({"calibration": {}}, "temperature"),
        ({"calibration": {"temperature": "1"}}, "temperature is '1'"),
        ({"calibration": {"temperature": True}}, "temperature is True"),
        ({"calibration": {"temperature": float("nan")}}, "temperature is nan"),
        ({"calibration": {"temperature": 10**400}}, r"temperature is 10+\.\.\."),
        ({"calibration": {"temperature": 1e-320}}, "temperature is 1e-320"),
        ({"label2id": {"real": 1, "fake": 0}}, "label2id"),
        ({"domain": ["face"]}, "domain"),
        ({"license": 5}, "license is 5; a string"),
        ({"training": [1]}, r"training is \[1\]; an object"),
        ({"backbone_source": {"id": 5}}, r"backbone_source\.id is 5"),
        ({"backbone_source": {"id": ""}}, r"backbone_source\.id is ''"),
        ({"backbone_source": {"id": "a", "revision": 5}}, r"backbone_source\.revision is 5"),
        ({"head": {"outputs": 2, "trained": True, "normalize": "no"}}, "head.normalize is 'no'"),
        ({"head": {"outputs": 10**12, "trained": True}}, "whole numbers"),
        ({"operating_points": [{**GIVEN_POINT, "fake_at": float("nan")}]}, "fake_at nan"),
        ({"operating_points": [{**GIVEN_POINT, "datasets": "a"}]}, "a has datasets 'a'; a list of"),
        ({"operating_points": [{**GIVEN_POINT, "datasets": [1]}]}, r"datasets \[1\]; a list of"),
        ({"operating_points": [{**GIVEN_POINT, "name": 5}]}, "name 5"),
        (
            {"operating_points": [{**GIVEN_POINT, "real_below": 0.9}]},
            r"0\.9 above fake_at",
        ),
        ({"backbone_config": {"model_type": 5}}, "model_type is 5"),
        ({"backbone_config": {"model_type": "vit", "hidden_size": "x"}}, "made of"),
        ({"face": {"finder": "mtcnn"}}, "mtcnn"),
        ({"face": {"size": 0}}, r"face\.size is 0"),
        ({"face": {"size": 224.5}}, r"face\.size is 224\.5"),
        ({"face": {"size": "224"}}, r"face\.size is '224'"),
        ({"face": {"size": 10**9}}, r"face\.size is 1000000000"),
        ({"face": {"scale": float("inf")}}, r"face\.scale is inf"),
        ({"face": {"scale": "x"}}, r"face\.scale is 'x'"),
        ({"face": {"antialias": 1}}, r"face\.antialias is 1"),
        ({"face": {"finder": ["yunet"]}}, r"face\.finder is \['yunet'\]"),
        ({"face": 3}, "face"),
        ({"operating_points": [{"name": "x"}]}, "operating_points"),
        ({"operating_points": [3]}, "operating_points"),
        ({"operating_points": -1}, "operating_points is -1; a list was expected"),
        ({"operating_points": {}}, "operating_points is {}; a list was expected"),
        ({"whole_pictures": 3}, "whole_pictures holds 3; an object was expected"),
        ({"whole_pictures": {"points": []}}, r"whole_pictures has unknown \['points'\]"),
        ({"whole_pictures": {"temperature": 0}}, r"whole_pictures\.temperature is 0"),
        ({"whole_pictures": {"record": 7}}, r"whole_pictures\.record is 7; an object"),
        ({"whole_pictures": {"operating_points": {}}}, r"whole_pictures\.operating_points is {}"),
        (
            {"whole_pictures": {"operating_points": [3]}},
            r"whole_pictures\.operating_points holds 3",
        ),
        ({"whole_pictures": {}, "domain": "image"}, "is given, and the domain is 'image'"),
    ],
)
def test_a_config_with_a_fault_is_refused_by_name(folder, change, word):
    edit_config(folder, **change)
    with pytest.raises(ConfigError, match=word):
        load(folder, device="cpu")


def test_whole_pictures_are_read_back_as_they_were_saved(tmp_path):
    whole = WholePictures(0.6, (replace(POINT, datasets=("a", "b")),), {"method": "temperature"})
    folder = save(make(whole_pictures=whole), tmp_path / "both", card="")
    assert load(folder, device="cpu").whole_pictures == whole


def test_a_folder_without_whole_pictures_has_no_such_key(folder):
    assert "whole_pictures" not in json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"height": 10_000, "width": 10_000}, "a side of 10000 pixels; 4096 is the most"),
        ({"shortest_edge": 10_000}, "a side of 10000 pixels"),
        ({"mean": [10**400, 0, 0]}, r"preprocess\.mean is"),
        ({"std": [float("nan")] * 3}, r"preprocess\.std is"),
    ],
    ids=["size", "edge", "huge", "nan"],
)
def test_a_preparation_beyond_sense_is_refused(folder, change, word):
    values = json.loads((folder / "config.json").read_text())["preprocess"]
    edit_config(folder, preprocess={**values, **change})
    with pytest.raises(ConfigError, match=word):
        load(folder, device="cpu")


def test_a_configuration_round_trips():
    spec = make().spec
    assert read_spec(UnmaskConfig.from_dict(json.loads(spec.to_config().to_json_string()))) == spec


def test_the_tower_is_built_again_from_its_part_of_the_configuration():
    spec = make("registers", ("mean@2",)).spec
    assert tower_config(spec.backbone_config).num_hidden_layers == 2


# --- what it answers ----------------------------------------------------------------------------


def test_p_fake_is_the_sigmoid_of_the_logit_at_the_temperature(folder):
    detector = load(folder, device="cpu")
    logits = detector.logits(pictures())
    assert logits.dtype == np.float32
    assert logits.shape == (3,)
    expected = 1 / (1 + np.exp(-logits.astype(np.float64) / 1.7))
    np.testing.assert_allclose(detector.p_fake(logits), expected, rtol=1e-12)
    assert detector.p_fake(np.float32([-5000, 5000])).tolist() == [0.0, 1.0]


def test_the_softmax_of_the_model_is_p_fake(folder):
    detector = load(folder, device="cpu")
    pixels = torch.from_numpy(detector.preprocess.normalize(pictures()))
    with torch.inference_mode():
        softmax = detector.model(pixels).logits.softmax(-1)[:, 1].numpy()
    np.testing.assert_allclose(softmax, detector.p_fake(detector.logits(pictures())), atol=1e-6)


def test_labels_give_the_loss(folder):
    model = load(folder, device="cpu").model
    output = model(torch.zeros(2, 3, 32, 32), labels=torch.tensor([0, 1]))
    torch.testing.assert_close(
        output.loss, torch.nn.functional.cross_entropy(output.logits, torch.tensor([0, 1]))
    )


@pytest.mark.parametrize(
    ("dtype", "remedy"), [("float32", "train them again"), ("bfloat16", "use --dtype float32")]
)
def test_logits_that_are_not_finite_are_refused_with_a_remedy(folder, dtype, remedy):
    detector = load(folder, device="cpu", dtype=dtype)
    with torch.no_grad():
        detector.model.head.linear.bias.fill_(float("nan"))
    with pytest.raises(IncompatibleWeights, match=f"not finite in torch.{dtype}; .*{remedy}"):
        detector.logits(pictures())


@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_batch_size_changes_nothing(folder, size):
    detector = load(folder, device="cpu")
    images = pictures(7)
    whole = detector.logits(images)
    parts = [detector.logits(images[start : start + size]) for start in range(0, 7, size)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_keeps_the_head_in_full(folder, dtype):
    detector = load(folder, device="cpu", dtype=dtype)
    assert detector.dtype == getattr(torch, dtype)
    assert detector.model.head.linear.weight.dtype == torch.float32
    exact = load(folder, device="cpu").logits(pictures())
    np.testing.assert_allclose(detector.logits(pictures()), exact, atol=0.05)


def test_logits_that_are_not_finite_are_an_error(folder):
    detector = load(folder, device="cpu")
    with torch.no_grad():
        detector.model.backbone.post_layernorm.weight.fill_(float("inf"))
    with pytest.raises(IncompatibleWeights, match="not finite"):
        detector.logits(pictures())


# --- as a transformers model ----------------------------------------------------------------------


@pytest.mark.parametrize("family", list(TOWERS))
def test_the_auto_class_gives_the_same_answer(family, tmp_path):
    folder = save(make(family, ("mean@1", "mean")), tmp_path / "d", card="")
    model = AutoModelForImageClassification.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder)
    detector = load(folder, device="cpu")
    image = pictures(1, 50)[0]
    inputs = processor(PillowImage.fromarray(image), return_tensors="pt")
    with torch.inference_mode():
        theirs = model(**inputs).logits.softmax(-1)[0, 1].item()
    ours = detector.p_fake(detector.logits(detector.preprocess.resize(image)[None]))[0]
    assert abs(ours - theirs) < 1e-5


@pytest.mark.parametrize("preprocess", [Preprocess.openai_clip(32), Preprocess.effort(32)])
def test_the_pipeline_gives_the_same_answer_on_a_crop(tmp_path, preprocess):
    folder = save(make(preprocess=preprocess), tmp_path / "d", card="")
    detector = load(folder, device="cpu")
    crop = pictures(1)[0]
    scores = pipeline("image-classification", model=str(folder), device="cpu")(
        PillowImage.fromarray(crop)
    )
    theirs = {one["label"]: one["score"] for one in scores}
    ours = detector.p_fake(detector.logits(detector.preprocess.resize(crop)[None]))[0]
    assert abs(theirs["fake"] - ours) < 1e-5
    assert abs(theirs["real"] + theirs["fake"] - 1) < 1e-6


def test_save_pretrained_of_transformers_writes_the_same_detector(folder, tmp_path):
    AutoModelForImageClassification.from_pretrained(folder).save_pretrained(tmp_path / "again")
    again = load(tmp_path / "again", device="cpu")
    np.testing.assert_array_equal(
        again.logits(pictures()), load(folder, device="cpu").logits(pictures())
    )


# --- finding one ----------------------------------------------------------------------------------


def test_a_bare_clip_is_refused_and_says_what_to_do(clip_folder):
    with pytest.raises(UntrainedHead, match=r"unmask train .*--allow-untrained"):
        load(clip_folder)


def test_a_bare_clip_gets_a_seeded_head_when_allowed(clip_folder):
    detector = load(clip_folder, allow_untrained=True, device="cpu")
    assert not detector.ref.trained
    again = untrained_detector(clip_folder, device="cpu")
    np.testing.assert_array_equal(detector.logits(pictures()), again.logits(pictures()))
    assert detector.domain == "image"


def test_another_seed_gives_another_head(clip_folder):
    one, two = (untrained_detector(clip_folder, seed=seed, device="cpu") for seed in (0, 1))
    assert not np.allclose(one.logits(pictures()), two.logits(pictures()))


def test_the_preprocessing_of_a_bare_model_is_its_own_unless_given(clip_folder):
    assert untrained_detector(clip_folder, device="cpu").preprocess == Preprocess.openai_clip(32)
    given = Preprocess.effort(32)
    assert untrained_detector(clip_folder, preprocess=given, device="cpu").preprocess == given


def test_a_bare_model_can_give_other_features(clip_folder):
    detector = untrained_detector(
        clip_folder, features=("mean@1", "projection"), outputs=1, device="cpu"
    )
    assert detector.logits(pictures()).shape == (3,)


def test_an_unknown_head_is_refused(clip_folder):
    with pytest.raises(ConfigError, match="linear"):
        untrained_detector(clip_folder, head="liner")


def test_a_detector_needs_no_fresh_head(folder):
    with pytest.raises(ConfigError, match="is a detector already"):
        untrained_detector(folder)


def test_a_folder_whose_head_is_marked_untrained_is_refused(tmp_path):
    folder = save(make(trained=False), tmp_path / "d", card="")
    with pytest.raises(UntrainedHead, match="never trained"):
        load(folder)
    assert not load(folder, allow_untrained=True, device="cpu").ref.trained


# --- of others, as they are -----------------------------------------------------------------------


@pytest.fixture
def classifier_folder(tmp_path):
    """An image classifier that somebody else published; its labels say nothing."""
    torch.manual_seed(0)
    classifier = ViTForImageClassification(TOWERS["vit"])
    torch.nn.init.normal_(classifier.classifier.weight)
    return published(classifier, tmp_path / "vit")


@pytest.mark.parametrize(("fake", "real"), [(0, 1), (1, 0)])
def test_somebody_elses_classifier_is_loaded_by_the_names_of_its_labels(
    fake, real, classifier_folder
):
    edit_config(classifier_folder, id2label={fake: "Deepfake", real: "Real"})
    edit_config(classifier_folder, label2id={"Deepfake": fake, "Real": real})
    detector = load(classifier_folder, device="cpu")
    pixels = torch.from_numpy(detector.preprocess.normalize(pictures()))
    with torch.inference_mode():
        theirs = ViTForImageClassification.from_pretrained(classifier_folder)(pixels).logits
    expected = theirs.softmax(-1)[:, fake].numpy()
    ours = detector.p_fake(detector.logits(pictures()))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)
    assert ours.std() > 0.01
    assert detector.ref == DetectorRef(
        str(classifier_folder), file_sha256(classifier_folder / "model.safetensors"), trained=True
    )
    assert detector.domain == "image"


def test_a_classifier_whose_labels_say_nothing_asks_which_mean_fake(classifier_folder):
    with pytest.raises(ConfigError, match=r"LABEL_0.*--fake-label"):
        load(classifier_folder, device="cpu")


def test_the_labels_that_mean_fake_can_be_given(classifier_folder):
    one, other = (
        load(classifier_folder, fake_labels=[label], device="cpu").logits(pictures())
        for label in ("LABEL_0", "LABEL_1")
    )
    np.testing.assert_allclose(one, -other, rtol=0, atol=1e-6)


def test_answers_under_other_labels_are_another_detector_s(classifier_folder):
    """The file is the same, so its hash does not tell; a resumed run must not mix them."""
    one, other = (
        load(classifier_folder, fake_labels=[label], device="cpu")
        for label in ("LABEL_0", "LABEL_1")
    )
    assert one.ref.id.endswith(" (fake: LABEL_0)")
    assert one.ref != other.ref
    assert one.config_sha256 != other.config_sha256


def test_scan_takes_the_labels_that_mean_fake_by_option(cli, classifier_folder, tmp_path):
    folder = write_pictures(tmp_path / "in", ["a.png"])
    arguments = ("scan", folder, "-d", classifier_folder, "--device", "cpu", "--json")
    assert "--fake-label" in cli(*arguments).err
    one, other = (
        json.loads(cli(*arguments, "--fake-label", label).out)["p_fake"]
        for label in ("LABEL_0", "LABEL_1")
    )
    assert abs(one + other - 1) < 1e-6


def test_a_classifier_needs_no_fresh_head(classifier_folder):
    with pytest.raises(IncompatibleWeights, match="is a classifier already; load it as it is"):
        untrained_detector(classifier_folder)


def test_a_classifier_has_no_base(classifier_folder, clip_folder):
    with pytest.raises(ConfigError, match="base"):
        load(classifier_folder, base=clip_folder)


@pytest.mark.parametrize("which", ["folder", "clip_folder"])
def test_labels_that_mean_fake_belong_to_classifiers(which, request):
    with pytest.raises(ConfigError, match="has no labels to choose Fake from; leave --fake-label"):
        load(request.getfixturevalue(which), fake_labels=["Fake"], allow_untrained=True)


def test_a_published_gend_is_loaded_as_it_is(clip_folder, tmp_path):
    folder = tmp_path / "gend"
    folder.mkdir()
    torch.manual_seed(1)
    tower = CLIPModel.from_pretrained(clip_folder).vision_model
    weights = {
        f"feature_extractor.vision_model.{name}": value
        for name, value in tower.state_dict().items()
        if "position_ids" not in name
    }
    weight, bias = torch.randn(2, 32), torch.randn(2)
    weights |= {"model.linear.weight": weight, "model.linear.bias": bias}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    settings = {"model_type": "GenD", "backbone": "some/clip", "head": "linear"}
    (folder / "config.json").write_text(json.dumps(settings))
    detector = load(folder, base=clip_folder, device="cpu")
    pixels = torch.from_numpy(detector.preprocess.normalize(pictures()))
    with torch.inference_mode():
        outputs = tower(pixels).pooler_output @ weight.T + bias
    expected = (outputs[:, 1] - outputs[:, 0]).numpy()
    np.testing.assert_allclose(detector.logits(pictures()), expected, rtol=0, atol=1e-5)
    assert detector.domain == "face"
    assert detector.ref.sha256 == file_sha256(folder / "model.safetensors")


def test_a_folder_of_another_model_is_no_detector_folder(clip_folder):
    with pytest.raises(IncompatibleWeights, match="not a detector folder"):
        load_model(clip_folder)


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("preprocessor_config.json", None, r"no preprocessor_config\.json"),
        ("preprocessor_config.json", "{", "not JSON"),
        ("preprocessor_config.json", "[]", "list"),
    ],
)
def test_a_bare_model_without_a_readable_processor_is_refused(clip_folder, name, text, word):
    path = clip_folder / name
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(ConfigError, match=word):
        untrained_detector(clip_folder)


def test_a_built_in_name_is_found(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(builtin, "files", lambda _package: tmp_path)
    (tmp_path / "builtin").mkdir()
    shutil.copytree(folder, tmp_path / "builtin" / "face-vits14")
    assert load(device="cpu").ref.id == "face-vits14"
    assert load("face-vits14", device="cpu").ref.id == "face-vits14"


def test_a_built_in_whose_files_are_absent_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(builtin, "files", lambda _package: tmp_path)
    with pytest.raises(UnknownDetector, match="not part of this installation"):
        load("builtin")


def test_a_misspelt_folder_with_a_slash_at_its_end_lists_near_ones(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownDetector, match="Did you mean 'mine'"):
        load("mime/")


def test_an_unknown_built_in_name_lists_near_ones():
    with pytest.raises(UnknownDetector, match="'builtin'"):
        builtin_folder("biultin")


def test_an_unknown_name_lists_near_ones():
    with pytest.raises(UnknownDetector, match="Did you mean 'builtin'"):
        load("biultin")


def test_an_unknown_folder_lists_its_neighbours(folder):
    wrong = str(folder.parent / "detectr")
    with pytest.raises(UnknownDetector, match=str(folder)):
        load(wrong)


def test_a_folder_without_config_is_no_detector(tmp_path):
    with pytest.raises(UnknownDetector, match=r"holds no config\.json"):
        load(tmp_path)


def test_a_file_is_no_detector(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"x")
    with pytest.raises(UnknownDetector, match="a single weights file is not a detector"):
        load(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("effort-ffpp", "is the file effort_clip_L14_trainOn_FaceForensic.pth .*"
         "'unmask convert effort FILE DIR' makes .*'unmask models'"),
        ("Effort-FFPP", "The published effort-ffpp is"),
        ("effort_clip_L14_trainOn_FaceForensic.pth", "The published effort-ffpp is"),
        ("gend-clip-l14", "is the Hub model yermandy/GenD_CLIP_L_14: 'unmask convert gend yerm"),
        ("gend-pe-l", "cannot be brought in: its tower is not in transformers"),
    ],
)  # fmt: skip
def test_the_name_of_a_published_detector_says_how_to_bring_it_in(name, sentence):
    with pytest.raises(UnknownDetector, match=f"no detector '{name}' is here.*{sentence}"):
        load(name)


def test_a_published_file_says_how_to_make_a_folder_of_it(tmp_path):
    path = tmp_path / "effort_clip_L14_trainOn_sdv14.pth"
    path.write_bytes(b"x")
    with pytest.raises(UnknownDetector, match=r"effort-genimage is .*'unmask convert effort FILE"):
        load(path)


def test_any_other_file_says_which_verb_makes_a_folder_of_it(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"x")
    with pytest.raises(UnknownDetector, match="'unmask convert' makes a folder of a published"):
        load(tmp_path / "x.pth")


def test_a_folder_of_the_name_of_a_published_detector_is_that_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    folder.rename("effort-ffpp")
    assert load("effort-ffpp", device="cpu").ref.id == "effort-ffpp"


def test_a_path_object_is_never_taken_for_a_hub_id():
    with pytest.raises(UnknownDetector, match="no such folder"):
        load(Path("org/name"))


def test_a_revision_belongs_to_a_hub_id(folder):
    with pytest.raises(ConfigError, match="belongs to a Hub id"):
        load(folder, revision="main")


def test_two_revisions_are_refused():
    with pytest.raises(ConfigError, match="two revisions"):
        load("org/name@a", revision="b")


# --- what decides the answer beside the weights ---------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("head", "normalize", True),
        ("preprocess", "interpolation", "nearest"),
        ("calibration", "temperature", 3.0),
        ("backbone_config", "hidden_act", "gelu"),
    ],
)
def test_the_hash_of_the_configuration_tells_answers_apart(name, key, value, folder):
    """The weights are the same, and so is their hash."""
    before = load(folder, device="cpu")
    values = json.loads((folder / "config.json").read_text())[name]
    assert values.get(key) != value
    edit_config(folder, **{name: {**values, key: value}})
    after = load(folder, device="cpu")
    assert after.ref == before.ref
    assert after.config_sha256 != before.config_sha256
    assert Pipeline(after).settings() != Pipeline(before).settings()


def test_the_hash_of_the_configuration_is_not_of_records(folder):
    before = load(folder, device="cpu").config_sha256
    edit_config(folder, license="other", training={"seed": 1}, backbone_source={"id": "x"})
    assert load(folder, device="cpu").config_sha256 == before


@pytest.mark.parametrize(
    "whole",
    [
        WholePictures(),
        WholePictures(1.7, (POINT,)),
        WholePictures(0.6, (replace(POINT, fake_at=0.7),)),
    ],
)
def test_the_hash_of_the_configuration_is_of_whole_pictures_too(whole, folder):
    hashes = [load(folder, device="cpu").config_sha256]
    for each in (whole, WholePictures(0.6, (POINT,))):
        edit_config(folder, whole_pictures=each.to_dict())
        hashes.append(load(folder, device="cpu").config_sha256)
    assert len(set(hashes)) == 3


def test_the_hash_is_not_of_the_record_of_whole_pictures(folder):
    hashes = set()
    for record in ({}, {"method": "temperature"}):
        edit_config(folder, whole_pictures=WholePictures(0.6, (POINT,), record).to_dict())
        hashes.add(load(folder, device="cpu").config_sha256)
    assert len(hashes) == 1


def test_the_hash_without_whole_pictures_is_that_of_before_there_were_any(folder):
    detector = load(folder, device="cpu")
    names = ("backbone_config", "features", "head", "preprocess", "domain", "face")
    values = {name: getattr(detector.config, name) for name in names}
    values |= {"temperature": 1.7, "operating_points": [asdict(POINT)]}
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for name in ("linear.bias", "linear.weight"):
        digest.update(detector.model.head.state_dict()[name].numpy().tobytes())
    assert detector.config_sha256 == digest.hexdigest()
