"""Model folders that send transformers elsewhere, and files that are not what they seem."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny_detectors import save_detector
from tuned_models import save_base
from unmask.errors import ConfigError, CorruptWeights, IncompatibleWeights
from unmask.models.backbone import load_backbone
from unmask.models.checkpoint import load_model
from unmask.models.weights import read_config, weights_files


@pytest.fixture
def base(tmp_path):
    return save_base(tmp_path / "clip", "clip")


@pytest.fixture
def folder(tmp_path):
    return save_detector(tmp_path / "detector", domain="image")


def edit(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return folder


def test_code_that_comes_with_a_model_is_not_run_and_nobody_is_asked(base, tmp_path):
    """In a process of its own, with an answer waiting for whoever asks."""
    edit(base, model_type="strange", auto_map={"AutoConfig": "code.Strange"})
    (base / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    asked = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from unmask.models.weights import read_config;"
            "read_config(Path(sys.argv[1]))",
            base,
        ],
        input="y\n" * 9,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
    )
    assert "ConfigError" in asked.stderr
    assert "code that comes with a model (auto_map) is never run" in asked.stderr
    assert asked.stdout == ""
    assert not (tmp_path / "ran").exists()


def test_code_beside_a_known_kind_of_model_is_left_alone(base, tmp_path):
    edit(base, auto_map={"AutoConfig": "code.Strange", "AutoModel": "code.Strange"})
    (base / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    load_backbone(base, ["pooler"])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("transformers_weights", "../other/model.safetensors"),
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_8bit": True}),
    ],
)
def test_a_key_that_takes_other_weights_is_refused_by_name(key, value, folder, base):
    with pytest.raises(ConfigError, match=f"{key} is set"):
        load_model(edit(folder, **{key: value}))
    with pytest.raises(ConfigError, match=f"{key} is set"):
        load_backbone(edit(base, **{key: value}), ["pooler"])


def test_a_key_inside_the_tower_is_refused_too(folder):
    values = json.loads((folder / "config.json").read_text())["backbone_config"]
    edit(folder, backbone_config={**values, "transformers_weights": "x.safetensors"})
    with pytest.raises(ConfigError, match="backbone_config: transformers_weights is set"):
        load_model(folder)


def test_a_key_of_a_configuration_that_is_given_is_refused_too(base):
    config = read_config(base)
    config.transformers_weights = "x.safetensors"
    with pytest.raises(ConfigError, match="transformers_weights is set"):
        load_backbone(base, ["pooler"], config=config)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_of_peft_asks_to_be_merged(name, folder, base):
    for one in (folder, base):
        (one / name).write_text("{}")
        with pytest.raises(IncompatibleWeights, match="merge it into its model with PEFT first"):
            read_config(one)


def test_an_adapter_of_peft_is_refused_where_the_configuration_is_given(base):
    config = read_config(base)
    (base / "adapter_config.json").write_text("{}")
    with pytest.raises(IncompatibleWeights, match="adapter of PEFT"):
        load_backbone(base, ["pooler"], config=config)


def test_two_sets_of_weights_are_refused(folder):
    (folder / "adapter.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(IncompatibleWeights, match=r"both model\.safetensors and adapter\."):
        weights_files(folder)


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(IncompatibleWeights, match="holds no weights"):
        weights_files(folder)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[", "is damaged"),
        ('{"weight_map": {"a": 5}}', "is damaged"),
        ("[" * 100_000, "is damaged"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "shards lie beside their index"),
        ('{"weight_map": {"a": "x.safetensors"}}', "which is missing"),
    ],
    ids=["cut", "number", "deep", "elsewhere", "missing"],
)
def test_an_index_that_cannot_be_followed_is_refused(text, word, folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CorruptWeights, match=word):
        weights_files(folder)


def test_a_configuration_nested_beyond_measure_is_not_json(folder):
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="is not JSON"):
        read_config(folder)


def test_a_folder_in_the_place_of_the_configuration_is_refused(folder):
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"num_attention_heads": 0},
        {"hidden_size": "x"},
        {"hidden_act": "zz"},
        {"_attn_implementation": "flash_attention_2"},
        {"patch_size": 0},
        {"image_size": None},
        {"num_hidden_layers": "3"},
        {"hidden_size": -8},
    ],
    ids=lambda values: next(iter(values)),
)
@pytest.mark.parametrize("kind", ["detector", "tower"])
def test_a_tower_that_cannot_be_built_is_an_error_of_its_configuration(kind, values, folder, base):
    given = json.loads((folder / "config.json").read_text())["backbone_config"]
    edit(folder, backbone_config={**given, **values})
    edit(base, **values)
    with pytest.raises((ConfigError, IncompatibleWeights)) as caught:
        load_model(folder) if kind == "detector" else load_backbone(base, ["pooler"])
    assert len(str(caught.value)) > 20


def test_whole_numbers_in_the_place_of_weights_are_refused(folder):
    path = folder / "model.safetensors"
    state = load_file(path)
    key = next(key for key in state if key.endswith("q_proj.weight"))
    state[key] = (state[key] * 10).to(torch.int8)
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(IncompatibleWeights, match=r"q_proj\.weight is stored as I8; floating"):
        load_model(folder)


def test_whole_numbers_in_an_older_file_are_refused(base):
    state = load_file(base / "model.safetensors")
    key = next(key for key in state if key.endswith("q_proj.bias"))
    state[key] = state[key].to(torch.int64)
    torch.save(state, base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    with pytest.raises(IncompatibleWeights, match=r"q_proj\.bias is stored as torch\.int64"):
        load_backbone(base, ["pooler"])


def test_a_buffer_of_whole_numbers_is_no_weight(base):
    state = load_file(base / "model.safetensors")
    state["embeddings.position_ids"] = torch.arange(5)[None]
    save_file(state, base / "model.safetensors", metadata={"format": "pt"})
    load_backbone(base, ["pooler"])


def test_the_weights_of_a_folder_are_its_one_file(folder):
    assert weights_files(folder) == [Path(folder) / "model.safetensors"]
