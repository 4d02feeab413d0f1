"""Configurations of very small towers, one per family, and of a whole CLIP with its text half."""

from __future__ import annotations

from transformers import (
    CLIPConfig,
    CLIPTextConfig,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DINOv3ViTConfig,
    PreTrainedConfig,
    SiglipVisionConfig,
    ViTConfig,
)

_SIZE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}

CLIP_VISION = CLIPVisionConfig(
    **_SIZE, intermediate_size=48, image_size=32, patch_size=8, projection_dim=24
)
CLIP = CLIPConfig(
    vision_config=CLIP_VISION.to_dict(),
    text_config=CLIPTextConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=50,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    ).to_dict(),
    projection_dim=24,
)
TOWERS: dict[str, PreTrainedConfig] = {
    "clip": CLIP_VISION,
    "siglip": SiglipVisionConfig(**_SIZE, intermediate_size=48, image_size=32, patch_size=8),
    "dinov2": Dinov2Config(**_SIZE, image_size=32, patch_size=8, mlp_ratio=2),
    "registers": Dinov2WithRegistersConfig(
        **_SIZE, image_size=32, patch_size=8, mlp_ratio=2, num_register_tokens=3
    ),
    "dinov3": DINOv3ViTConfig(
        **_SIZE, intermediate_size=48, image_size=32, patch_size=8, num_register_tokens=4
    ),
    "vit": ViTConfig(**_SIZE, intermediate_size=48, image_size=32, patch_size=8),
}
PREFIX = {"clip": 1, "siglip": 0, "dinov2": 1, "registers": 4, "dinov3": 5, "vit": 1}
