"""Tiny detectors on towers saved as folders, and a few steps of training by any recipe."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from tiny_towers import TOWERS
from unmask.models.adapter import save_adapter
from unmask.models.backbone import build_backbone, feature_width, load_backbone
from unmask.models.checkpoint import save
from unmask.models.configuration import (
    BackboneSource,
    DetectorSpec,
    HeadSpec,
    Tuning,
    backbone_config_of,
)
from unmask.models.fingerprint import content_sha256, tensor_digests
from unmask.models.heads import new_head
from unmask.models.modeling import UnmaskForImageClassification, assemble
from unmask.models.tuning import merge, trained_parameters, trained_state, tune
from unmask.preprocess import Preprocess

FAMILIES = ("clip", "dinov2", "siglip")
TUNINGS = {
    "probe": Tuning("probe"),
    "effort": Tuning("effort", keep=-2),
    "layernorm": Tuning("layernorm"),
    "lora": Tuning("lora", lora_rank=2, lora_alpha=3.0),
    "full": Tuning("full"),
}
RECIPES = tuple(TUNINGS)


def save_base(folder: Path, family: str, features: Sequence[str] = ("pooler",), seed: int = 0):
    """A folder of a random tower, as transformers writes it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tower = build_backbone(copy.deepcopy(TOWERS[family]), features)
        for parameter in tower.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        tower.save_pretrained(folder)
    return folder


@lru_cache
def _tower(folder: Path, features: tuple[str, ...]) -> tuple[nn.Module, str]:
    """A tower that nobody changes, and the hash of its content."""
    tower = load_backbone(folder, features)
    return tower, content_sha256(tensor_digests(tower))


def plain_model(
    folder: Path, features: Sequence[str] = ("pooler",)
) -> tuple[UnmaskForImageClassification, BackboneSource]:
    """A detector on the tower in a folder, before any training, and what its tower is."""
    tower, sha256 = _tower(folder, tuple(features))
    tower = copy.deepcopy(tower)
    source = BackboneSource(str(folder), None, sha256)
    spec = DetectorSpec(
        backbone_config=backbone_config_of(tower.config),
        features=tuple(features),
        head=HeadSpec(outputs=2),
        preprocess=Preprocess.openai_clip(32),
        backbone_source=BackboneSource("org/tower"),
        license="mit",
    )
    head = new_head(feature_width(tower.config, features), 2, seed=1)
    return assemble(tower, head, spec), source


def pixels(count: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def train(
    model: UnmaskForImageClassification, steps: int = 3, optimiser=torch.optim.Adam
) -> list[float]:
    """The loss of each step on noise pictures with two labels."""
    model.train()
    optimiser = optimiser(trained_parameters(model).values(), lr=0.01)
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    losses = []
    for _ in range(steps):
        loss = model(pixels(), labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    model.eval()
    return losses


@torch.inference_mode()
def logits(model: UnmaskForImageClassification) -> Tensor:
    return model.logit(pixels(seed=1))


@dataclass(frozen=True, slots=True)
class Trained:
    """A detector after training, saved both ways."""

    base: Path
    merged: Path
    adapter: Path
    before: Tensor
    """Logits before the training."""
    after: Tensor
    """Logits after it, before anything was merged."""


def name_base(adapter: Path, base: Path) -> None:
    """Let the adapter find its base where it is, though saving kept only the folder's name."""
    path = adapter / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["adapter"]["base"]["id"] = str(base)
    path.write_text(json.dumps(values), encoding="utf-8")


def trained(folder: Path, base: Path, tuning: Tuning, features=("pooler",)) -> Trained:
    """Train on the tower in ``base`` and save in ``folder``, merged and as adapter."""
    model, source = plain_model(base, features)
    digests = tensor_digests(model.backbone)
    before = logits(model)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tune(model, tuning)
    train(model)
    after = logits(model)
    state = trained_state(model, tuning, base=digests)
    adapter = save_adapter(
        model, folder / "adapter", state=state, tuning=tuning, base=source, card="# A card\n"
    )
    name_base(adapter, base)
    merge(model)
    merged = save(model, folder / "merged", card="# A card\n", weights_dtype="float32")
    return Trained(base, merged, adapter, before, after)
