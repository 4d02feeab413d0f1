import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import (
    CLIPConfig,
    Dinov2Config,
    Dinov2Model,
    DINOv3ViTConfig,
    DINOv3ViTModel,
)

from tiny_towers import CLIP_VISION, TOWERS
from unmask.errors import ConfigError, CorruptWeights, IncompatibleWeights
from unmask.models.checkpoint import load_model, save
from unmask.models.published.dino_geometry import dino_config
from unmask.models.published.gend import read_gend
from unmask.preprocess import Preprocess
from unmask.types import FaceSpec

FIXTURES = Path(__file__).parent / "fixtures" / "effort"
ARRAYS = np.load(FIXTURES / "arrays.npz")
BASE = CLIPConfig.from_pretrained(FIXTURES / "tiny_clip")
HEADS = {"linear": "GenD_logits_norm0", "LinearNorm": "GenD_logits_norm1"}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder as GenD publishes them: the recorded tiny CLIP with the recorded head."""
    folder = tmp_path_factory.mktemp("published") / "gend"
    folder.mkdir()
    tensors = {
        f"feature_extractor.{key}": value
        for key, value in load_file(FIXTURES / "tiny_clip" / "model.safetensors").items()
        if key.startswith(("vision_model.", "visual_projection."))
    }
    tensors["model.linear.weight"] = torch.from_numpy(ARRAYS["GenD_linear_weight"])
    tensors["model.linear.bias"] = torch.from_numpy(ARRAYS["GenD_linear_bias"])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    describe(folder, "openai/clip-vit-tiny", "LinearNorm")
    return folder


@pytest.fixture
def gend(published, tmp_path):
    return shutil.copytree(published, tmp_path / "gend")


def describe(folder, backbone, head):
    values = {"architectures": ["GenD"], "model_type": "GenD", "backbone": backbone, "head": head}
    (folder / "config.json").write_text(json.dumps(values))


def edit(folder, change):
    """Rewrite the weights file after ``change`` had its dictionary."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def inputs():
    return torch.from_numpy(np.load(FIXTURES / "inputs.npz")["pixel_values"])


def logit(model, pixels):
    with torch.inference_mode():
        return model.logit(pixels)


def dino_folder(folder, config, head="LinearNorm", rename=lambda key: key):
    """A GenD on a DINO tower with random weights; the tower, the head's weight and its bias."""
    torch.manual_seed(0)
    kind = DINOv3ViTModel if isinstance(config, DINOv3ViTConfig) else Dinov2Model
    tower = kind(config).eval()
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    tower.save_pretrained(folder)
    tensors = {
        f"feature_extractor.backbone.{rename(key)}": value
        for key, value in load_file(folder / "model.safetensors").items()
    }
    weight, bias = torch.randn(2, config.hidden_size), torch.randn(2)
    tensors |= {"model.linear.weight": weight, "model.linear.bias": bias}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    describe(folder, "facebook/dinov3-vits16-pretrain-lvd1689m", head)
    return tower, weight, bias


# D45: GenD's own class cannot be loaded by transformers 5; its folders are read here all the same.
@pytest.mark.parametrize("head", HEADS)
def test_d45_a_gend_gives_the_recorded_logits(gend, head):
    describe(gend, "openai/clip-vit-tiny", head)
    recorded = ARRAYS[HEADS[head]]
    ours = logit(read_gend(gend, base_config=BASE).model, inputs())
    np.testing.assert_allclose(ours, recorded[:, 1] - recorded[:, 0], atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_the_original_of_a_gend_gives_the_recorded_logits(gend, head):
    describe(gend, "openai/clip-vit-tiny", head)
    recorded = ARRAYS[HEADS[head]]
    theirs = read_gend(gend, base_config=BASE).original(inputs())
    np.testing.assert_allclose(theirs, recorded[:, 1] - recorded[:, 0], atol=1e-5)


def test_a_saved_gend_gives_the_recorded_logits(published, tmp_path):
    imported = read_gend(published, base_config=BASE)
    save(imported.model, tmp_path / "out", card="# x\n", weights_dtype="float32")
    recorded = ARRAYS["GenD_logits_norm1"]
    again = logit(load_model(tmp_path / "out"), inputs())
    np.testing.assert_allclose(again, recorded[:, 1] - recorded[:, 0], atol=1e-5)


def test_the_original_does_not_use_the_model(published):
    imported = read_gend(published, base_config=BASE)
    before = imported.original(inputs())
    with torch.no_grad():
        for parameter in imported.model.parameters():
            parameter.zero_()
    assert torch.equal(imported.original(inputs()), before)


def test_each_tensor_of_a_gend_is_accounted_for(published):
    imported = read_gend(published, base_config=BASE)
    state = imported.model.state_dict()
    file = load_file(published / "model.safetensors")
    assert [fate.key for fate in imported.keys] == list(file)
    assert {fate.target for fate in imported.keys if fate.target} == set(state)
    for fate in imported.keys:
        assert fate.target is None or torch.equal(file[fate.key], state[fate.target])


def test_the_projection_is_dropped_with_its_reason(published):
    dropped = [fate for fate in read_gend(published, base_config=BASE).keys if not fate.target]
    assert [fate.key for fate in dropped] == ["feature_extractor.visual_projection.weight"]
    assert "does not look at" in dropped[0].reason


def test_position_ids_of_older_files_are_dropped(gend):
    key = "feature_extractor.vision_model.embeddings.position_ids"
    edit(gend, lambda tensors: tensors.update({key: torch.arange(257)[None]}))
    fates = {fate.key: fate for fate in read_gend(gend, base_config=BASE).keys}
    assert fates[key].target is None
    assert "older versions" in fates[key].reason


def test_the_layer_norms_and_the_head_are_what_was_trained(published):
    imported = read_gend(published, base_config=BASE)
    layers = {key.rsplit(".", 2)[-2] for key in imported.trained}
    assert layers == {"pre_layrnorm", "layer_norm1", "layer_norm2", "post_layernorm", "linear"}
    # Two vectors for each of two norms in each of two blocks and the two around them; the head.
    assert sum(value.numel() for value in imported.trained.values()) == 2 * 64 * 6 + 2 * 64 + 2
    state = imported.model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in imported.trained.items())


def test_a_gend_takes_faces_prepared_as_for_clip(published):
    spec = read_gend(published, base_config=BASE).model.spec
    assert (spec.domain, spec.features) == ("face", ("pooler",))
    assert spec.face == FaceSpec(finder="yunet", scale=1.3, size=224, antialias=True)
    assert spec.preprocess == Preprocess.openai_clip(224)


def test_a_processor_in_the_folder_goes_before(gend):
    values = {"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}}
    (gend / "preprocessor_config.json").write_text(json.dumps(values))
    imported = read_gend(gend, base_config=BASE)
    assert imported.model.spec.preprocess.resize_rule == "squash"
    assert not any("no processor" in note for note in imported.notes)


def test_it_is_noted_that_the_crops_are_not_its_own(published):
    imported = read_gend(published, base_config=BASE)
    assert "aligner of its own" in imported.notes[0]
    assert "no processor" in imported.notes[-1]


def test_a_gend_in_half_precision_is_computed_in_float32(gend):
    edit(gend, lambda tensors: tensors.update({k: v.half() for k, v in tensors.items()}))
    imported = read_gend(gend, base_config=BASE)
    assert {one.dtype for one in imported.model.parameters()} == {torch.float32}
    recorded = ARRAYS["GenD_logits_norm1"]
    np.testing.assert_allclose(
        logit(imported.model, inputs()), recorded[:, 1] - recorded[:, 0], atol=5e-3
    )


def test_a_gend_in_shards_of_bin_files_is_read(gend):
    tensors = load_file(gend / "model.safetensors")
    names = list(tensors)
    shards = {"pytorch_model-00001-of-00002.bin": names[:9], "pytorch_model-2.bin": names[9:]}
    for name, keys in shards.items():
        torch.save({key: tensors[key] for key in keys}, gend / name)
    index = {key: name for name, keys in shards.items() for key in keys}
    (gend / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    expected = logit(read_gend(gend, base_config=BASE).model, inputs())
    (gend / "model.safetensors").unlink()
    imported = read_gend(gend, base_config=BASE)
    assert torch.equal(logit(imported.model, inputs()), expected)
    assert len(imported.files) == 2


def test_a_geometry_that_is_not_known_asks_for_a_base(published):
    with pytest.raises(IncompatibleWeights, match="--base"):
        read_gend(published)


def test_the_true_clip_is_known_by_its_shapes(tmp_path, monkeypatch):
    from unmask.models.published import clip_geometry

    geometry = clip_geometry._Geometry(64, 2, 128, 14, 224)
    monkeypatch.setattr(clip_geometry, "_OPENAI", {geometry: ("ViT-T/14", 32)})
    imported = read_gend(recorded_folder(tmp_path))
    assert imported.model.backbone.config.num_attention_heads == 1
    assert "shapes of ViT-T/14" in imported.notes[1]


def recorded_folder(folder):
    tensors = {
        f"feature_extractor.{key}": value
        for key, value in load_file(FIXTURES / "tiny_clip" / "model.safetensors").items()
        if key.startswith("vision_model.")
    }
    tensors |= {"model.linear.weight": torch.ones(2, 64), "model.linear.bias": torch.ones(2)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    describe(folder, "clip", "linear")
    return folder


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", ["dinov2", "dinov3"])
def test_a_gend_on_dino_looks_at_the_cls_token(tmp_path, family, head):
    config = TOWERS[family]
    tower, weight, bias = dino_folder(tmp_path, config, head)
    imported = read_gend(tmp_path, base_config=config)
    pixels = inputs()[:2, :, :32, :32]
    with torch.inference_mode():
        cls = tower(pixels).last_hidden_state[:, 0]
    cls = F.normalize(cls, dim=1) if head == "LinearNorm" else cls
    outputs = F.linear(cls, weight, bias)
    expected = outputs[:, 1] - outputs[:, 0]
    torch.testing.assert_close(logit(imported.model, pixels), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(imported.original(pixels), expected, atol=1e-5, rtol=0)
    assert imported.model.spec.features == ("cls",)


def test_a_saved_gend_on_dino_gives_the_same(tmp_path):
    dino_folder(tmp_path, TOWERS["dinov3"])
    model = read_gend(tmp_path, base_config=TOWERS["dinov3"]).model
    save(model, tmp_path / "out", card="# x\n", weights_dtype="float32")
    pixels = inputs()[:2, :, :32, :32]
    assert torch.equal(logit(load_model(tmp_path / "out"), pixels), logit(model, pixels))


def test_a_gend_on_dino_may_have_the_names_of_either_version(tmp_path):
    config = TOWERS["dinov3"]
    published, nested = (tmp_path / name for name in ("published", "nested"))
    dino_folder(published, config)
    dino_folder(nested, config, rename=lambda key: key.replace("layer.", "model.layer."))
    pixels = inputs()[:2, :, :32, :32]
    one, two = (read_gend(folder, base_config=config) for folder in (published, nested))
    assert torch.equal(logit(one.model, pixels), logit(two.model, pixels))
    assert {fate.target for fate in two.keys} == set(two.model.state_dict())


def test_dinov3_squashes_and_dinov2_cuts_the_centre(tmp_path):
    found = {}
    for family in ("dinov2", "dinov3"):
        dino_folder(tmp_path / family, TOWERS[family])
        imported = read_gend(tmp_path / family, base_config=TOWERS[family])
        found[family] = imported.model.spec.preprocess.describe()
    assert found["dinov3"] == "224x224 squash bilinear mean 0.485,0.456,0.406 std 0.229,0.224,0.225"
    assert found["dinov2"].startswith("224x224 edge 256 bicubic mean 0.485")


# Of the configurations published with the models: width, blocks, heads, MLP.
@pytest.mark.parametrize(
    "geometry", [(384, 12, 6, 1536), (768, 12, 12, 3072), (1024, 24, 16, 4096)]
)
def test_the_published_dinov3_towers_are_known_by_their_shapes(geometry):
    width, blocks, heads, mlp = geometry
    config = DINOv3ViTConfig(
        hidden_size=width,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        intermediate_size=mlp,
        num_register_tokens=4,
    )
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in DINOv3ViTModel(config).state_dict().items()}
    found = dino_config(shapes).to_dict()
    assert {key: found[key] for key in config.to_dict()} == config.to_dict()


@pytest.mark.parametrize("config", [TOWERS["dinov3"], Dinov2Config(hidden_size=384)])
def test_another_dino_asks_for_a_base(config):
    kind = DINOv3ViTModel if isinstance(config, DINOv3ViTConfig) else Dinov2Model
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in kind(config).state_dict().items()}
    with pytest.raises(IncompatibleWeights, match=r"--base"):
        dino_config(shapes)


def test_a_base_of_another_kind_is_refused(tmp_path):
    dino_folder(tmp_path, TOWERS["dinov3"])
    with pytest.raises(IncompatibleWeights, match="the base is a 'clip_vision_model'"):
        read_gend(tmp_path, base_config=CLIP_VISION)


def test_a_gend_on_a_perception_encoder_is_refused(gend):
    describe(gend, "vit_pe_core_large_patch14_336", "LinearNorm")
    with pytest.raises(IncompatibleWeights, match="transformers does not have"):
        read_gend(gend, base_config=BASE)


@pytest.mark.parametrize("name", ["resnet50", None, 3])
def test_another_backbone_is_an_error(gend, name):
    describe(gend, name, "linear")
    with pytest.raises(ConfigError, match="backbone is"):
        read_gend(gend)


@pytest.mark.parametrize("head", ["mlp", None, ["linear"]])
def test_another_head_is_an_error(gend, head):
    describe(gend, "clip", head)
    with pytest.raises(ConfigError, match="known are linear, LinearNorm"):
        read_gend(gend)


def test_another_model_type_is_an_error(gend):
    (gend / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ConfigError, match="model_type 'vit'; 'GenD' was expected"):
        read_gend(gend)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("feature_extractor.vision_model.pre_layrnorm.bias"), "are missing"),
        (lambda t: t.update({"extra": torch.zeros(1)}), "are left over: extra"),
        (
            lambda t: t.update({"feature_extractor.vision_model.extra": torch.zeros(1)}),
            r"left over: feature_extractor\.vision_model\.extra",
        ),
        (
            lambda t: t.update(
                {"feature_extractor.vision_model.pre_layrnorm.bias": torch.zeros(9)}
            ),
            "another shape",
        ),
        (lambda t: t.pop("model.linear.bias"), r"model\.linear\.bias is missing"),
        (
            lambda t: t.update({"model.linear.weight": torch.zeros(3, 64)}),
            "no head of GenD",
        ),
        (
            lambda t: t.pop("feature_extractor.vision_model.embeddings.class_embedding"),
            "class_embedding is missing",
        ),
    ],
)
def test_weights_that_are_no_whole_gend_are_refused(gend, change, message):
    edit(gend, change)
    with pytest.raises(IncompatibleWeights, match=message):
        read_gend(gend, base_config=BASE)


def test_a_gend_with_values_that_are_not_finite_is_refused(gend):
    edit(gend, lambda tensors: tensors["model.linear.weight"].fill_(float("inf")))
    with pytest.raises(CorruptWeights, match=r"model\.linear\.weight holds values"):
        read_gend(gend, base_config=BASE)


def test_a_gend_with_something_else_than_tensors_is_refused(gend):
    (gend / "model.safetensors").unlink()
    torch.save({"epoch": 3}, gend / "pytorch_model.bin")
    with pytest.raises(IncompatibleWeights, match="epoch is a int"):
        read_gend(gend, base_config=BASE)


def test_a_gend_of_whole_numbers_is_refused(gend):
    edit(gend, lambda tensors: tensors.update({"model.linear.bias": torch.ones(2).to(torch.int8)}))
    with pytest.raises(IncompatibleWeights, match=r"model\.linear\.bias holds torch\.int8"):
        read_gend(gend)
