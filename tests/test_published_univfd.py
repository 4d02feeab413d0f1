import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPVisionModelWithProjection, SiglipVisionModel

from tiny_towers import CLIP, CLIP_VISION, TOWERS
from unmask.errors import ConfigError, CorruptWeights, IncompatibleWeights, MissingSource
from unmask.models.catalog import find_published
from unmask.models.checkpoint import load_model, save
from unmask.models.configuration import BackboneSource
from unmask.models.published.univfd import read_univfd
from unmask.models.weights import weights_sha256
from unmask.preprocess import Preprocess

FIXTURES = Path(__file__).parent / "fixtures" / "effort"
BASE = FIXTURES / "tiny_clip"
ARRAYS = np.load(FIXTURES / "arrays.npz")


@pytest.fixture
def head(tmp_path):
    """A head file for the recorded tiny CLIP, as it was published: bare."""
    generator = torch.Generator().manual_seed(0)
    layer = {
        "weight": torch.randn(1, 32, generator=generator),
        "bias": torch.randn(1, generator=generator),
    }
    return written(tmp_path / "fc_weights.pth", layer)


def written(path, content):
    torch.save(content, path)
    return path


def inputs():
    return torch.from_numpy(np.load(FIXTURES / "inputs.npz")["pixel_values"])


def logit(model, pixels):
    with torch.inference_mode():
        return model.logit(pixels)


def expected(path):
    """By the recorded projection of the recorded tower's output."""
    layer = torch.load(path, weights_only=True)
    return ARRAYS["visual_projection_of_pooler"] @ layer["weight"].numpy()[0] + layer["bias"].item()


def test_the_logit_is_linear_in_the_recorded_projection(head):
    ours = logit(read_univfd(head, BASE).model, inputs())
    np.testing.assert_allclose(ours, expected(head), atol=1e-5)


def test_the_original_is_linear_in_the_recorded_projection(head):
    theirs = read_univfd(head, BASE).original(inputs())
    np.testing.assert_allclose(theirs, expected(head), atol=1e-5)


def test_a_saved_univfd_gives_the_same(head, tmp_path):
    model = read_univfd(head, BASE).model
    save(model, tmp_path / "out", card="# x\n", weights_dtype="float32")
    np.testing.assert_allclose(
        logit(load_model(tmp_path / "out"), inputs()), expected(head), atol=1e-5
    )


def test_a_head_on_the_pooled_output_gives_the_recorded_logits(tmp_path):
    path = written(
        tmp_path / "fc.pth",
        {
            "weight": torch.from_numpy(ARRAYS["UFD_fc_weight"]),
            "bias": torch.from_numpy(ARRAYS["UFD_fc_bias"]),
        },
    )
    imported = read_univfd(path, BASE)
    recorded = ARRAYS["UFD_logits"][:, 0]
    np.testing.assert_allclose(logit(imported.model, inputs()), recorded, atol=1e-5)
    np.testing.assert_allclose(imported.original(inputs()), recorded, atol=1e-5)
    assert imported.model.spec.features == ("pooler",)
    assert "pooled output" in imported.notes[1]


def test_the_feature_is_not_normalised(head):
    spec = read_univfd(head, BASE).model.spec
    assert (spec.features, spec.head.normalize) == (("projection",), False)
    assert (spec.head.outputs, spec.head.fakes, spec.head.trained) == (1, 1, True)


def test_the_original_does_not_use_the_model(head):
    imported = read_univfd(head, BASE)
    before = imported.original(inputs())
    with torch.no_grad():
        for parameter in imported.model.parameters():
            parameter.zero_()
    assert torch.equal(imported.original(inputs()), before)


# D40: the original file is bare, and code that knew only the wrapped one could not load it.
@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [
        (lambda layer: layer, ""),
        (lambda layer: {"model": layer}, "model."),
        (lambda layer: {f"fc.{name}": value for name, value in layer.items()}, "fc."),
        (
            lambda layer: {
                "model": {f"fc.{name}": value for name, value in layer.items()},
                "optimizer": {},
                "total_steps": 3,
            },
            "model.fc.",
        ),
    ],
)
def test_d40_a_head_may_be_bare_or_wrapped(head, tmp_path, wrap, prefix):
    layer = torch.load(head, weights_only=True)
    imported = read_univfd(written(tmp_path / "other.pth", wrap(layer)), BASE)
    np.testing.assert_allclose(logit(imported.model, inputs()), expected(head), atol=1e-5)
    assert [(fate.key, fate.target) for fate in imported.keys] == [
        (f"{prefix}weight", "head.linear.weight"),
        (f"{prefix}bias", "head.linear.bias"),
    ]


def test_a_head_in_safetensors_is_read(head, tmp_path):
    save_file(torch.load(head, weights_only=True), tmp_path / "fc.safetensors")
    ours = logit(read_univfd(tmp_path / "fc.safetensors", BASE).model, inputs())
    np.testing.assert_allclose(ours, expected(head), atol=1e-5)


def test_a_base_with_projection_alone_will_do(head, tmp_path):
    tower = CLIPVisionModelWithProjection.from_pretrained(BASE)
    tower.save_pretrained(tmp_path / "base")
    imported = read_univfd(head, tmp_path / "base")
    np.testing.assert_allclose(logit(imported.model, inputs()), expected(head), atol=1e-5)
    np.testing.assert_allclose(imported.original(inputs()), expected(head), atol=1e-5)


def test_the_centre_is_cut_out_and_nothing_is_scaled(head):
    imported = read_univfd(head, BASE)
    spec = imported.model.spec
    assert (spec.domain, spec.face) == ("image", None)
    assert spec.preprocess == Preprocess(224, 224, "none")
    picture = np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8)
    assert np.array_equal(spec.preprocess.resize(picture), picture[38:262, 18:242])
    assert "zeros surround it" in imported.notes[0]


def test_a_clip_of_another_size_gets_crops_of_its_size(tmp_path):
    torch.manual_seed(0)
    CLIPModel(copy.deepcopy(CLIP)).save_pretrained(tmp_path / "base")
    path = written(tmp_path / "fc.pth", {"weight": torch.ones(1, 24), "bias": torch.ones(1)})
    imported = read_univfd(path, tmp_path / "base")
    assert imported.model.spec.preprocess == Preprocess(32, 32, "none")
    pixels = inputs()[:2, :, :32, :32]
    torch.testing.assert_close(imported.original(pixels), logit(imported.model, pixels))


def test_the_base_is_recorded(head):
    source = read_univfd(head, BASE).model.spec.backbone_source
    assert source == BackboneSource("tiny_clip", None, weights_sha256(BASE))


def test_the_head_is_what_was_trained(head):
    imported = read_univfd(head, BASE)
    layer = torch.load(head, weights_only=True)
    assert {key: value.tolist() for key, value in imported.trained.items()} == {
        f"head.linear.{name}": value.tolist() for name, value in layer.items()
    }


def test_a_head_of_another_width_names_both(tmp_path):
    path = written(tmp_path / "fc.pth", {"weight": torch.ones(1, 768), "bias": torch.ones(1)})
    with pytest.raises(IncompatibleWeights, match=r"features of 768, and .* its 64 to 32"):
        read_univfd(path, BASE)


def test_a_base_that_is_no_clip_is_refused(head, tmp_path):
    SiglipVisionModel(TOWERS["siglip"]).save_pretrained(tmp_path / "base")
    with pytest.raises(IncompatibleWeights, match="is a 'siglip_vision_model' model"):
        read_univfd(head, tmp_path / "base")


def test_a_base_without_projection_is_refused(tmp_path):
    tensors = load_file(BASE / "model.safetensors")
    config = (BASE / "config.json").read_text()
    base = tmp_path / "base"
    base.mkdir()
    del tensors["visual_projection.weight"]
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    (base / "config.json").write_text(config)
    path = written(tmp_path / "fc.pth", {"weight": torch.ones(1, 32), "bias": torch.ones(1)})
    with pytest.raises(IncompatibleWeights, match=r"missing: visual_projection\.weight"):
        read_univfd(path, base)


def test_a_base_without_configuration_is_an_error(head, tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        read_univfd(head, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": torch.ones(1, 32)}, "holds weight; the head of UnivFD"),
        ({}, "holds nothing"),
        (
            {"model": {"model.vision_model.x": torch.ones(1), "fc.weight": 1, "fc.bias": 1}},
            "a CLIP of its own beside the head",
        ),
        ({"weight": 1, "bias": torch.ones(1)}, "weight is a int; only tensors"),
        ({"weight": torch.ones(2, 32), "bias": torch.ones(2)}, "one output"),
        ({"weight": torch.ones(32), "bias": torch.ones(1)}, "one output"),
        ({"weight": torch.ones(1, 32), "bias": torch.ones(())}, "one output"),
    ],
)
def test_a_file_that_is_no_head_is_refused(tmp_path, content, message):
    with pytest.raises(IncompatibleWeights, match=message):
        read_univfd(written(tmp_path / "fc.pth", content), BASE)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_head_that_is_not_finite_is_refused(tmp_path, name):
    layer = {"weight": torch.ones(1, 32), "bias": torch.ones(1)}
    layer[name].fill_(float("nan"))
    with pytest.raises(CorruptWeights, match="not finite"):
        read_univfd(written(tmp_path / "fc.pth", layer), BASE)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(MissingSource, match="no file"):
        read_univfd(tmp_path / "fc_weights.pth", BASE)


def test_a_file_that_wants_to_run_code_is_refused(tmp_path):
    path = written(tmp_path / "fc.pth", {"weight": CLIP_VISION, "bias": 1})
    with pytest.raises(IncompatibleWeights, match=r"wants .* to be called"):
        read_univfd(path, BASE)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64, torch.float8_e5m2])
@pytest.mark.parametrize("leaf", ["weight", "bias"])
def test_a_head_of_other_numbers_than_floating_point_is_refused(tmp_path, leaf, dtype):
    content = {"weight": torch.ones(1, 24), "bias": torch.ones(1)}
    torch.save({**content, leaf: content[leaf].to(dtype)}, tmp_path / "fc.pth")
    with pytest.raises(IncompatibleWeights, match=rf"{leaf} holds {dtype}; floating point"):
        read_univfd(tmp_path / "fc.pth", tmp_path)


def test_a_known_head_is_refused_on_another_clip(head, monkeypatch):
    known = find_published(file_name="fc_weights.pth")
    monkeypatch.setattr("unmask.models.published.univfd.find_published", lambda **_asked: known)
    with pytest.raises(IncompatibleWeights, match=r"a head on CLIP ViT-L/14, and the base"):
        read_univfd(head, BASE)


def test_a_head_alone_does_not_confirm_its_clip(head):
    assert any("nothing in it can confirm" in note for note in read_univfd(head, BASE).notes)
