import pytest
import torch
from transformers import CLIPConfig, CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig

from tiny_towers import CLIP, CLIP_VISION
from unmask.errors import IncompatibleWeights
from unmask.models.published.clip_geometry import clip_config, clip_name

OPENAI = {
    "ViT-B/32": (768, 12, 3072, 32, 224, 12, 512),
    "ViT-B/16": (768, 12, 3072, 16, 224, 12, 512),
    "ViT-L/14": (1024, 24, 4096, 14, 224, 16, 768),
    "ViT-L/14@336px": (1024, 24, 4096, 14, 336, 16, 768),
}


def shapes_of(config: CLIPVisionConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        tower = CLIPVisionModel(config)
    return {
        key.removeprefix("vision_model."): value.shape for key, value in tower.state_dict().items()
    }


def of(width: int, layers: int, mlp: int, patch: int, image: int) -> dict[str, torch.Size]:
    return shapes_of(
        CLIPVisionConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            intermediate_size=mlp,
            patch_size=patch,
            image_size=image,
        )
    )


@pytest.mark.parametrize("name", OPENAI)
def test_the_geometry_of_openais_models_is_known_from_the_shapes_alone(name):
    width, layers, mlp, patch, image, heads, projection = OPENAI[name]
    config = clip_config(of(width, layers, mlp, patch, image))
    assert isinstance(config, CLIPVisionConfig)
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (
        width,
        layers,
        mlp,
    )
    assert (config.patch_size, config.image_size, config.num_channels) == (patch, image, 3)
    assert (config.num_attention_heads, config.hidden_act) == (heads, "quick_gelu")
    assert config.projection_dim == projection
    assert clip_name(config) == name


def test_an_unknown_geometry_is_an_error_that_asks_for_a_base():
    with pytest.raises(IncompatibleWeights, match=r"32 wide with 3 blocks .*--base"):
        clip_config(shapes_of(CLIP_VISION))


@pytest.mark.parametrize("base", [CLIP_VISION, CLIP], ids=["vision half", "whole"])
def test_a_base_says_what_the_shapes_cannot(base):
    config = clip_config(shapes_of(CLIP_VISION), base_config=base)
    assert (config.num_attention_heads, config.hidden_act) == (2, "quick_gelu")
    assert config.model_type == "clip_vision_model"
    assert clip_name(config) is None


def test_a_base_wins_over_the_table_so_that_other_activations_are_possible():
    large = CLIPVisionConfig(
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        patch_size=32,
        hidden_act="gelu",
    )
    assert clip_config(shapes_of(large), base_config=large).hidden_act == "gelu"


def test_the_configuration_of_the_base_is_not_shared():
    config = clip_config(shapes_of(CLIP_VISION), base_config=CLIP_VISION)
    config.hidden_act = "gelu"
    assert CLIP_VISION.hidden_act == "quick_gelu"


def test_a_base_of_another_geometry_is_refused_with_both_numbers():
    other = CLIPConfig(vision_config=CLIP_VISION.to_dict() | {"num_hidden_layers": 5})
    with pytest.raises(
        IncompatibleWeights, match="num_hidden_layers 3 in the weights, 5 in the base"
    ):
        clip_config(shapes_of(CLIP_VISION), base_config=other)


def test_a_base_of_another_family_is_refused():
    with pytest.raises(IncompatibleWeights, match="'siglip_vision_model' model"):
        clip_config(shapes_of(CLIP_VISION), base_config=SiglipVisionConfig())


@pytest.mark.parametrize(
    "key",
    [
        "embeddings.class_embedding",
        "embeddings.patch_embedding.weight",
        "embeddings.position_embedding.weight",
        "encoder.layers.0.mlp.fc1.weight",
    ],
)
def test_a_tensor_that_the_geometry_needs_is_named_where_it_is_missing(key):
    shapes = shapes_of(CLIP_VISION)
    del shapes[key]
    with pytest.raises(IncompatibleWeights, match=f"{key} is missing"):
        clip_config(shapes, base_config=CLIP_VISION)


def test_a_tensor_of_the_wrong_dimensions_is_refused():
    shapes = shapes_of(CLIP_VISION) | {"embeddings.class_embedding": torch.Size([32, 1])}
    with pytest.raises(IncompatibleWeights, match=r"has the shape \[32, 1\]; 1 positive"):
        clip_config(shapes)


def test_a_grid_that_is_not_square_is_refused():
    shapes = shapes_of(CLIP_VISION) | {"embeddings.position_embedding.weight": torch.Size([13, 32])}
    with pytest.raises(IncompatibleWeights, match="13 positions"):
        clip_config(shapes)
