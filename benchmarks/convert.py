"""How long ``unmask convert`` takes on an Effort file of ViT-L/14's size, and how much memory.

    python benchmarks/convert.py [--folder DIR] [--adapter]

The file has random weights in the layout of the released ones: 681 tensors, 303,378,530 elements,
keys with ``module.``. Each command runs in a process of its own, whose time and peak memory are
measured. ``--adapter`` also writes the CLIP that the file would have been trained from, splits its
attention in float32 as the published code does (minutes of SVD), and saves an adapter.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

TENSORS, ELEMENTS = 681, 303_378_530
LARGE_14 = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "patch_size": 14,
    "image_size": 224,
    "projection_dim": 768,
}


@dataclass(frozen=True)
class Run:
    """One command, measured."""

    code: int
    seconds: float
    cpu_s: float
    peak_mib: float


def large_tower(seed: int = 0) -> CLIPVisionModel:
    """A CLIP ViT-L/14 with random weights that keep the size of what passes through them."""
    torch.manual_seed(seed)
    tower = CLIPVisionModel(CLIPVisionConfig(**LARGE_14))
    with torch.no_grad():
        for name, value in tower.named_parameters():
            if value.ndim >= 2:
                value.normal_(std=value[0].numel() ** -0.5)
            elif "norm" in name and name.endswith("weight"):
                value.normal_(1, 0.1)
            else:
                value.normal_(std=0.05)
    return tower


def released_layout(tower: CLIPVisionModel, *, split: bool) -> dict[str, Tensor]:
    """The tower as an Effort file: five tensors for each attention projection, and a head.

    Args:
        tower: Its weights are the frozen part.
        split: Whether they are first split from their smallest singular triple, in float32; else
            the residual is simply added, which is as good for anything but an adapter.
    """
    state: dict[str, Tensor] = {}
    for key, value in tower.state_dict().items():
        name = f"module.backbone.{key.removeprefix('vision_model.')}"
        if ".self_attn." not in name or not name.endswith(".weight"):
            state[name] = value
            continue
        layer = name.removesuffix(".weight")
        main, (rows, columns) = value, value.shape
        if split:
            U, S, Vh = torch.linalg.svd(value, full_matrices=False)
            main = U[:, :-1] @ torch.diag(S[:-1]) @ Vh[:-1]
        state[f"{layer}.weight_main"] = main
        state[f"{layer}.S_residual"] = 0.1 + torch.rand(1)
        state[f"{layer}.U_residual"] = torch.randn(rows, 1) / rows**0.5
        state[f"{layer}.V_residual"] = torch.randn(1, columns) / columns**0.5
    width = tower.config.hidden_size
    state["module.head.weight"] = torch.randn(2, width) / width**0.5
    state["module.head.bias"] = torch.randn(2) * 0.1
    return state


def measured(*arguments: str | Path) -> Run:
    """``unmask`` with these arguments, to its end; what it prints passes through."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "unmask", *map(str, arguments)]
    child = os.posix_spawn(command[0], command, os.environ)
    _, status, used = os.wait4(child, 0)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return Run(
        os.waitstatus_to_exitcode(status),
        time.perf_counter() - started,
        used.ru_utime + used.ru_stime,
        used.ru_maxrss * unit / 2**20,
    )


def write_inputs(folder: Path, *, adapter: bool) -> tuple[Path, Path]:
    """The Effort file, and the folder of its CLIP (with ``adapter`` only)."""
    tower = large_tower()
    state = released_layout(tower, split=adapter)
    elements = sum(value.numel() for value in state.values())
    if (len(state), elements) != (TENSORS, ELEMENTS):
        raise SystemExit(f"made {len(state)} tensors of {elements} elements, not a released layout")
    path, base = folder / "large.pth", folder / "clip"
    torch.save(state, path)
    if adapter:
        tower.save_pretrained(base)
    return path, base


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("--adapter", action="store_true", help="also save an adapter")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        path, base = write_inputs(folder, adapter=arguments.adapter)
        commands = {
            "convert, float32": ("convert", "effort", path, folder / "merged"),
            "convert, float16": ("convert", "effort", path, folder / "half", "--float16"),
            "verify": ("verify", folder / "merged"),
            "verify --source": ("verify", folder / "merged", "--source", path),
        }
        if arguments.adapter:
            options = ("--as", "adapter", "--base", base)
            commands["convert --as adapter"] = (
                "convert", "effort", path, folder / "adapter", *options,
            )  # fmt: skip
        rows = ["| command | seconds | CPU s | peak MiB | exit code |", "|---|---|---|---|---|"]
        for what, command in commands.items():
            run = measured(*command)
            numbers = f"{run.seconds:.1f} | {run.cpu_s:.1f} | {run.peak_mib:.0f} | {run.code}"
            rows.append(f"| {what} | {numbers} |")
        rows += [
            f"{saved.relative_to(folder)}: {saved.stat().st_size:,} bytes"
            for saved in sorted(folder.glob("*/*.safetensors"))
        ]
    print("\n".join(rows))


if __name__ == "__main__":
    main()
