"""Configurations of very small image classifiers, one per family that transformers has."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path

import torch
import transformers
from transformers import (
    BeitConfig,
    BitConfig,
    CLIPConfig,
    ConvNextConfig,
    ConvNextV2Config,
    Data2VecVisionConfig,
    DeiTConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    EfficientNetConfig,
    HieraConfig,
    IJepaConfig,
    MetaClip2Config,
    PreTrainedConfig,
    RegNetConfig,
    ResNetConfig,
    SiglipConfig,
    SwinConfig,
    Swinv2Config,
    ViTConfig,
    ViTMSNConfig,
)

from tiny_towers import CLIP, CLIP_VISION, TOWERS

SIDE = 32
_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": SIDE,
    "patch_size": 8,
}
_DINO = {key: value for key, value in _VIT.items() if key != "intermediate_size"}
_SWIN = {
    "image_size": SIDE,
    "patch_size": 4,
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
}
_STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}

CLASSIFIERS: dict[str, tuple[str, PreTrainedConfig]] = {
    "vit": ("ViTForImageClassification", ViTConfig(**_VIT)),
    "deit": ("DeiTForImageClassification", DeiTConfig(**_VIT)),
    "dinov2": ("Dinov2ForImageClassification", Dinov2Config(**_DINO, mlp_ratio=2)),
    "registers": (
        "Dinov2WithRegistersForImageClassification",
        Dinov2WithRegistersConfig(**_DINO, mlp_ratio=2, num_register_tokens=3),
    ),
    "siglip": (
        "SiglipForImageClassification",
        SiglipConfig(
            vision_config=TOWERS["siglip"].to_dict(),
            text_config={"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 8},
        ),
    ),
    "clip": ("CLIPForImageClassification", CLIPConfig(**CLIP.to_dict())),
    "metaclip2": (
        "MetaClip2ForImageClassification",
        MetaClip2Config(
            vision_config={**CLIP_VISION.to_dict(), "model_type": "metaclip_2_vision_model"},
            text_config={**CLIP.text_config.to_dict(), "model_type": "metaclip_2_text_model"},
            projection_dim=24,
        ),
    ),
    "beit": ("BeitForImageClassification", BeitConfig(**_VIT)),
    "data2vec": ("Data2VecVisionForImageClassification", Data2VecVisionConfig(**_VIT)),
    "vit_msn": ("ViTMSNForImageClassification", ViTMSNConfig(**_VIT)),
    "ijepa": ("IJepaForImageClassification", IJepaConfig(**_VIT)),
    "swin": ("SwinForImageClassification", SwinConfig(**_SWIN)),
    "swinv2": ("Swinv2ForImageClassification", Swinv2Config(**_SWIN)),
    "convnext": ("ConvNextForImageClassification", ConvNextConfig(**_STAGES, num_stages=2)),
    "convnextv2": ("ConvNextV2ForImageClassification", ConvNextV2Config(**_STAGES, num_stages=2)),
    "resnet": ("ResNetForImageClassification", ResNetConfig(**_STAGES, embedding_size=8)),
    "regnet": (
        "RegNetForImageClassification",
        RegNetConfig(**_STAGES, embedding_size=8, groups_width=4),
    ),
    "bit": ("BitForImageClassification", BitConfig(**_STAGES, embedding_size=8, num_groups=2)),
    "efficientnet": (
        "EfficientNetForImageClassification",
        EfficientNetConfig(
            image_size=SIDE,
            kernel_sizes=[3],
            in_channels=[32],
            out_channels=[16],
            depthwise_padding=[],
            strides=[1],
            num_block_repeats=[1],
            expand_ratios=[1],
            hidden_dim=1280,
            width_coefficient=1.0,
            depth_coefficient=1.0,
        ),
    ),
    "hiera": (
        "HieraForImageClassification",
        HieraConfig(
            image_size=[SIDE, SIDE], embed_dim=8, depths=[1, 1], num_heads=[1, 2], num_query_pool=1
        ),
    ),
}
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": SIDE, "width": SIDE},
    "resample": 2,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.25, 0.5, 0.5],
}


def config_of(family: str, labels: Mapping[int, str]) -> PreTrainedConfig:
    """A copy of the family's configuration with these labels."""
    config = copy.deepcopy(CLASSIFIERS[family][1])
    config.id2label = dict(labels)
    config.label2id = {name: number for number, name in labels.items()}
    return config


def save_classifier(
    folder: Path, family: str = "vit", labels: tuple[str, ...] = ("real", "fake"), *, seed: int = 0
) -> Path:
    """A folder as its publisher would save it, with random weights that make a difference."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = config_of(family, dict(enumerate(labels)))
        model = getattr(transformers, CLASSIFIERS[family][0])(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        for name, value in model.named_buffers():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            if name.endswith("running_mean"):
                value.normal_(std=0.1)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


def edit_config(folder: Path, **changes: object) -> None:
    """Change fields of the folder's ``config.json``; None removes one."""
    path = folder / "config.json"
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: v for key, v in values.items() if v is not None}))
