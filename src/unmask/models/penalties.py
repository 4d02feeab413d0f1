"""Penalties on a split tower, each one scalar to be added to a loss; off in the shipped recipe.

Two are those of published Effort trainings, which have them switched off too. See
``docs/effort.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unmask.errors import ConfigError, IncompatibleWeights
from unmask.models.effort import residual_layers
from unmask.models.residual import SVDResidualLinear, start_of

__all__ = [
    "Original",
    "effective_rank",
    "kept_singular_values",
    "originals",
    "orthogonality",
    "residual_orthogonality",
    "summed_singular_values",
]


@dataclass(frozen=True, slots=True, eq=False)
class Original:
    """What a penalty needs of a layer's weight as it was: little more than its smallest triples.

    The kept directions themselves are not needed. With all n left directions ``[K U]`` orthonormal
    and the weight square, ``K K' = I - U U'``.
    """

    U: Tensor
    """``(out, k)``, of the layer's dtype and device, as are the others."""
    S: Tensor
    """``(k,)``."""
    Vh: Tensor
    """``(k, in)``."""
    left: Tensor | None
    """Orthonormal basis ``(out, in)`` of the columns of a tall weight; None where that is all."""
    right: Tensor | None
    """Orthonormal basis ``(in, out)`` of the rows of a wide weight; None where that is all."""


def originals(tower: nn.Module) -> dict[str, Original]:
    """By layer, what the penalties compare with; made once, before or during the training.

    Raises:
        ConfigError: If the tower is not split.
        IncompatibleWeights: If a layer was not split by ``attach``, or has other frozen weights
            by now.
    """
    return {name: _original(name, layer) for name, layer in _layers(tower).items()}


def orthogonality(tower: nn.Module, start: Mapping[str, Original]) -> Tensor:
    """How far each layer's directions are from orthonormal, the kept ones included; the mean.

    ``1/2 |U U' - I|_F + 1/2 |V' V - I|_F`` with ``U = [U_kept U_residual]`` and V likewise: the
    ``orth`` of YZY-stack/Effort-AIGI-Detection 96f5dea, there with weight 1. It is 0 at the start.
    As U is square, ``|U U' - I|^2 = |U' U - I|^2 = 2 |K' A|^2 + |A' A - I|^2`` for the trained
    part A and the kept part K: products of k columns, in place of n. For weights that are not
    square, where ``U U'`` cannot be I, the second form is the one computed.

    Args:
        tower: Split.
        start: Of the same tower, from :func:`originals`.

    Raises:
        ConfigError: If the tower is not split, or ``start`` is of other layers.
    """

    def of_layer(layer: SVDResidualLinear, original: Original) -> Tensor:
        left = _distance(layer.U_residual, original.U, original.left)
        right = _distance(layer.V_residual.mT, original.Vh.mT, original.right)
        return (left + right) / 2

    return torch.stack([of_layer(*pair) for pair in _pairs(tower, start)]).mean()


def residual_orthogonality(tower: nn.Module) -> Tensor:
    """``1/2 |U U' - I|_F + 1/2 |V V' - I|_F`` of the trained directions alone; the sum of layers.

    As in SCLBD/DeepfakeBench 8a4a7bf, there with weight 0.1. The first term has a minimum that is
    not 0 and cannot be reached by training: U is ``(out, k)``, so ``U U'`` has rank k at most and
    ``|U U' - I|_F >= sqrt(out - k)``. Only the part above it says anything.

    Raises:
        ConfigError: If the tower is not split.
    """

    def of_layer(layer: SVDResidualLinear) -> Tensor:
        U, Vh = layer.U_residual, layer.V_residual
        missing = torch.full_like(layer.S_residual[:1], len(U) - U.shape[1]).sqrt()
        # |U U' - I|^2 = |U' U - I|^2 + (out - k): both have the trace of (U' U)^2 - 2 U' U.
        left = _norm(torch.cat([_gram_error(U), missing]))
        return (left + _norm(_gram_error(Vh.mT))) / 2

    return torch.stack([of_layer(layer) for layer in _layers(tower).values()]).sum()


def kept_singular_values(tower: nn.Module, start: Mapping[str, Original]) -> Tensor:
    """``| |W_now|_F^2 - |W_first|_F^2 |``, the change of the sum of squared singular values; mean.

    ``keepsv`` of YZY-stack/Effort-AIGI-Detection 96f5dea, there with weight 1. It is computed
    from the change alone, ``f(L) - f(L0)`` with ``f(L) = 2 <W_main, L> + |L|^2`` and the residual
    L, since in float32 the difference of two sums of a million squares has few digits left.

    Args:
        tower: Split.
        start: Of the same tower, from :func:`originals`.

    Raises:
        ConfigError: If the tower is not split, or ``start`` is of other layers.
    """

    def of_layer(layer: SVDResidualLinear, original: Original) -> Tensor:
        now = _square(layer.weight_main, layer.U_residual, layer.S_residual, layer.V_residual)
        then = _square(layer.weight_main, original.U, original.S, original.Vh)
        return (now - then).abs()

    return torch.stack([of_layer(*pair) for pair in _pairs(tower, start)]).mean()


def summed_singular_values(tower: nn.Module) -> Tensor:
    """Minus the mean singular value of the sum of all weights of one shape; the sum over shapes.

    ``compute_weight_loss`` of YZY-stack/Effort-AIGI-Detection 96f5dea, which nothing there calls,
    without its fault of adding into the weights themselves. It falls as layers come to agree. A
    full SVD of one matrix per shape.

    Raises:
        ConfigError: If the tower is not split.
    """
    by_shape: dict[tuple[int, ...], Tensor] = {}
    for layer in _layers(tower).values():
        weight = _weight(layer)
        shape = tuple(weight.shape)
        by_shape[shape] = by_shape[shape] + weight if shape in by_shape else weight
    means = [torch.linalg.svdvals(total).mean() for total in by_shape.values()]
    return -torch.stack(means).sum()


def effective_rank(tower: nn.Module) -> Tensor:
    """``exp(H(s / sum s))`` of each layer's singular values s, H the entropy; the mean of layers.

    Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.
    Between 1 and the width. It takes a full SVD of each layer, so it suits a report after each
    epoch rather than a loss. Not part of any published training.

    Raises:
        ConfigError: If the tower is not split.
    """

    def of_layer(layer: SVDResidualLinear) -> Tensor:
        S = torch.linalg.svdvals(_weight(layer))
        entropy: Tensor = torch.special.entr(S / S.sum()).sum()
        return entropy.exp()

    return torch.stack([of_layer(layer) for layer in _layers(tower).values()]).mean()


def _layers(tower: nn.Module) -> dict[str, SVDResidualLinear]:
    layers = residual_layers(tower)
    if not layers:
        raise ConfigError(
            f"{type(tower).__name__} has no split layers, so there is nothing to penalise; attach "
            "to it first"
        )
    return layers


def _pairs(
    tower: nn.Module, start: Mapping[str, Original]
) -> list[tuple[SVDResidualLinear, Original]]:
    layers = _layers(tower)
    if layers.keys() != start.keys():
        other = sorted(layers.keys() ^ start.keys())
        raise ConfigError(
            f"the originals are of other layers than are split: {', '.join(other[:4])}"
            f"{', ...' if len(other) > 4 else ''}; make them of this tower"
        )
    return [(layer, start[name]) for name, layer in layers.items()]


def _original(name: str, layer: SVDResidualLinear) -> Original:
    try:
        start = start_of(layer)
    except IncompatibleWeights as error:
        raise IncompatibleWeights(f"{name}: {error}") from error
    main = layer.weight_main.detach()
    U, S, Vh = (part.detach().clone().to(main) for part in (start.U, start.S, start.Vh))
    rows, columns = main.shape
    weight = main + (U * S) @ Vh
    return Original(
        U,
        S,
        Vh,
        left=_basis(weight) if rows > columns else None,
        right=_basis(weight.mT) if columns > rows else None,
    )


def _basis(weight: Tensor) -> Tensor:
    Q: Tensor = torch.linalg.qr(weight.double().cpu())[0]
    return Q.to(weight)


def _distance(now: Tensor, first: Tensor, basis: Tensor | None) -> Tensor:
    """``|[K A]' [K A] - I|_F`` for the trained columns A ``(d, k)`` and the kept ones K."""
    inside = now if basis is None else basis @ (basis.mT @ now)  # (d, k)
    kept = inside - first @ (first.mT @ now)  # K K' A; (d, k)
    return _norm(torch.cat([kept.flatten() * 2**0.5, _gram_error(now)]))


def _norm(values: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(values)  # its gradient at 0 is 0, sqrt's is not
    return norm


def _gram_error(columns: Tensor) -> Tensor:
    """``A' A - I``, flattened; ``(k * k,)``."""
    gram = columns.mT @ columns
    return (gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).flatten()


def _square(main: Tensor, U: Tensor, S: Tensor, Vh: Tensor) -> Tensor:  # noqa: N803  # the formula's
    """``2 <W_main, L> + |L|_F^2`` of ``L = U diag(S) Vh``."""
    across = ((U.mT @ main) * Vh).sum(dim=1) @ S
    return 2 * across + ((U.mT @ U) * (Vh @ Vh.mT) * S[:, None] * S).sum()


def _weight(layer: SVDResidualLinear) -> Tensor:
    return layer.weight_main + (layer.U_residual * layer.S_residual) @ layer.V_residual
