"""What the tests of the documented commands share: small models, small pictures, one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel

from unmask.cli.perf import main
from unmask.models.checkpoint import save
from unmask.models.detector import untrained_detector
from unmask.models.modeling import assemble
from unmask.types import FaceSpec

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = "inference_results_huggingface.txt"
SIZE = 32


def make_clip(folder: Path, *, width: int = 32, seed: int = 0) -> Path:
    """A CLIP with random weights, text tower and processor file, as the Hub has them."""
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 2 * width}
    config = CLIPConfig(
        vision_config={**layers, "hidden_size": width, "image_size": SIZE, "patch_size": 8},
        text_config={
            **layers,
            **{"hidden_size": 16, "vocab_size": 64, "max_position_embeddings": 8},
            **{"bos_token_id": 0, "eos_token_id": 1},
        },
        projection_dim=16,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIPModel(config)
        for parameter in model.parameters():  # transformers starts them so small that all is alike
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=2 * parameter[0].numel() ** -0.5)
    model.save_pretrained(folder)
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": SIZE},
        "crop_size": {"height": SIZE, "width": SIZE},
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(processor), encoding="utf-8")
    return folder


def make_detector_folder(folder: Path, clip: Path, *, faces: bool = False) -> Path:
    """A folder that says its head was trained."""
    bare = untrained_detector(clip, seed=1, device="cpu")
    spec = bare.model.spec
    face = FaceSpec(size=SIZE, scale=1.5) if faces else None
    domain = "face" if faces else "image"
    spec = replace(spec, head=replace(spec.head, trained=True), domain=domain, face=face)
    save(assemble(bare.model.backbone, bare.model.head, spec), folder, card="# Test\n")
    return folder


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (40, 48)) -> Path:
    """A random picture; its suffix chooses the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize(size[::-1], Image.Resampling.BICUBIC).save(path)
    return path


def cut_short(path: Path) -> Path:
    """A picture whose second half is missing."""
    data = picture(path).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def pictures(root: Path, *names: str) -> Path:
    """One picture per name below ``root``, each another one."""
    for seed, name in enumerate(names):
        picture(root / name, seed)
    return root


def score(clip: Path, image: Path, output: Path, *more: str) -> tuple[int, list[str]]:
    """Exit code and lines of the file."""
    code = main(["--weights", str(clip), "--image", str(image), "--output", str(output), *more],
                root=ROOT / "DeepfakeBench")  # fmt: skip
    return code, output.read_text(encoding="utf-8").splitlines()


def probabilities(lines: list[str]) -> list[float]:
    return [float(line.split("| Prob: ")[1][:6]) for line in lines if "| Prob: " in line]


def process(cwd: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The script run as its users run it."""
    source = str(ROOT / "src")
    before = os.environ.get("PYTHONPATH")
    path = source if before is None else os.pathsep.join([source, before])
    return subprocess.run(
        [sys.executable, script, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
