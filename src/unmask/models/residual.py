"""A linear layer whose smallest singular directions are trained, and what it is split from.

``unmask.models.effort`` puts such layers into towers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmask.errors import ConfigError, CorruptWeights, IncompatibleWeights
from unmask.models.svd import Triples, smallest_triples

__all__ = ["RESIDUAL", "SVDResidualLinear", "Start", "exchanged", "split", "start_of"]

RESIDUAL = ("U_residual", "S_residual", "V_residual")
"""The trained parameters of a layer, named as in released Effort checkpoints."""

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The integer as wide as a float of so many bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """The residual that a layer was split into, from which its first weight is had again.

    ``W_main + U diag(S) Vh`` is rounded otherwise than the weight was in some places; those are
    kept one by one. With one triple of width 1024 that is a hundredth of the weight or less.
    """

    U: Tensor
    """``(out, k)``, of the layer's dtype, as are the others."""
    S: Tensor
    Vh: Tensor
    places: Tensor
    """Where the product is not the weight, counted through its rows; int64."""
    values: Tensor
    """The weight there."""
    frozen: int
    """Of ``W_main``, to see whether it is still the same; the sum of its bits as integers."""


class SVDResidualLinear(nn.Module):
    """``y = x W_main^T + ((x Vh^T) * S) U^T + b``; the full weight is never built.

    Made by :func:`split`, or of the tensors of a published file, which are used as they are.

    Args:
        weight_main: ``(out, in)``, frozen.
        U: ``(out, k)``, trained.
        S: ``(k,)``, trained.
        V: ``(k, in)``, the rows of ``Vh``, trained.
        bias: ``(out,)``, frozen.
        start: What was split; a layer without it cannot be detached.

    Raises:
        IncompatibleWeights: If the shapes or precisions do not belong together.
    """

    def __init__(
        self,
        weight_main: Tensor,
        U: Tensor,  # noqa: N803  # the formula's
        S: Tensor,  # noqa: N803  # the formula's
        V: Tensor,  # noqa: N803  # the formula's
        bias: Tensor | None = None,
        *,
        start: Start | None = None,
    ) -> None:
        super().__init__()
        _check_parts(weight_main, U, S, V, bias)
        self.out_features, self.in_features = weight_main.shape
        self.weight_main = nn.Parameter(weight_main.detach(), requires_grad=False)
        self.U_residual = nn.Parameter(U.detach())
        self.S_residual = nn.Parameter(S.detach())
        self.V_residual = nn.Parameter(V.detach())
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.start = start

    def forward(self, x: Tensor) -> Tensor:
        """What the merged layer gives, from two thin products; ``(..., out)``."""
        thin = F.linear(x, self.V_residual) * self.S_residual  # (..., k)
        return F.linear(x, self.weight_main, self.bias) + F.linear(thin, self.U_residual)

    def merged(self) -> nn.Linear:
        """A plain layer of the same effect; nothing of it trains.

        Raises:
            CorruptWeights: If its weight is not finite.
        """
        return self._plain(
            _product(self.weight_main, self.U_residual, self.S_residual, self.V_residual)
        )

    def original(self) -> nn.Linear:
        """The plain layer that was split, equal in every bit of its weight.

        Raises:
            IncompatibleWeights: If the layer was not split here, or ``W_main`` was changed since.
        """
        start = start_of(self)
        here = self.weight_main.device
        weight = _product(self.weight_main, start.U, start.S, start.Vh).contiguous()
        weight.view(-1)[start.places.to(here)] = start.values.to(here)
        return self._plain(weight)

    def extra_repr(self) -> str:
        """Sizes, as other layers show them."""
        k = len(self.S_residual)
        return f"in_features={self.in_features}, out_features={self.out_features}, trained={k}"

    def _plain(self, weight: Tensor) -> nn.Linear:
        if not weight.is_meta and not torch.isfinite(weight).all():
            raise CorruptWeights(
                "the weight to be written holds values that are not finite; the training has "
                "diverged, train again with a smaller learning rate"
            )
        with torch.device("meta"):
            linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        linear.weight = nn.Parameter(weight, requires_grad=False)
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach().clone(), requires_grad=False)
        return linear


def split(linear: nn.Linear, kept: int, *, cache: Path | None = None) -> SVDResidualLinear:
    """The layer with its ``kept`` largest singular triples frozen, and the others to be trained.

    Args:
        linear: Left as it is; device and dtype are kept.
        kept: 1 up to n - 1, with n the smaller side of the weight.
        cache: As of :func:`unmask.models.svd.smallest_triples`.

    Raises:
        ConfigError: If nothing would be left to train, or nothing frozen.
        CorruptWeights: If the weight is not finite.
    """
    weight = linear.weight.detach()
    n = min(weight.shape)
    _check_kept(kept, n)
    triples = smallest_triples(weight, n - kept, cache=cache)
    main = _minus(weight, triples)
    U, S, Vh = (part.to(weight) for part in (triples.U, triples.S, triples.Vh))
    start = None if weight.is_meta else _start(weight, main, U, S, Vh)
    bias = None if linear.bias is None else linear.bias.detach().clone()
    return SVDResidualLinear(main, U.clone(), S.clone(), Vh.clone(), bias, start=start)


def start_of(layer: SVDResidualLinear) -> Start:
    """What a layer was split into, if its frozen part is still that of the split.

    Raises:
        IncompatibleWeights: If it is not, or the layer was never split.
    """
    start = layer.start
    if start is None or start.frozen != _sum_of_bits(layer.weight_main):
        raise IncompatibleWeights(
            f"the layer {'was not split here' if start is None else 'has other frozen weights now'}"
            ", so the weight it was split from is not known; attach to the base tower again"
        )
    return start


def exchanged(
    weight: Tensor,
    U: Tensor,  # noqa: N803  # the formula's
    S: Tensor,  # noqa: N803  # the formula's
    V: Tensor,  # noqa: N803  # the formula's
    *,
    cache: Path | None = None,
) -> Tensor:
    """``W - U0 diag(S0) Vh0 + U diag(S) V`` with the k smallest triples of W as U0, S0, Vh0.

    Computed in float64, of the weight's dtype and device.

    Args:
        weight: ``(out, in)``.
        U: ``(out, k)``, of any floating type, as are the others.
        S: ``(k,)``.
        V: ``(k, in)``.
        cache: As of :func:`unmask.models.svd.smallest_triples`.

    Raises:
        ConfigError: If k is 0 or the whole rank of the weight.
        CorruptWeights: If a tensor holds values that are not finite.
        IncompatibleWeights: If the shapes do not fit together.
    """
    _check_parts(weight, U, S, V, None, one_type=False)
    n = min(weight.shape)
    _check_kept(n - len(S), n)
    if not all(torch.isfinite(part).all() for part in (U, S, V)):
        raise CorruptWeights("the residual holds values that are not finite; train it again")
    main = _minus(_wide(weight), smallest_triples(weight, len(S), cache=cache))
    return _product(main, U, S, V).to(weight)


def _check_kept(kept: int, n: int) -> None:
    if not 0 < kept < n:
        raise ConfigError(
            f"an SVD rank of {kept} on a layer of width {n} leaves "
            f"{'nothing to train' if kept >= n else 'nothing of the layer frozen'}; use "
            f"1 to {n - 1} ({n - 1} trains one direction per layer, as Effort does)"
        )


def _check_parts(
    weight: Tensor,
    U: Tensor,  # noqa: N803  # the formula's
    S: Tensor,  # noqa: N803  # the formula's
    V: Tensor,  # noqa: N803  # the formula's
    bias: Tensor | None,
    *,
    one_type: bool = True,
) -> None:
    k = S.numel()
    shapes = [tuple(part.shape) for part in (weight, U, S, V)]
    fits = weight.ndim == 2 and shapes[1:] == [(shapes[0][0], k), (k,), (k, shapes[0][1])]
    if not fits or (bias is not None and tuple(bias.shape) != shapes[0][:1]):
        raise IncompatibleWeights(
            f"a weight {shapes[0]}, U {shapes[1]}, S {shapes[2]} and V {shapes[3]}"
            f"{'' if bias is None else f' and a bias {tuple(bias.shape)}'} do not fit together; "
            "expected (out, in), (out, k), (k,), (k, in) and (out,)"
        )
    parts = (weight, U, S, V) if bias is None else (weight, U, S, V, bias)
    kinds = {part.dtype for part in parts}
    if one_type and (len(kinds) > 1 or not weight.is_floating_point()):
        raise IncompatibleWeights(
            f"the tensors of a layer are of {', '.join(sorted(map(str, kinds)))}; one "
            "floating type is expected, convert them"
        )


def _wide(tensor: Tensor) -> Tensor:
    """In float64 on the CPU: MPS has none, and other devices would round in other places."""
    return tensor.detach().to("meta" if tensor.is_meta else "cpu", torch.float64)


def _minus(weight: Tensor, triples: Triples) -> Tensor:
    """Computed in float64, of the weight's dtype and device."""
    return (_wide(weight) - (triples.U * triples.S) @ triples.Vh).to(weight)


def _product(main: Tensor, U: Tensor, S: Tensor, V: Tensor) -> Tensor:  # noqa: N803  # the formula's
    """``main + U diag(S) V``, computed in float64, of main's dtype and device."""
    return (_wide(main) + (_wide(U) * _wide(S)) @ _wide(V)).to(main)


def _start(weight: Tensor, main: Tensor, U: Tensor, S: Tensor, Vh: Tensor) -> Start:  # noqa: N803
    places = (_product(main, U, S, Vh) != weight).flatten().nonzero().flatten()
    values = weight.flatten()[places]
    return Start(U, S, Vh, places, values, _sum_of_bits(main))


def _sum_of_bits(weight: Tensor) -> int:
    return int(weight.detach().contiguous().view(_BITS[weight.element_size()]).sum())
