import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPModel,
    CLIPVisionConfig,
    MobileNetV2Config,
    ResNetConfig,
    Siglip2VisionConfig,
)

from tiny_classifiers import CLASSIFIERS
from tiny_towers import CLIP, CLIP_VISION, PREFIX, TOWERS
from unmask.errors import ConfigError, CorruptWeights, IncompatibleWeights
from unmask.models.backbone import (
    blocks,
    build_backbone,
    extract,
    feature_width,
    load_backbone,
    parse_features,
    prefix_tokens,
    truncate,
    vision_config,
)
from unmask.models.features import Feature
from unmask.models.weights import weights_sha256

FIXTURES = Path(__file__).parent / "fixtures" / "effort"
OPENAI = {
    # name: hidden, layers, heads, mlp, patch, image size
    "clip-vit-base-patch32": (768, 12, 12, 3072, 32, 224),
    "clip-vit-base-patch16": (768, 12, 12, 3072, 16, 224),
    "clip-vit-large-patch14": (1024, 24, 16, 4096, 14, 224),
    "clip-vit-large-patch14-336": (1024, 24, 16, 4096, 14, 336),
}


def openai_config(name):
    hidden, layers, heads, mlp, patch, size = OPENAI[name]
    return CLIPVisionConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=mlp,
        patch_size=patch,
        image_size=size,
        projection_dim=512 if hidden == 768 else 768,
    )


def parameters_of(name):
    """By arithmetic, from the architecture."""
    d, layers, _, mlp, patch, size = OPENAI[name]
    embedding = d + 3 * patch**2 * d + ((size // patch) ** 2 + 1) * d
    block = 4 * (d * d + d) + 2 * (2 * d) + (d * mlp + mlp) + (mlp * d + d)
    return embedding + 2 * d + layers * block + 2 * d


@pytest.fixture(params=list(TOWERS))
def family(request):
    return request.param


@pytest.fixture
def clip_folder(tmp_path):
    torch.manual_seed(0)
    CLIPModel(CLIP).save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def pixels(size=32, count=2):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", OPENAI)
def test_the_documented_clip_models_have_their_true_dimensions(name):
    config = openai_config(name)
    size = config.image_size
    # The smallest computes; of the others the shapes are followed, which costs nothing.
    device = "cpu" if config.patch_size == 32 else "meta"
    with torch.device(device):
        tower = build_backbone(config, ("pooler",))
    with torch.inference_mode():
        feature = extract(tower, torch.zeros(1, 3, size, size, device=device), ("pooler",))
    assert feature.shape == (1, config.hidden_size)
    assert feature_width(config, ("pooler",)) == config.hidden_size
    assert sum(one.numel() for one in tower.parameters()) == parameters_of(name)


def test_clip_large_has_the_published_number_of_parameters():
    assert parameters_of("clip-vit-large-patch14") == 303_179_776


def test_a_clip_folder_gives_its_vision_tower_and_no_text(clip_folder):
    tower = load_backbone(clip_folder, ("pooler",))
    assert not any("text" in name for name, _ in tower.named_modules())
    whole = sum(one.numel() for one in load_file(clip_folder / "model.safetensors").values())
    assert sum(one.numel() for one in tower.parameters()) < whole
    assert type(tower).__name__ == "CLIPVisionModel"


def test_the_loaded_tower_gives_what_the_whole_clip_gives(clip_folder):
    clip = CLIPModel.from_pretrained(clip_folder).eval()
    with torch.inference_mode():
        whole = clip.vision_model(pixels())
        projected = clip.visual_projection(whole.pooler_output)
        pooler = extract(load_backbone(clip_folder, ("pooler",)), pixels(), ("pooler",))
        projection = extract(load_backbone(clip_folder, ("projection",)), pixels(), ("projection",))
    torch.testing.assert_close(pooler, whole.pooler_output)
    torch.testing.assert_close(projection, projected)
    assert projection.shape == (2, 24) == (2, feature_width(CLIP, ("projection",)))


def test_the_recorded_features_of_the_tiny_clip_are_met():
    inputs = torch.from_numpy(np.load(FIXTURES / "inputs.npz")["pixel_values"])
    arrays = np.load(FIXTURES / "arrays.npz")
    for feature, name in (
        ("pooler", "plain_pooler_f32"),
        ("projection", "visual_projection_of_pooler"),
    ):
        tower = load_backbone(FIXTURES / "tiny_clip", (feature,))
        with torch.inference_mode():
            ours = extract(tower, inputs, (feature,))
        np.testing.assert_allclose(ours.numpy(), arrays[name], atol=1e-5)


def test_every_family_saves_and_loads_its_tower(family, tmp_path):
    tower = build_backbone(TOWERS[family], ("mean", "mean@1"))
    tower.save_pretrained(tmp_path)
    loaded = load_backbone(tmp_path, ("mean", "mean@1"))
    with torch.inference_mode():
        expected = extract(tower, pixels(), ("mean", "mean@1"))
        ours = extract(loaded, pixels(), ("mean", "mean@1"))
    torch.testing.assert_close(ours, expected)
    assert ours.shape == (2, feature_width(TOWERS[family], ("mean", "mean@1")))


def test_the_mean_leaves_cls_and_registers_out(family):
    tower = build_backbone(TOWERS[family], ("mean",))
    with torch.inference_mode():
        tokens = tower(pixels()).last_hidden_state
        ours = extract(tower, pixels(), ("mean",))
    assert tokens.shape[1] == 16 + PREFIX[family]
    torch.testing.assert_close(ours, tokens[:, PREFIX[family] :].mean(dim=1))


def test_a_block_gives_its_own_output_before_the_final_norm(family):
    tower = build_backbone(TOWERS[family], ("mean@2", "mean@3", "mean"))
    seen = {}
    for number, block in enumerate(blocks(tower), start=1):
        block.register_forward_hook(lambda _m, _i, output, n=number: seen.update({n: output}))
    with torch.inference_mode():
        ours = extract(tower, pixels(), ("mean@2", "mean@3", "mean"))
    prefix = PREFIX[family]
    for part, number in ((ours[:, :32], 2), (ours[:, 32:64], 3)):
        tokens = seen[number][0] if isinstance(seen[number], tuple) else seen[number]
        torch.testing.assert_close(part, tokens[:, prefix:].mean(dim=1))
    # CLIP's own output is not normed either; everywhere else the norm makes the difference.
    assert torch.allclose(ours[:, 32:64], ours[:, 64:]) == (family == "clip")


def test_a_block_is_what_transformers_calls_its_hidden_state(family):
    tower = build_backbone(TOWERS[family], ("mean@1", "mean"))
    with torch.inference_mode():
        ours = extract(tower, pixels(), ("mean@1",))
        states = tower(pixels(), output_hidden_states=True).hidden_states
    torch.testing.assert_close(ours, states[1][:, PREFIX[family] :].mean(dim=1))


@pytest.mark.parametrize("family", ["clip", "dinov2", "registers", "dinov3", "vit"])
def test_cls_is_the_first_token(family):
    tower = build_backbone(TOWERS[family], ("cls", "cls@1"))
    with torch.inference_mode():
        output = tower(pixels()).last_hidden_state
        ours = extract(tower, pixels(), ("cls@1", "cls"))
    torch.testing.assert_close(ours[:, 32:], output[:, 0])


def test_the_pooler_is_the_models_own(family):
    tower = build_backbone(TOWERS[family], ("pooler",))
    with torch.inference_mode():
        torch.testing.assert_close(
            extract(tower, pixels(), ("pooler",)), tower(pixels()).pooler_output
        )


def test_blocks_after_the_last_one_asked_for_are_not_built(family, tmp_path):
    whole = build_backbone(TOWERS[family], ("pooler", "mean@2"))
    whole.save_pretrained(tmp_path)
    short = load_backbone(tmp_path, ("mean@2",))
    assert len(blocks(short)) == short.config.num_hidden_layers == 2
    with torch.inference_mode():
        torch.testing.assert_close(
            extract(short, pixels(), ("mean@2",)), extract(whole, pixels(), ("mean@2",))
        )
    assert sum(p.numel() for p in short.parameters()) < sum(p.numel() for p in whole.parameters())


def test_truncating_in_place_keeps_the_feature(family):
    tower = build_backbone(TOWERS[family], ("mean@2", "mean"))
    with torch.inference_mode():
        before = extract(tower, pixels(), ("mean@2",))
        truncate(tower, 2)
        after = extract(tower, pixels(), ("mean@2",))
    torch.testing.assert_close(before, after)
    assert tower.config.num_hidden_layers == 2


def test_another_input_size_interpolates_the_positions(family):
    tower = build_backbone(TOWERS[family], ("mean",))
    with torch.inference_mode():
        assert extract(tower, pixels(48), ("mean",)).shape == (2, 32)


def test_half_precision_gives_float32_features(family):
    tower = build_backbone(TOWERS[family], ("mean",)).to(torch.bfloat16)
    with torch.inference_mode():
        assert extract(tower, pixels(), ("mean",)).dtype == torch.float32


def test_no_hook_stays_behind(family):
    tower = build_backbone(TOWERS[family], ("mean@1", "mean"))
    with torch.inference_mode():
        extract(tower, pixels(), ("mean@1",))
    assert not any(block._forward_hooks for block in blocks(tower))


def test_the_pooling_head_of_vit_is_built_only_for_the_pooler(tmp_path):
    build_backbone(TOWERS["vit"], ("pooler",)).save_pretrained(tmp_path)
    assert load_backbone(tmp_path, ("pooler",)).pooler is not None
    assert load_backbone(tmp_path, ("cls",)).pooler is None


def test_the_pooling_head_of_siglip_is_built_only_for_the_pooler(tmp_path):
    build_backbone(TOWERS["siglip"], ("pooler",)).save_pretrained(tmp_path)
    assert hasattr(load_backbone(tmp_path, ("pooler",)), "head")
    assert not hasattr(load_backbone(tmp_path, ("mean",)), "head")


def test_a_tower_of_another_kind_gives_its_pooler_if_the_width_is_known():
    with pytest.raises(IncompatibleWeights, match="no hidden_size"):
        feature_width(MobileNetV2Config(), ("pooler",))


@pytest.mark.parametrize("family", ["resnet", "regnet", "bit", "convnext", "efficientnet", "swin"])
def test_a_convolutional_tower_gives_its_pooler_as_a_vector(family, tmp_path):
    config = CLASSIFIERS[family][1]
    tower = build_backbone(config, ("pooler",))
    tower.save_pretrained(tmp_path)
    with torch.inference_mode():
        pooled = extract(tower, pixels(), ("pooler",))
        torch.testing.assert_close(pooled, tower(pixels()).pooler_output.flatten(1))
        again = extract(load_backbone(tmp_path, ("pooler",)), pixels(), ("pooler",))
    torch.testing.assert_close(again, pooled)
    assert pooled.shape == (2, feature_width(config, ("pooler",)))


@pytest.mark.parametrize(
    ("family", "prefix"),
    [("deit", 2), ("beit", 1), ("data2vec", 1), ("vit_msn", 1), ("ijepa", 0), ("metaclip2", 1)],
)
def test_the_mean_of_other_transformers_leaves_what_is_no_patch_out(family, prefix):
    tower = build_backbone(CLASSIFIERS[family][1], ("mean",))
    with torch.inference_mode():
        tokens = tower(pixels()).last_hidden_state
        ours = extract(tower, pixels(), ("mean",))
    assert tokens.shape[1] == 16 + prefix == 16 + prefix_tokens(tower.config)
    torch.testing.assert_close(ours, tokens[:, prefix:].mean(dim=1))


@pytest.mark.parametrize("family", ["deit", "beit", "data2vec", "vit_msn", "ijepa", "metaclip2"])
def test_other_transformers_take_another_input_size(family):
    tower = build_backbone(CLASSIFIERS[family][1], ("mean",))
    with torch.inference_mode():
        assert extract(tower, pixels(48), ("mean",)).shape == (2, 32)


@pytest.mark.parametrize("family", ["deit", "beit", "data2vec", "ijepa"])
def test_the_pooler_of_other_transformers_is_built_only_on_demand(family):
    config = CLASSIFIERS[family][1]
    assert build_backbone(config, ("pooler",)).pooler is not None
    assert build_backbone(config, ("mean",)).pooler is None


def test_another_transformer_gives_its_pooler(tmp_path):
    from transformers import DeiTConfig

    config = DeiTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
    )
    tower = build_backbone(config, ("pooler",))
    tower.save_pretrained(tmp_path)
    with torch.inference_mode():
        assert extract(load_backbone(tmp_path, ("pooler",)), pixels(), ("pooler",)).shape == (2, 32)


@pytest.mark.parametrize(
    ("family", "feature", "word"),
    [
        ("siglip", "cls", "no CLS token"),
        ("siglip", "cls@1", "no CLS token"),
        ("dinov2", "projection", "belongs to CLIP"),
        ("clip", "mean@4", "has 3"),
    ],
)
def test_a_feature_that_the_tower_lacks_is_refused(family, feature, word):
    with pytest.raises(IncompatibleWeights, match=word):
        build_backbone(TOWERS[family], (feature,))


def test_the_tokens_of_an_unknown_tower_are_not_guessed():
    with pytest.raises(IncompatibleWeights, match="layout of the tokens"):
        feature_width(ResNetConfig(), ("mean",))


def test_projection_and_pooler_are_not_joined():
    with pytest.raises(IncompatibleWeights, match="cannot be joined"):
        build_backbone(CLIP, ("projection", "pooler"))


def test_the_pooler_of_a_tower_built_for_projection_is_refused():
    tower = build_backbone(CLIP, ("projection",))
    with pytest.raises(IncompatibleWeights, match="hides its pooler"):
        extract(tower, pixels(), ("pooler",))


def test_the_pooler_of_a_tower_without_one_is_refused():
    tower = build_backbone(TOWERS["vit"], ("mean",))
    with pytest.raises(IncompatibleWeights, match="no pooled feature"):
        extract(tower, pixels(), ("pooler",))


@pytest.mark.parametrize(
    "features", [("poller",), ("mean@0",), ("pooler@3",), ("mean@x",), (), "cls"]
)
def test_a_feature_that_is_not_understood_is_refused(features):
    with pytest.raises(ConfigError, match="feature"):
        parse_features(features)


def test_features_are_parsed():
    assert parse_features(["cls", "mean@12"]) == (Feature("cls"), Feature("mean", 12))


def test_truncating_beyond_the_end_is_refused():
    with pytest.raises(ConfigError, match="tower of 3 blocks"):
        truncate(build_backbone(CLIP_VISION, ("pooler",)), 4)


def test_the_naflex_siglip_is_refused():
    with pytest.raises(IncompatibleWeights, match="NaFlex"):
        vision_config(Siglip2VisionConfig())


def test_a_module_without_blocks_is_refused():
    tower = build_backbone(CLIP_VISION, ("pooler",))
    tower.config.num_hidden_layers = 7
    with pytest.raises(IncompatibleWeights, match="no list of 7 blocks"):
        blocks(tower)


def edit_weights(folder, change):
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def test_missing_weights_are_listed(clip_folder):
    edit_weights(clip_folder, lambda w: w.pop("vision_model.post_layernorm.bias"))
    with pytest.raises(IncompatibleWeights, match=r"are missing: .*post_layernorm\.bias"):
        load_backbone(clip_folder, ("pooler",))


def test_left_over_weights_are_listed(clip_folder):
    edit_weights(clip_folder, lambda w: w.update({"vision_model.adapter": torch.zeros(2)}))
    with pytest.raises(IncompatibleWeights, match=r"are left over: .*adapter"):
        load_backbone(clip_folder, ("pooler",))


def test_the_position_ids_of_old_files_are_tolerated(clip_folder):
    ids = torch.arange(17)[None]
    edit_weights(clip_folder, lambda w: w.update({"vision_model.embeddings.position_ids": ids}))
    load_backbone(clip_folder, ("pooler",))


def test_weights_of_another_shape_are_refused(clip_folder):
    edit_weights(
        clip_folder, lambda w: w.update({"vision_model.post_layernorm.bias": torch.zeros(5)})
    )
    with pytest.raises(IncompatibleWeights, match=r"post_layernorm\.bias|shape"):
        load_backbone(clip_folder, ("pooler",))


def test_weights_that_are_not_finite_are_refused(clip_folder):
    nan = torch.full((32,), float("nan"))
    edit_weights(clip_folder, lambda w: w.update({"vision_model.post_layernorm.bias": nan}))
    with pytest.raises(CorruptWeights, match="not finite"):
        load_backbone(clip_folder, ("pooler",))


@pytest.mark.parametrize("length", [0, 5, 300, -1])
def test_a_file_that_was_cut_short_is_refused(clip_folder, length):
    path = clip_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CorruptWeights, match="damaged or cut short"):
        load_backbone(clip_folder, ("pooler",))


def test_a_bin_file_is_read_and_a_damaged_one_refused(clip_folder):
    weights = load_file(clip_folder / "model.safetensors")
    (clip_folder / "model.safetensors").unlink()
    path = clip_folder / "pytorch_model.bin"
    torch.save(weights, path)
    load_backbone(clip_folder, ("pooler",))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CorruptWeights, match="damaged or cut short"):
        load_backbone(clip_folder, ("pooler",))


def test_a_bin_file_that_runs_code_is_refused(clip_folder):
    (clip_folder / "model.safetensors").unlink()
    torch.save({"a": shutil.rmtree}, clip_folder / "pytorch_model.bin")
    with pytest.raises(CorruptWeights):
        load_backbone(clip_folder, ("pooler",))


def test_a_folder_without_weights_is_refused(clip_folder):
    (clip_folder / "model.safetensors").unlink()
    with pytest.raises(IncompatibleWeights, match="holds no weights"):
        load_backbone(clip_folder, ("pooler",))


def test_shards_are_read_and_a_missing_one_is_named(clip_folder):
    CLIPModel.from_pretrained(clip_folder).save_pretrained(clip_folder / "s", max_shard_size="40KB")
    load_backbone(clip_folder / "s", ("pooler",))
    assert len(weights_sha256(clip_folder / "s")) == 64
    shard = sorted((clip_folder / "s").glob("model-*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(CorruptWeights, match=shard.name):
        load_backbone(clip_folder / "s", ("pooler",))


def test_a_damaged_index_is_refused(clip_folder):
    (clip_folder / "model.safetensors").unlink()
    (clip_folder / "model.safetensors.index.json").write_text("{")
    with pytest.raises(CorruptWeights, match=r"index\.json is damaged"):
        load_backbone(clip_folder, ("pooler",))


@pytest.mark.parametrize(
    ("text", "word"),
    [("{", "not JSON"), ("[]", "no model_type"), ('{"model_type": "nonsense"}', "nonsense")],
)
def test_a_config_that_is_not_understood_is_refused(clip_folder, text, word):
    (clip_folder / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=word):
        load_backbone(clip_folder, ("pooler",))


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        load_backbone(tmp_path, ("pooler",))


def test_half_precision_files_load_as_float32(clip_folder):
    config = json.loads((clip_folder / "config.json").read_text())
    (clip_folder / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    edit_weights(clip_folder, lambda w: w.update({k: v.half() for k, v in w.items()}))
    tower = load_backbone(clip_folder, ("pooler",))
    assert {one.dtype for one in tower.parameters()} == {torch.float32}
