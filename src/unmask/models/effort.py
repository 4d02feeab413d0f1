"""The SVD residual of Effort: attention weights whose smallest singular directions are trained.

``W = W_main + U diag(S) Vh``: ``W_main`` holds the largest singular triples and is frozen; the
others are trained, and merged back into one weight before the detector is used or saved.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmask.errors import ConfigError, IncompatibleWeights

__all__ = ["SVDResidualLinear", "attach", "merge"]


class SVDResidualLinear(nn.Module):
    """``y = x W_main^T + ((x Vh^T) * S) U^T + b``; the full weight is never built.

    Parameter names are those of released Effort checkpoints.

    Args:
        linear: The layer to split; device and dtype are kept.
        kept: Number r of largest singular triples that stay frozen, below the layer's rank n.

    Raises:
        ConfigError: If nothing would be left to train, or nothing frozen.
    """

    def __init__(self, linear: nn.Linear, kept: int) -> None:
        super().__init__()
        weight = linear.weight.detach()
        rank = min(weight.shape)
        if not 0 < kept < rank:
            raise ConfigError(
                f"an SVD rank of {kept} on a layer of width {rank} leaves "
                f"{'nothing to train' if kept >= rank else 'nothing of the layer frozen'}; use "
                f"1 to {rank - 1} ({rank - 1} trains one direction per layer, as Effort does)"
            )
        # float64 on the CPU: half precision has no SVD, MPS no float64, and float32 costs digits.
        where = weight.device if weight.is_meta else torch.device("cpu")
        U, S, Vh = torch.linalg.svd(weight.to(where, torch.float64), full_matrices=False)
        main = (U[:, :kept] * S[:kept]) @ Vh[:kept]
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight_main = _like(main, weight, trained=False)  # (out, in)
        self.U_residual = _like(U[:, kept:], weight, trained=True)  # (out, k)
        self.S_residual = _like(S[kept:], weight, trained=True)  # (k,)
        self.V_residual = _like(Vh[kept:], weight, trained=True)  # (k, in), rows of Vh
        bias = linear.bias
        self.bias = None if bias is None else _like(bias.detach(), weight, trained=False)

    def forward(self, x: Tensor) -> Tensor:
        """What the merged layer gives, from two thin products."""
        thin = F.linear(x, self.V_residual) * self.S_residual  # (..., k)
        return F.linear(x, self.weight_main, self.bias) + F.linear(thin, self.U_residual)

    def merged(self) -> nn.Linear:
        """A plain layer of the same effect."""
        wide = torch.float64 if self.weight_main.device.type != "mps" else torch.float32
        U, S, V = (
            part.detach().to(wide) for part in (self.U_residual, self.S_residual, self.V_residual)
        )
        weight = self.weight_main.detach().to(wide) + (U * S) @ V
        with torch.device("meta"):
            linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        linear.weight = nn.Parameter(weight.to(self.weight_main.dtype))
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach().clone())
        return linear


def attach(tower: nn.Module, *, rank: int | None = None, keep: int = -1) -> list[str]:
    """Split the attention projections of a tower in place; the names of the layers that were.

    Everything but the residuals is frozen. A fresh split changes no output.

    Args:
        tower: A vision tower.
        rank: Singular triples that stay frozen in each layer; overrides ``keep``.
        keep: The same, counted from the layer's width n where negative: -1 is n - 1, so that one
            triple is trained, whatever the width.

    Raises:
        ConfigError: If a layer would be left with nothing to train, or nothing frozen.
        IncompatibleWeights: If the tower has no attention projections that can be split.
    """
    names = [name for name, module in tower.named_modules() if _is_projection(name, module)]
    if not names:
        raise IncompatibleWeights(
            f"{type(tower).__name__} has no linear layers in its attention to attach to"
        )
    split: dict[str, SVDResidualLinear] = {}
    for name in names:
        linear = tower.get_submodule(name)
        if not isinstance(linear, nn.Linear):
            continue
        count = keep if rank is None else rank
        if rank is None and keep < 0:
            count = min(linear.weight.shape) + keep
        split[name] = SVDResidualLinear(linear, count)
    # Only now: an error above leaves the tower as it was.
    tower.requires_grad_(False)
    for name, layer in split.items():
        _replace(tower, name, layer)
    return list(split)


def merge(tower: nn.Module) -> list[str]:
    """Put plain layers back in place; the names of the layers that were split."""
    split = [
        (name, module)
        for name, module in tower.named_modules()
        if isinstance(module, SVDResidualLinear)
    ]
    for name, module in split:
        _replace(tower, name, module.merged())
    return [name for name, _ in split]


def _is_projection(name: str, module: nn.Module) -> bool:
    # Exactly nn.Linear: the output of nn.MultiheadAttention is a subclass whose weight is read
    # without calling it.
    parents = name.split(".")[:-1]
    in_attention = any("self_attn" in part or "attention" in part for part in parents)
    return in_attention and type(module) is nn.Linear


def _replace(tower: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(tower.get_submodule(parent), leaf, module)


def _like(value: Tensor, weight: Tensor, *, trained: bool) -> nn.Parameter:
    fitted = value.to(device=weight.device, dtype=weight.dtype).contiguous().clone()
    return nn.Parameter(fitted, requires_grad=trained)
