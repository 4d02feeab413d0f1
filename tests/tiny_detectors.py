"""Tiny detectors whose heads say that they are trained, and pictures without faces."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage
from transformers import CLIPVisionModel, PreTrainedModel

from tiny_towers import CLIP_VISION
from unmask.models.checkpoint import save
from unmask.models.configuration import (
    DetectorSpec,
    HeadSpec,
    WholePictures,
    backbone_config_of,
)
from unmask.models.heads import Head, new_head
from unmask.models.modeling import UnmaskForImageClassification, assemble
from unmask.preprocess import Preprocess
from unmask.types import FaceSpec, Image, OperatingPoint, Sample

SIDE = 32
POINTS = (
    OperatingPoint("fpr5", fake_at=0.6, real_below=0.4, source="made up", target_fpr=0.05),
    OperatingPoint("fpr1", fake_at=0.9, real_below=0.1, source="made up", target_fpr=0.01),
)
WHOLE = WholePictures(
    0.6,
    (
        OperatingPoint("fpr5", fake_at=0.7, real_below=0.2, source="made up portraits"),
        OperatingPoint("fpr2", fake_at=0.8, real_below=0.1, source="made up portraits"),
    ),
)
"""Of a detector of faces that learnt from whole pictures too. ``fpr5`` is a point of both."""


def tiny_tower(seed: int = 0) -> CLIPVisionModel:
    """A CLIP vision tower of 32 pixels with random weights, large enough to tell pictures apart."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tower = CLIPVisionModel(copy.deepcopy(CLIP_VISION))
        for parameter in tower.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return tower.eval()


def published(model: PreTrainedModel, folder: Path) -> Path:
    """A folder as the Hub has it: weights, configuration, and CLIP's processor for 32 pixels."""
    model.save_pretrained(folder)
    processor = Preprocess.openai_clip(SIDE).to_processor_config()
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return folder


def save_detector(
    folder: Path, *, domain: str, trained: bool = True, whole_pictures: WholePictures | None = None
) -> Path:
    tower = tiny_tower()
    features = ("pooler", "mean@1")
    head = new_head(64, 1, seed=1)
    with torch.no_grad():
        head.linear.weight *= 4
    spec = DetectorSpec(
        backbone_config=backbone_config_of(tower.config),
        features=features,
        head=HeadSpec(outputs=1, trained=trained),
        preprocess=Preprocess(SIDE, SIDE, "squash", "bilinear"),
        domain="face" if domain == "face" else "image",
        face=FaceSpec(size=SIDE) if domain == "face" else None,
        temperature=1.7,
        operating_points=POINTS,
        whole_pictures=whole_pictures,
    )
    return save(_centred(tower, head, spec), folder, card="# Tiny\n", weights_dtype="float32")


def _centred(
    tower: CLIPVisionModel, head: Head, spec: DetectorSpec
) -> UnmaskForImageClassification:
    """The model with the logits of noise pictures around 0, so that verdicts differ."""
    model = assemble(tower, head, spec)
    noise = np.stack([noise_image(seed, (SIDE, SIDE)) for seed in range(8)])
    with torch.no_grad():
        head.linear.bias -= model.logit(torch.from_numpy(spec.preprocess.normalize(noise))).mean()
    return model


def noise_image(seed: int, size: tuple[int, int] = (48, 56)) -> Image:
    """A picture of coloured blocks without a face, ``(H, W, 3)``."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return np.asarray(
        PillowImage.fromarray(blocks).resize(size[::-1], PillowImage.Resampling.BICUBIC)
    )


def write_picture(path: Path, image: Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(image).save(path)
    return path


def write_pictures(folder: Path, names: Iterable[str], *, first_seed: int = 0) -> Path:
    """One picture without a face per name, each another one."""
    for seed, name in enumerate(names, start=first_seed):
        write_picture(folder / name, noise_image(seed))
    return folder


def sample(path: Path, **known: object) -> Sample:
    return replace(Sample(source=str(path), path=path), **known)  # type: ignore[arg-type]
