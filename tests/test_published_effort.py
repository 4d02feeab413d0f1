import hashlib
import os
import pickle
import random
import runpy
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import AutoConfig, CLIPVisionModel

from unmask.errors import ConfigError, CorruptWeights, IncompatibleWeights, MissingSource
from unmask.models import catalog
from unmask.models.catalog import Published
from unmask.models.published.effort import read_effort
from unmask.models.published.imported import KeyFate, key_report
from unmask.models.published.tensor_file import read_tensor_file
from unmask.preprocess import Preprocess
from unmask.types import FaceSpec

FIXTURES = Path(__file__).parent / "fixtures" / "effort"
RELEASED = FIXTURES / "B_released_layout.safetensors"
Q = "backbone.encoder.layers.1.self_attn.q_proj"


@pytest.fixture(scope="module")
def base():
    return AutoConfig.from_pretrained(FIXTURES / "tiny_clip")


@pytest.fixture(scope="module")
def pixels():
    return torch.from_numpy(np.load(FIXTURES / "inputs.npz")["pixel_values"])


@pytest.fixture(scope="module")
def recorded():
    arrays = np.load(FIXTURES / "arrays.npz")
    return {
        name: torch.from_numpy(arrays[f"{name}_logits"][:, 1] - arrays[f"{name}_logits"][:, 0])
        for name in "AB"
    }


@pytest.fixture
def released():
    return load_file(RELEASED)


@pytest.fixture
def saved(tmp_path):
    def save(state, name="file.pth"):
        path = tmp_path / name
        torch.save(state, path)
        return path

    return save


def error_of(path, base):
    with pytest.raises((IncompatibleWeights, CorruptWeights, MissingSource)) as caught:
        read_effort(path, base_config=base)
    return caught


FILES = {
    "five tensors a layer, safetensors": ("B", "B_released_layout.safetensors"),
    "five, module. prefix, pth": ("B", "B_released_layout_module_prefix.pth"),
    "five, module. prefix, under state_dict": ("B", "B_released_layout_wrapped.pth"),
    "eight tensors a layer": ("A", "A_full_layout.safetensors"),
}


@pytest.mark.parametrize("layout", FILES)
def test_each_published_layout_gives_the_recorded_logits(layout, base, pixels, recorded):
    # D27: the reference's strict load refuses five tensors a layer.
    run, name = FILES[layout]
    imported = read_effort(FIXTURES / name, base_config=base)
    with torch.inference_mode():
        torch.testing.assert_close(imported.model.logit(pixels), recorded[run], rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", FILES)
def test_the_original_gives_the_recorded_logits(layout, base, pixels, recorded):
    run, name = FILES[layout]
    original = read_effort(FIXTURES / name, base_config=base).original
    torch.testing.assert_close(original(pixels), recorded[run], rtol=0, atol=1e-6)


def test_the_original_does_not_compute_with_the_weights_of_the_model(base, pixels):
    imported = read_effort(RELEASED, base_config=base)
    before = imported.original(pixels)
    with torch.no_grad():
        for parameter in imported.model.parameters():
            parameter.zero_()
    assert torch.equal(imported.original(pixels), before)


def test_the_merged_weights_are_those_that_the_reference_computes_with(base):
    model = read_effort(RELEASED, base_config=base).model
    merged = load_file(FIXTURES / "B_merged_clipvision_keys.safetensors")
    state = model.backbone.state_dict()
    for key, value in merged.items():
        if not key.startswith("head."):
            torch.testing.assert_close(state[key], value, rtol=0, atol=1e-6)


def test_the_model_is_a_plain_float32_tower_with_a_trained_head_of_two_outputs(base):
    model = read_effort(RELEASED, base_config=base).model
    assert type(model.backbone) is CLIPVisionModel
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert model.spec.features == ("pooler",)
    assert (model.spec.head.outputs, model.spec.head.trained) == (2, True)
    assert not model.training


def test_what_the_shapes_do_not_say_comes_from_the_base(base):
    config = read_effort(RELEASED, base_config=base).model.backbone.config
    assert (config.num_attention_heads, config.hidden_act) == (4, "quick_gelu")


def test_a_geometry_that_is_not_openais_asks_for_a_base():
    with pytest.raises(IncompatibleWeights, match="--base"):
        read_effort(RELEASED)


def test_a_known_geometry_needs_no_base_and_says_what_was_taken(tmp_path):
    # One number is stored for each tensor, however large.
    state = {name: torch.zeros(1).expand(shape) for name, shape in b32_shapes().items()}
    path = tmp_path / "b32.pth"
    torch.save(state, path)
    imported = read_effort(path, domain="face")
    config = imported.model.backbone.config
    assert (config.num_attention_heads, config.hidden_act) == (12, "quick_gelu")
    assert any("CLIP ViT-B/32" in note and "12 attention heads" in note for note in imported.notes)


def b32_shapes():
    """Shapes of an Effort file on CLIP ViT-B/32."""
    shapes = {
        "embeddings.class_embedding": (768,),
        "embeddings.patch_embedding.weight": (768, 3, 32, 32),
        "embeddings.position_embedding.weight": (50, 768),
    }
    norms = ["pre_layrnorm", "post_layernorm"]
    for layer in range(12):
        block = f"encoder.layers.{layer}"
        norms += [f"{block}.layer_norm1", f"{block}.layer_norm2"]
        shapes[f"{block}.mlp.fc1.weight"], shapes[f"{block}.mlp.fc1.bias"] = (3072, 768), (3072,)
        shapes[f"{block}.mlp.fc2.weight"], shapes[f"{block}.mlp.fc2.bias"] = (768, 3072), (768,)
        for name in ("k", "v", "q", "out"):
            part = f"{block}.self_attn.{name}_proj"
            shapes[f"{part}.weight_main"], shapes[f"{part}.bias"] = (768, 768), (768,)
            shapes[f"{part}.U_residual"], shapes[f"{part}.V_residual"] = (768, 1), (1, 768)
            shapes[f"{part}.S_residual"] = (1,)
    for norm in norms:
        shapes[f"{norm}.weight"] = shapes[f"{norm}.bias"] = (768,)
    named = {f"backbone.{name}": shape for name, shape in shapes.items()}
    return named | {"head.weight": (2, 768), "head.bias": (2,)}


def test_the_benchmark_makes_the_layout_of_the_released_files():
    # 391 tensors of the tower, three more for each of 96 projections, and the head.
    script = Path(__file__).parents[1] / "benchmarks" / "convert.py"
    names = runpy.run_path(str(script))
    with torch.device("meta"):
        state = names["released_layout"](names["large_tower"](), split=False)
    assert len(state) == 681
    assert sum(value.numel() for value in state.values()) == 303_378_530
    assert {f"module.{key}" for key in b32_shapes()} <= set(state)


def test_pictures_are_prepared_as_the_published_scripts_do_it(base):
    assert read_effort(RELEASED, base_config=base).model.spec.preprocess == Preprocess.effort(224)


def test_faces_are_cut_as_the_published_scripts_do_it(base):
    spec = read_effort(RELEASED, base_config=base, domain="face").model.spec
    assert (spec.domain, spec.face) == ("face", FaceSpec(finder="dlib81", scale=1.3, size=224))


def test_whole_pictures_have_no_face(base):
    spec = read_effort(RELEASED, base_config=base, domain="image").model.spec
    assert (spec.domain, spec.face) == ("image", None)


def test_a_known_name_on_another_tower_is_another_detector(base, tmp_path):
    path = tmp_path / "effort_clip_L14_trainOn_sdv14.pth"
    shutil.copy(FIXTURES / "B_released_layout_wrapped.pth", path)
    imported = read_effort(path, base_config=base)
    assert imported.model.spec.domain == "face"
    assert any("Nothing says whether" in note for note in imported.notes)


@pytest.mark.parametrize("domain", ["face", "image"])
def test_a_known_name_says_the_domain_and_that_it_is_the_name_only(
    domain, base, tmp_path, monkeypatch
):
    entry = Published("tiny", "effort", "Known.pth", domain, "", "", "")
    monkeypatch.setattr(catalog, "PUBLISHED", (entry,))
    shutil.copy(FIXTURES / "B_released_layout_wrapped.pth", tmp_path / "known.pth")
    imported = read_effort(tmp_path / "known.pth", base_config=base)
    assert imported.model.spec.domain == domain
    assert any("by its name only, and its SHA-256 is not" in note for note in imported.notes)


def test_the_hash_of_a_published_file_says_the_domain(base, monkeypatch):
    digest = hashlib.sha256(RELEASED.read_bytes()).hexdigest()
    entry = Published(
        id="tiny",
        kind="effort",
        where="other.pth",
        domain="image",
        command="",
        paper="",
        note="",
        sha256=digest,
    )
    monkeypatch.setattr(catalog, "PUBLISHED", (entry,))
    assert read_effort(RELEASED, base_config=base).model.spec.domain == "image"


def test_an_unknown_file_is_taken_for_faces_and_a_note_says_so(base):
    imported = read_effort(RELEASED, base_config=base)
    assert imported.model.spec.domain == "face"
    (note,) = [note for note in imported.notes if "Nothing says whether" in note]
    assert note.endswith("'unmask convert effort FILE DIR --domain image'.")


def test_every_tensor_of_the_file_is_accounted_for(base):
    path = FIXTURES / "B_released_layout_module_prefix.pth"
    imported = read_effort(path, base_config=base)
    assert [fate.key for fate in imported.keys] == list(torch.load(path, weights_only=True))
    state = set(imported.model.state_dict())
    assert {fate.target for fate in imported.keys} == state


def test_a_dropped_tensor_has_its_reason(base):
    imported = read_effort(FIXTURES / "A_full_layout.safetensors", base_config=base)
    dropped = [fate for fate in imported.keys if fate.target is None]
    assert {fate.key.rpartition(".")[2] for fate in dropped} == {"U_r", "S_r", "V_r"}
    assert all(fate.reason for fate in dropped)


def test_position_ids_of_old_files_are_dropped(released, saved, base, pixels, recorded):
    ids = "backbone.embeddings.position_ids"
    imported = read_effort(saved(released | {ids: torch.arange(257)[None]}), base_config=base)
    assert next(fate for fate in imported.keys if fate.key == ids).target is None
    torch.testing.assert_close(imported.original(pixels), recorded["B"], rtol=0, atol=1e-6)


def test_what_stands_beside_the_weights_is_noted(base):
    notes = read_effort(FIXTURES / "B_released_layout_wrapped.pth", base_config=base).notes
    assert any("epoch" in note for note in notes)


def test_module_is_only_removed_at_the_beginning_of_a_key(released, saved, base):
    # D22: the reference removes it anywhere.
    state = dict(released)
    state[f"{Q}.module.bias"] = state.pop(f"{Q}.bias")
    assert f"{Q.removeprefix('backbone.')}.bias missing" in str(error_of(saved(state), base).value)


def test_half_precision_is_read_as_float32(released, saved, base, pixels):
    path = saved({name: value.half() for name, value in released.items()})
    imported = read_effort(path, base_config=base)
    with torch.inference_mode():
        logits = imported.model.logit(pixels)
    torch.testing.assert_close(imported.original(pixels), logits, rtol=0, atol=1e-5)


def test_a_residual_of_several_triples_is_merged_whole(released, saved, base, pixels):
    state = {}
    for name, value in released.items():
        axis = {"U_residual": 1, "S_residual": 0, "V_residual": 0}.get(name.rpartition(".")[2])
        state[name] = value if axis is None else torch.cat([value, 0.5 * value], dim=axis)
    imported = read_effort(saved(state), base_config=base)
    U, S, V = (state[f"{Q}.{leaf}_residual"].double() for leaf in "USV")
    expected = state[f"{Q}.weight_main"].double() + U @ torch.diag(S) @ V
    weight = imported.model.state_dict()[f"{Q}.weight"]
    torch.testing.assert_close(weight, expected.float(), rtol=0, atol=0)


def test_what_training_changed_is_there_for_an_adapter(base, released):
    imported = read_effort(FIXTURES / "B_released_layout_module_prefix.pth", base_config=base)
    layers = {name for name, _ in imported.model.backbone.named_modules()}
    for name, value in imported.trained.items():
        source = name.replace("head.linear.", "head.")
        assert torch.equal(value, released[source])
        if name.startswith("backbone."):
            assert name.removeprefix("backbone.").rpartition(".")[0] in layers
    assert len(imported.trained) == 2 * 4 * 3 + 2


def test_reading_leaves_the_random_generator_as_it_was(base):
    before = torch.get_rng_state()
    read_effort(RELEASED, base_config=base)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_logit_is_the_difference_of_the_two_outputs(base, pixels, released):
    imported = read_effort(RELEASED, base_config=base)
    with torch.inference_mode():
        pooled = imported.model.backbone(pixels).pooler_output
        outputs = F.linear(pooled, released["head.weight"], released["head.bias"])
        torch.testing.assert_close(
            imported.model.logit(pixels).sigmoid(), outputs.softmax(dim=1)[:, 1], rtol=0, atol=1e-6
        )


# Files that are something else, each with its own sentence.


def test_a_file_that_is_not_there_is_named(tmp_path, base):
    assert "there is no file" in str(error_of(tmp_path / "no.pth", base).value)


def test_a_folder_is_refused(tmp_path, base):
    assert "is a folder" in str(error_of(tmp_path, base).value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"just some words, nothing more", "is a text file"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
        (bytes(range(200, 255)) * 3, "of a kind that is not known"),
    ],
)
def test_a_file_that_holds_no_weights_is_told_by_what_it_is(content, sentence, tmp_path, base):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    caught = error_of(path, base)
    assert sentence in str(caught.value)
    assert caught.type is IncompatibleWeights


@pytest.mark.parametrize(
    "name", ["B_released_layout_module_prefix.pth", "B_released_layout.safetensors"]
)
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_truncated_file_is_damaged(name, share, tmp_path, base):
    whole = (FIXTURES / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[: int(len(whole) * share)])
    caught = error_of(path, base)
    assert "damaged or cut short" in str(caught.value)
    assert caught.type is CorruptWeights


def test_files_from_before_torch_wrote_archives_are_read(
    released, tmp_path, base, pixels, recorded
):
    path = tmp_path / "old.pth"
    torch.save(released, path, _use_new_zipfile_serialization=False)
    original = read_effort(path, base_config=base).original
    torch.testing.assert_close(original(pixels), recorded["B"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.99])
def test_a_truncated_old_file_is_damaged(share, released, tmp_path, base):
    path = tmp_path / "old.pth"
    torch.save(released, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    caught = error_of(path, base)
    assert "damaged or cut short" in str(caught.value)


def test_an_archive_of_other_files_is_damaged_as_weights(tmp_path, base):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("a")
    path = Path(shutil.make_archive(str(tmp_path / "weights"), "zip", tmp_path / "in"))
    assert "damaged" in str(error_of(path, base).value)


class Program:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_a_pickle_that_would_run_code_is_refused_and_not_run(saved, base, tmp_path, monkeypatch):
    # D22: the reference opens files without weights_only.
    monkeypatch.chdir(tmp_path)
    caught = error_of(saved({"backbone.a": Program()}), base)
    assert "mkdir to be called when it is opened" in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_whole_module_in_a_pickle_is_refused(saved, base):
    assert "torch.nn.modules.linear.Linear" in str(
        error_of(saved(torch.nn.Linear(2, 2)), base).value
    )


def test_a_pickle_of_something_else_is_refused(saved, base):
    assert "holds a list; tensors by name" in str(error_of(saved([1, 2]), base).value)


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({}, "holds no tensors"),
        ({"conv1.weight": torch.ones(1)}, "is no Effort file: its keys are conv1.weight"),
        ({"weight": torch.ones(1, 768), "bias": torch.ones(1)}, "unmask convert univfd"),
        ({"model": {}, "optimizer": {}, "total_steps": 3}, "UniversalFakeDetect"),
        ({"model.x": torch.ones(1), "fc.weight": torch.ones(1)}, "UniversalFakeDetect"),
        ({"feature_extractor.a": torch.ones(1)}, "unmask convert gend"),
        ({"backbone.a": torch.ones(1), "head.weight": torch.ones(1)}, "unmask convert hf"),
    ],
)
def test_another_kind_of_file_is_told_by_its_keys(state, sentence, saved, base):
    # D22: with strict=False a wholly wrong checkpoint changed nothing and printed success.
    caught = error_of(saved(state), base)
    assert sentence in str(caught.value)
    assert caught.type is IncompatibleWeights


def test_a_plain_clip_is_told(base):
    path = FIXTURES / "tiny_clip" / "model.safetensors"
    assert "is a plain CLIP" in str(error_of(path, base).value)


def test_a_merged_file_without_prefix_is_told(base, tmp_path):
    path = FIXTURES / "B_merged_clipvision_keys.safetensors"
    assert "no residuals" in str(error_of(path, base).value)


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("head.bias", "head.bias missing"),
        (f"{Q}.S_residual", "q_proj.S_residual missing"),
        (f"{Q}.weight_main", "q_proj.weight_main missing"),
        (f"{Q}.bias", "q_proj.bias missing"),
        ("backbone.post_layernorm.weight", "post_layernorm.weight missing"),
    ],
)
def test_a_missing_tensor_is_named(key, named, released, saved, base):
    del released[key]
    caught = error_of(saved(released), base)
    assert "not whole" in str(caught.value)
    assert named.removesuffix(" missing") in str(caught.value)


def test_a_layer_with_some_of_its_frozen_factors_is_not_whole(saved, base):
    state = load_file(FIXTURES / "A_full_layout.safetensors")
    del state[f"{Q}.S_r"]
    assert "q_proj.S_r missing" in str(error_of(saved(state), base).value)


def test_a_tensor_without_a_place_is_named(released, saved, base):
    state = released | {"backbone.extra.weight": torch.ones(1)}
    assert "extra.weight have no place" in str(error_of(saved(state), base).value)


def test_a_key_of_neither_tower_nor_head_is_named(released, saved, base):
    state = released | {"scheduler": torch.ones(1)}
    assert "scheduler belong to no Effort detector" in str(error_of(saved(state), base).value)


def test_a_value_that_is_no_tensor_is_named(released, saved, base):
    state = released | {"head.bias": 3}
    assert "head.bias is a int" in str(error_of(saved(state), base).value)


def test_a_head_of_another_shape_is_refused_with_both_shapes(released, saved, base):
    state = released | {"head.weight": torch.ones(1, 64)}
    assert "[1, 64]; [2, 64] was expected" in str(error_of(saved(state), base).value)


def test_a_residual_of_another_shape_is_refused(released, saved, base):
    state = released | {f"{Q}.V_residual": torch.ones(2, 64)}
    assert "V_residual has the shape [2, 64]; [1, 64]" in str(error_of(saved(state), base).value)


def test_an_empty_residual_is_refused(released, saved, base):
    # D12: a rank of the whole width leaves nothing to train.
    state = released | {
        f"{Q}.U_residual": torch.ones(64, 0),
        f"{Q}.S_residual": torch.ones(0),
        f"{Q}.V_residual": torch.ones(0, 64),
    }
    assert "is empty" in str(error_of(saved(state), base).value)


def test_a_layer_both_whole_and_split_is_refused(released, saved, base):
    state = released | {f"{Q}.weight": torch.ones(64, 64)}
    assert "both whole and split" in str(error_of(saved(state), base).value)


def test_keys_with_and_without_module_are_refused(released, saved, base):
    state = released | {"module.head.bias": torch.ones(2)}
    assert "both with and without 'module.'" in str(error_of(saved(state), base).value)


def test_values_that_are_not_finite_are_refused(released, saved, base):
    released[f"{Q}.S_residual"][0] = float("nan")
    caught = error_of(saved(released), base)
    assert "q_proj.S_residual holds values that are not finite" in str(caught.value)
    assert caught.type is CorruptWeights


def test_whole_numbers_are_refused(released, saved, base):
    state = released | {"head.bias": torch.ones(2, dtype=torch.int64)}
    assert "torch.int64; floating point" in str(error_of(saved(state), base).value)


def test_damaged_safetensors_are_damaged(tmp_path, base):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(4)}, path)
    path.write_bytes(path.read_bytes().replace(b"F32", b"F99"))
    assert "damaged" in str(error_of(path, base).value)


def test_a_report_puts_equal_layers_together():
    keys = [
        *(KeyFate(f"m.{n}.{part}", f"b.{n}.w", "merged") for n in range(3) for part in "xy"),
        KeyFate("h", "head.linear.bias"),
        *(KeyFate(f"m.{n}.ids", None, "old") for n in range(3)),
    ]
    assert key_report(keys) == [
        "b.*.w: 3 merged",
        "head.linear.bias: 1 mapped",
        "m.*.ids: 3 dropped (old)",
    ]


# What is no weight, or damaged without being cut short.


def test_a_wrong_checksum_is_damage(released, saved, base):
    path = saved(released)
    content = bytearray(path.read_bytes())
    content[content.find(released["head.weight"].numpy().tobytes()) + 3] ^= 0x40
    path.write_bytes(content)
    caught = error_of(path, base)
    assert "the checksum of file/data/" in str(caught.value)
    assert caught.type is CorruptWeights


@pytest.mark.parametrize("old", [False, True])
def test_bytes_changed_at_random_are_an_error_of_ours_or_harmless(old, tmp_path):
    state = {"weight": torch.ones(1, 8), "bias": torch.ones(1)}
    path = tmp_path / "file.pth"
    torch.save(state, path, _use_new_zipfile_serialization=not old)
    whole = path.read_bytes()
    generator = random.Random(0)
    refused = 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(generator.choice([1, 2, 5])):
            content[generator.randrange(min(len(content), 700))] = generator.randrange(256)
        path.write_bytes(content)
        try:
            read_tensor_file(path)
        except (CorruptWeights, IncompatibleWeights):
            refused += 1
    assert refused > 100


def test_torchs_warnings_of_a_pickle_are_not_shown(tmp_path, base):
    path = tmp_path / "file.pth"
    path.write_bytes(pickle.dumps({"weight": 1}, protocol=4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error_of(path, base)


def test_a_file_name_that_is_no_utf8_is_told(tmp_path, base):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/w\xff.pth"))
    shutil.copy(FIXTURES / "B_released_layout_wrapped.pth", path)
    with pytest.raises(ConfigError, match=r"w\\udcff\.pth is not valid UTF-8"):
        read_effort(path, base_config=base)


NO_WEIGHTS = {
    "whole numbers": (lambda value: value.to(torch.int8), "holds torch.int8; floating point"),
    "eight-bit floats": (lambda value: value.to(torch.float8_e4m3fn), "holds torch.float8_e4m3fn"),
    "complex numbers": (lambda value: value.to(torch.complex64), "holds torch.complex64"),
    "a sparse tensor": (lambda value: value.to_sparse(), "a dense tensor was expected"),
    "a tensor without values": (lambda value: value.to("meta"), "a shape but no values"),
}


@pytest.mark.parametrize("what", NO_WEIGHTS)
def test_a_tensor_that_is_no_weight_is_named(what, released, saved, base):
    change, sentence = NO_WEIGHTS[what]
    caught = error_of(saved({**released, f"{Q}.weight_main": change(torch.eye(64))}), base)
    assert f"{Q}.weight_main" in str(caught.value)
    assert sentence in str(caught.value)
    assert caught.type is IncompatibleWeights


def test_a_value_beyond_float32_is_named(released, saved, base):
    head = released["head.weight"].double() * 1e300
    assert "head.weight holds values beyond the range of float32" in str(
        error_of(saved({**released, "head.weight": head}), base).value
    )


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_key_that_is_no_name_is_refused(wrapped, released, saved, base):
    state = {**released, 1: torch.zeros(1)}
    caught = error_of(saved({"state_dict": state} if wrapped else state), base)
    assert "the key 1 is a int; tensors by name were expected" in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_tensors_beside_a_state_dict_of_the_same_names_are_unclear(prefix, released, saved, base):
    beside = {prefix + key: -value for key, value in released.items()}
    caught = error_of(saved({"state_dict": released, **beside}), base)
    assert "both under state_dict and beside it" in str(caught.value)
    assert " more" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_long_list_of_what_is_not_read_is_shortened(released, saved, base):
    beside = {f"setting {number:02}": number for number in range(40)}
    notes = read_effort(saved({"state_dict": released, **beside}), base_config=base).notes
    assert "setting 07 and 32 more, which is not read" in notes[0]


def test_a_split_vector_is_refused(released, saved, base):
    layer = "backbone.encoder.layers.1.layer_norm1"
    state = {key: value for key, value in released.items() if key != f"{layer}.weight"}
    state[f"{layer}.weight_main"] = released[f"{layer}.weight"]
    state |= {f"{layer}.{leaf}_residual": torch.ones(1) for leaf in "USV"}
    assert "only the matrix of a linear layer" in str(error_of(saved(state), base).value)


@pytest.fixture
def full():
    return load_file(FIXTURES / "A_full_layout.safetensors")


FACTORS = {
    "of another shape": (lambda value: value[:-1].clone(), "has the shape"),
    "not finite": (lambda value: value * float("nan"), "not finite"),
    "of another product": (lambda value: value * 1.01, "is not its weight_main"),
}


@pytest.mark.parametrize("leaf", ["U_r", "S_r", "V_r"])
@pytest.mark.parametrize("what", FACTORS)
def test_frozen_factors_that_are_dropped_must_say_what_weight_main_says(
    what, leaf, full, saved, base
):
    change, sentence = FACTORS[what]
    caught = error_of(saved({**full, f"{Q}.{leaf}": change(full[f"{Q}.{leaf}"])}), base)
    assert sentence in str(caught.value)
    assert "encoder.layers.1.self_attn.q_proj" in str(caught.value)
