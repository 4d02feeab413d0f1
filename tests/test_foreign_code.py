"""Code that comes with a published model (``auto_map``) is never run, whichever way it is read."""

import ast
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from tiny_classifiers import save_classifier
from tiny_towers import CLIP
from unmask.models.detector import load
from unmask.models.published.classifier import read_classifier
from unmask.models.published.gend import read_gend
from unmask.models.weights import read_config

ROOT = Path(__file__).resolve().parents[1] / "src" / "unmask"


def with_code(folder: Path, ran: Path) -> Path:
    """The folder with code for each class that could be asked for; it leaves ``ran`` behind."""
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    classes = ("AutoConfig", "AutoModel", "AutoModelForImageClassification", "CLIPVisionModel")
    values["auto_map"] = dict.fromkeys(classes, "code.Strange")
    path.write_text(json.dumps(values), encoding="utf-8")
    (folder / "code.py").write_text(f"open({str(ran)!r}, 'w')\n", encoding="utf-8")
    return folder


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    CLIPModel(CLIP).save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def test_a_classifier_s_code_is_left_alone(tmp_path):
    folder = save_classifier(tmp_path / "vit", labels=("real", "fake"))
    read_classifier(with_code(folder, tmp_path / "ran"))
    assert not (tmp_path / "ran").exists()


def test_the_code_of_a_classifier_that_is_scored_with_is_left_alone(tmp_path):
    folder = save_classifier(tmp_path / "vit", labels=("real", "fake"))
    load(with_code(folder, tmp_path / "ran"), device="cpu")
    assert not (tmp_path / "ran").exists()


def test_a_gend_s_code_and_that_of_its_base_are_left_alone(clip, tmp_path):
    folder = tmp_path / "gend"
    folder.mkdir()
    tensors = {
        f"feature_extractor.{key}": value
        for key, value in load_file(clip / "model.safetensors").items()
        if key.startswith("vision_model.")
    }
    tensors |= {"model.linear.weight": torch.ones(2, 32), "model.linear.bias": torch.ones(2)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "GenD", "backbone": "clip", "head": "linear"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    base = read_config(with_code(clip, tmp_path / "ran"))
    read_gend(with_code(folder, tmp_path / "ran"), base_config=base)
    assert not (tmp_path / "ran").exists()


def loads_without_refusal(text: str) -> list[int]:
    """Lines of calls that make a model of a configuration and do not refuse its code."""
    calls = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    found = []
    for call in calls:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        refused = any(
            each.arg == "trust_remote_code" and ast.unparse(each.value) == "False"
            for each in call.keywords
        )
        if name in {"from_pretrained", "from_config"} and not refused:
            found.append(call.lineno)
    return found


def test_every_call_that_makes_a_model_refuses_its_code():
    # Classes that are named in full run no code, and what they are is decided elsewhere: so all.
    lines = {
        path.name: loads_without_refusal(path.read_text(encoding="utf-8"))
        for path in ROOT.rglob("*.py")
    }
    assert {name: found for name, found in lines.items() if found} == {}


def test_a_call_that_does_not_refuse_is_found():
    assert loads_without_refusal("kind.from_pretrained(None, trust_remote_code=True)\n") == [1]
