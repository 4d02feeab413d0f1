"""The head: from a feature to one logit. Always float32, whatever the tower computes in."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmask.errors import ConfigError

__all__ = ["Head", "new_head"]


class Head(nn.Module):
    """A linear head. Its outputs give one logit whose sigmoid is the probability of fake.

    One output is that logit. Of several the last ``fakes`` stand for kinds of fakes and the others
    for kinds of real pictures: ``softmax(outputs)[fakes].sum() == sigmoid(logsumexp(fake outputs) -
    logsumexp(real outputs))``, which for two outputs is fake minus real.

    Args:
        width: Of the feature.
        outputs: 1, or as many as there are classes, real ones first.
        normalize: Whether the feature is scaled to unit L2 length first (GenD's ``LinearNorm``).
        fakes: How many of the outputs stand for fakes; 1 where there is only one output.

    Raises:
        ConfigError: If the outputs are none, all real or all fake.
    """

    def __init__(
        self, width: int, outputs: int = 1, *, normalize: bool = False, fakes: int = 1
    ) -> None:
        super().__init__()
        if not (outputs == fakes == 1 or 1 <= fakes < outputs):
            raise ConfigError(
                f"a head has one output, or several of which some are fake; not {outputs} with "
                f"{fakes} of them fake"
            )
        self.normalize = normalize
        self.fakes = fakes
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
        real, fake = outputs[:, : -self.fakes], outputs[:, -self.fakes :]
        return fake.logsumexp(dim=1) - real.logsumexp(dim=1)


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
