"""The head: from a feature to one logit. Always float32, whatever the tower computes in."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmask.errors import ConfigError

__all__ = ["Head", "new_head"]


class Head(nn.Module):
    """A linear head. Two outputs give one logit: fake minus real.

    ``softmax(outputs)[1] == sigmoid(outputs[1] - outputs[0])``, so the difference loses nothing.

    Args:
        width: Of the feature.
        outputs: 1, or 2 for real and fake in this order.
        normalize: Whether the feature is scaled to unit L2 length first (GenD's ``LinearNorm``).

    Raises:
        ConfigError: On a number of outputs other than 1 or 2.
    """

    def __init__(self, width: int, outputs: int = 1, *, normalize: bool = False) -> None:
        super().__init__()
        if outputs not in (1, 2):
            raise ConfigError(f"a head has 1 or 2 outputs, not {outputs}")
        self.normalize = normalize
        self.linear = nn.Linear(width, outputs, dtype=torch.float32)

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``(B,)`` float32, positive = fake, from features ``(B, width)``."""
        features = features.float()
        if self.normalize:
            features = F.normalize(features, dim=-1)
        # A caller may have cast the whole model: the head still computes in float32.
        weight, bias = self.linear.weight.float(), self.linear.bias.float()
        outputs = F.linear(features, weight, bias)  # (B, outputs)
        if outputs.shape[1] == 1:
            return outputs[:, 0]
        return outputs[:, 1] - outputs[:, 0]


def new_head(width: int, outputs: int, seed: int, *, normalize: bool = False) -> Head:
    """An untrained head; the same one for the same seed, and no other generator is touched.

    Weights and bias are uniform within 1/sqrt(width), as ``nn.Linear`` starts.
    """
    generator = torch.Generator().manual_seed(seed)
    bound = width**-0.5
    with torch.random.fork_rng(devices=[]):
        head = Head(width, outputs, normalize=normalize)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return head
