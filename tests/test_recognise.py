import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, ViTModel

from tiny_classifiers import save_classifier
from tiny_towers import CLIP, TOWERS
from unmask.errors import ConfigError, IncompatibleWeights
from unmask.models.builtin import builtin_folder
from unmask.models.published.recognise import read, recognise


@pytest.fixture
def classifier(tmp_path):
    return save_classifier(tmp_path / "vit", labels=("a", "b"))


@pytest.fixture
def gend(tmp_path):
    """A GenD on a tiny CLIP, and the folder of that CLIP."""
    folder, base = tmp_path / "gend", tmp_path / "clip"
    folder.mkdir()
    torch.manual_seed(0)
    CLIPModel(CLIP).save_pretrained(base)
    tensors = {
        f"feature_extractor.{key}": value
        for key, value in load_file(base / "model.safetensors").items()
        if key.startswith("vision_model.")
    }
    tensors |= {"model.linear.weight": torch.ones(2, 32), "model.linear.bias": torch.ones(2)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "GenD", "backbone": "clip", "head": "linear"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder, base


def test_an_image_classifier_is_recognised_and_read(classifier):
    assert recognise(classifier) == "hf"
    assert read(classifier, fake_labels=["b"]).kind == "hf"


def test_a_gend_is_recognised_and_read(gend):
    folder, base = gend
    assert recognise(folder) == "gend"
    assert read(folder, base=base).kind == "gend"


def test_a_gend_without_its_base_asks_for_it(gend):
    with pytest.raises(IncompatibleWeights, match="--base"):
        read(gend[0])


def test_a_bare_tower_is_not_recognised(tmp_path):
    ViTModel(TOWERS["vit"]).save_pretrained(tmp_path)
    assert recognise(tmp_path) is None
    with pytest.raises(IncompatibleWeights, match="neither an image classifier"):
        read(tmp_path)


def test_a_detector_of_ours_is_not_taken_for_a_classifier():
    assert recognise(builtin_folder("builtin")) is None


def test_a_folder_without_configuration_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        recognise(tmp_path)


def test_fake_labels_do_not_belong_to_a_gend(gend):
    with pytest.raises(ConfigError, match="second output is always fake"):
        read(gend[0], fake_labels=["1"], base=gend[1])


def test_a_base_does_not_belong_to_a_classifier(classifier):
    with pytest.raises(ConfigError, match="which is whole"):
        read(classifier, fake_labels=["b"], base=classifier)
