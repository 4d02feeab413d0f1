"""What an Effort training of ViT-L/14 on FaceForensics++ will take, worked out from its step.

    OMP_NUM_THREADS=1 python benchmarks/plan.py

Measured here, on a random tower of that size: floating-point operations of one step, bytes that a
step keeps for its backward, parameters, host time of a step without its arithmetic (the same
operators on a tower of width 16). Assumed, and said so in the table: what share of a GPU's peak is
reached. Nothing of it has run on a GPU.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from step import TOWERS, detector, recipe
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig

from unmask.models.modeling import UnmaskForImageClassification
from unmask.models.tuning import trained_parameters, tune
from unmask.train.loop import Forward
from unmask.train.losses import cross_entropy
from unmask.train.optimizer import new_optimizer

BATCH, EPOCHS = 32, 10
"""Of the released recipe."""
VIDEOS, VALIDATION, KINDS = 720, 140, 5
"""Of FaceForensics++: training and validation videos; the real ones and four manipulations."""
FRAMES = (8, 32)
"""Per video: the recipe's, and all that its preprocessing takes."""
PEAKS = {"A100": 312e12, "H100": 989e12}
"""Dense bfloat16 operations per second, from the makers' data sheets (SXM)."""
SHARE = 0.35
"""Of the peak that is reached: an assumption."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step takes, as measured."""

    forward: float
    """Floating-point operations per picture."""
    whole: float
    """The same with the backward."""
    kept: float
    """Bytes per picture that wait for the backward."""
    copies: float
    """Bytes that wait for the backward whatever the batch: weights in bfloat16."""
    weights: int
    trained: int
    """Numbers of parameters."""
    host: float
    """Seconds of one thread per step, without arithmetic."""


def tuned(tower: CLIPVisionConfig) -> UnmaskForImageClassification:
    """By the recipe, ready for a step."""
    model = detector(tower)
    tune(model, recipe(BATCH).tuning())
    model.train()
    return model


def noise(batch: int, tower: CLIPVisionConfig) -> tuple[Tensor, Tensor]:
    """Pixels and labels."""
    side = tower.image_size
    return torch.randn(batch, 3, side, side), (torch.arange(batch) % 2).float()


def operations(model: UnmaskForImageClassification, tower: CLIPVisionConfig) -> tuple[float, float]:
    """Of a picture's forward, and of forward and backward. Attention is counted as products."""
    pixels, labels = noise(1, tower)
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            loss = cross_entropy(Forward(model)(pixels)[1], labels)
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    first = forward.get_total_flops()
    return first, first + backward.get_total_flops()


def kept_bytes(model: UnmaskForImageClassification, tower: CLIPVisionConfig, batch: int) -> int:
    """Of all tensors but parameters that wait for the backward in bfloat16, each storage once."""
    parameters = {each.untyped_storage().data_ptr() for each in model.parameters()}
    found: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            found[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # an address is not given away again meanwhile
        return tensor

    pixels, labels = noise(batch, tower)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        cross_entropy(Forward(model, "bfloat16")(pixels)[1], labels)
    return sum(found.values())


def host_seconds(layers: int, rounds: int = 7) -> float:
    """Of a step on a tower so narrow that nothing but calling its operators takes time."""
    tower = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=1,
        image_size=28,
        patch_size=14,
    )
    model = tuned(tower)
    forward = Forward(model, "bfloat16")
    optimizer = new_optimizer(model, recipe(BATCH))
    pixels, labels = noise(2, tower)
    took = []
    for _ in range(rounds):
        started = time.process_time()
        cross_entropy(forward(pixels)[1], labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        took.append(time.process_time() - started)
    return statistics.median(took[1:])


def measured(tower: CLIPVisionConfig) -> Step:
    """The step of a tower."""
    model = tuned(tower)
    forward, whole = operations(model, tower)
    one, two = (kept_bytes(model, tower, batch) for batch in (1, 2))
    trained = trained_parameters(model)
    return Step(
        forward,
        whole,
        two - one,
        2 * one - two,
        _count(model.parameters()),
        _count(trained.values()),
        host_seconds(tower.num_hidden_layers),
    )


def _count(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def print_memory(step: Step) -> None:
    """A row per kind, for one GPU with the whole batch and for one of eight."""
    rows = {
        "weights, float32": 4 * step.weights,
        "their copies in bfloat16": step.copies,
        "gradients and Adam's two means of what trains": 12 * step.trained,
    }
    print("\n| memory, GB | batch 32 | batch 4, one of eight |\n|---|---|---|")
    for name, size in rows.items():
        print(f"| {name} | {size / 1e9:.3f} | {size / 1e9:.3f} |")
    kept = [step.kept * batch / 1e9 for batch in (BATCH, BATCH // 8)]
    print(f"| activations | {kept[0]:.2f} | {kept[1]:.2f} |")
    fixed = sum(rows.values()) / 1e9
    print(f"| all | {fixed + kept[0]:.1f} | {fixed + kept[1]:.1f} |")


def print_times(step: Step) -> None:
    """A row per GPU and number of frames."""
    print("\n| GPU | frames | steps | ms per step | hours | ms on eight | hours on eight |")
    print("|---|---|---|---|---|---|---|")
    for name, peak in PEAKS.items():
        for frames in FRAMES:
            steps = VIDEOS * KINDS * frames // BATCH * EPOCHS
            scored = VALIDATION * KINDS * frames * EPOCHS * step.forward
            cells = [name, str(frames), str(steps)]
            for gpus in (1, 8):
                speed = peak * SHARE * gpus
                seconds = max(BATCH * step.whole / speed, step.host)
                hours = (steps * seconds + scored / speed) / 3600
                cells += [f"{1000 * seconds:.0f}", f"{hours:.2f}"]
            print("|", " | ".join(cells), "|")


def main() -> None:
    step = measured(TOWERS["large"])
    print(f"{step.weights:,} parameters, {step.trained:,} of them trained")
    print(f"{step.forward / 1e9:.1f} GFLOP forward and {step.whole / 1e9:.1f} whole per picture")
    print(f"{step.kept / 1e6:.0f} MB per picture wait for the backward in bfloat16")
    print(f"{1000 * step.host:.0f} ms host time per step; assumed: {SHARE:.0%} of the peak")
    print_memory(step)
    print_times(step)


if __name__ == "__main__":
    main()
