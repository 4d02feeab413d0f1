"""What a training step of Effort costs, beside that of the published layer.

    OMP_NUM_THREADS=1 python benchmarks/step.py [--batch 8 16] [--rounds N] [--tower base|large]

Both train the same random CLIP vision tower on the same noise pictures, from the same residuals,
in turns in one process. *naive* is the flow of the published code, written anew from a description
of its behaviour: each layer builds ``W_main + U diag(S) V`` anew in every forward, in float32, and
the loss is plain cross-entropy, which is what the shipped recipe minimises. *unmask* goes through
:func:`unmask.train.loop.fit`, as ``unmask train`` does. A round is two steps of each with a
fresh optimiser, of which the first is timed (the other ends with a checkpoint): forward, loss,
backward, Adam, and the line in the log. CPU seconds of one thread stay what they are when other
programs use the cores.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModel

from unmask.models.configuration import DetectorSpec, HeadSpec, backbone_config_of
from unmask.models.effort import residual_layers
from unmask.models.heads import new_head
from unmask.models.modeling import UnmaskForImageClassification, assemble
from unmask.models.residual import SVDResidualLinear
from unmask.models.tuning import tune
from unmask.preprocess import Preprocess
from unmask.train.batches import Batch, Share
from unmask.train.config import TrainConfig, make_config
from unmask.train.logs import read_log
from unmask.train.loop import fit
from unmask.train.optimizer import Plan
from unmask.train.place import new_place
from unmask.train.state import RunFolder, Setting

__all__ = ["TOWERS", "NaiveLinear", "detector", "recipe"]

TOWERS = {
    "base": CLIPVisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        image_size=224,
        patch_size=16,
    ),
    "large": CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=224,
        patch_size=14,
    ),
}
STEPS = 2
"""Of a round. The last one also writes a checkpoint."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What the clocks show."""

    wall: float
    cpu: float
    """Seconds of all threads of the process."""

    @classmethod
    def now(cls) -> Moment:
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, earlier: Moment) -> Moment:
        return Moment(self.wall - earlier.wall, self.cpu - earlier.cpu)


class NaiveLinear(nn.Module):
    """The published layer: the whole weight is built in each forward.

    Args:
        layer: Where it begins; its tensors are copied.
    """

    def __init__(self, layer: SVDResidualLinear) -> None:
        super().__init__()
        self.weight_main = nn.Parameter(layer.weight_main.detach().clone(), requires_grad=False)
        self.S_residual = nn.Parameter(layer.S_residual.detach().clone())
        self.U_residual = nn.Parameter(layer.U_residual.detach().clone())
        self.V_residual = nn.Parameter(layer.V_residual.detach().clone())
        bias = None if layer.bias is None else layer.bias.detach().clone()
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """The whole weight, then one product."""
        residual = self.U_residual @ torch.diag(self.S_residual) @ self.V_residual
        return F.linear(x, self.weight_main + residual, self.bias)


def detector(tower: CLIPVisionConfig, seed: int = 0) -> UnmaskForImageClassification:
    """A random tower with a random head of two outputs, as the recipe has it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = CLIPVisionModel(copy.deepcopy(tower))
    spec = DetectorSpec(
        backbone_config=backbone_config_of(backbone.config),
        features=("pooler",),
        head=HeadSpec(outputs=2),
        preprocess=Preprocess.effort(),
    )
    return assemble(backbone, new_head(tower.hidden_size, 2, seed), spec)


def recipe(batch_size: int, precision: str = "float32") -> TrainConfig:
    """The preset ``effort``, for a few steps."""
    said = {"batch_size": batch_size, "steps": STEPS, "precision": precision}
    return make_config("effort", {}, said, where="benchmark")


@dataclass(slots=True)
class Way:
    """One way to train, and what it took."""

    run: Callable[[], tuple[Moment, list[float]]]
    """A round: what its first step took, and the losses of all."""
    took: list[Moment] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


class Naive:
    """The published flow on the same tower."""

    def __init__(self, model: UnmaskForImageClassification, pixels: Tensor, labels: Tensor) -> None:
        self.tower, self.head = model.backbone, model.head.linear
        for name, layer in residual_layers(self.tower).items():
            parent, _, leaf = name.rpartition(".")
            setattr(self.tower.get_submodule(parent), leaf, NaiveLinear(layer))
        self.tower.train()
        self.pixels, self.labels = pixels, labels.long()

    def __call__(self) -> tuple[Moment, list[float]]:
        config = recipe(len(self.labels))
        trained = [each for each in self.tower.parameters() if each.requires_grad]
        optimizer = torch.optim.Adam(
            [*trained, *self.head.parameters()],
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            weight_decay=config.weight_decay,
        )
        took, losses = [], []
        for _ in range(STEPS):
            started = Moment.now()
            outputs = self.head(self.tower(self.pixels).pooler_output)
            loss = F.cross_entropy(outputs, self.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            took.append(Moment.now() - started)
        return took[0], losses


class Ours:
    """The product's own loop."""

    def __init__(
        self,
        model: UnmaskForImageClassification,
        pixels: Tensor,
        labels: Tensor,
        precision: str,
        folder: Path,
    ) -> None:
        self.model, self.config = model, recipe(len(labels), precision)
        self.batch = Batch(pixels, labels)
        self.stamps: list[Moment] = []
        self.folders = (folder / f"{precision}-{number}" for number in count())

    def batches(self, _first: int, _share: Share) -> Generator[Batch, None, None]:
        """The same pictures in every step; notes when each is asked for."""
        self.stamps = []
        while True:
            self.stamps.append(Moment.now())
            yield self.batch

    def __call__(self) -> tuple[Moment, list[float]]:
        folder = RunFolder(next(self.folders))
        folder.begin(Setting(self.config, "noise", "random"), resume=False, overwrite=False)
        fit(
            self.model,
            self.batches,
            self.config,
            Plan(STEPS, STEPS),
            place=new_place("cpu"),
            folder=folder,
        )
        return self.stamps[1] - self.stamps[0], [line["loss"] for line in read_log(folder.log)]


def measure(tower: CLIPVisionConfig, batch: int, rounds: int, folder: Path) -> dict[str, Way]:
    """All ways in turns; a first round that is not counted warms up."""
    pixels = torch.randn(batch, 3, tower.image_size, tower.image_size)
    labels = (torch.arange(batch) % 2).float()

    def tuned() -> UnmaskForImageClassification:
        model = detector(tower)
        tune(model, recipe(batch).tuning(), cache=folder / "svd")
        return model

    ways = {
        "naive, float32": Way(Naive(tuned(), pixels, labels)),
        "unmask, float32": Way(Ours(tuned(), pixels, labels, "float32", folder)),
        "unmask, bfloat16": Way(Ours(tuned(), pixels, labels, "bfloat16", folder)),
    }
    for number in range(rounds + 1):
        for way in ways.values():
            took, losses = way.run()
            way.losses += losses
            if number:
                way.took.append(took)
    return ways


def report(batch: int, ways: dict[str, Way]) -> None:
    """Markdown, a row per way."""
    naive = next(iter(ways.values()))
    for name, way in ways.items():
        cells = [str(batch), name]
        for clock in ("cpu", "wall"):
            own, others = ([getattr(each, clock) for each in one.took] for one in (way, naive))
            ratios = [other / each for each, other in zip(own, others, strict=True)]
            spread = f"[{min(ratios):.2f}, {max(ratios):.2f}]"
            cells.append(f"{statistics.median(own):.2f}")
            cells.append(f"{statistics.median(ratios):.2f} {spread}")
        apart = max(abs(one - other) for one, other in zip(naive.losses, way.losses, strict=True))
        print("|", " | ".join((*cells, f"{apart:.1e}")), "|", flush=True)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tower", choices=TOWERS, default="base")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args(argv)


def main() -> None:
    given = parse()
    load = os.getloadavg()[0]
    print(f"{torch.get_num_threads()} threads, load {load:.1f}, {given.rounds} rounds")
    print("\n| batch | way | CPU s | times as fast | wall s | times as fast | loss apart |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for batch in given.batch:
            torch.manual_seed(batch)
            made = Path(folder) / str(batch)
            report(batch, measure(TOWERS[given.tower], batch, given.rounds, made))
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
