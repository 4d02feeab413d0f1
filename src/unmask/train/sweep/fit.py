"""Many linear heads on the same features at once: logistic regression, and shrunken LDA.

Fitting a head is mostly reading the features. Here all strengths of a penalty are fitted in one
pass over them, by L-BFGS whose state has a column per strength, and which knows the directions in
which the features vary most (a low-rank preconditioner): about 25 passes instead of 250.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unmask.train.data import cell_weights
from unmask.train.probe import Fit, lda_weights, standard_of
from unmask.train.sweep.features import FeatureList
from unmask.types import Sample

__all__ = ["LDA_WIDTH", "Columns", "Fitted", "Heads", "fit_lda", "fit_lists", "fit_logistic"]

Columns = Mapping[str, npt.NDArray[np.float32]]
"""Feature name to rows ``(N, width)``."""

LDA_WIDTH = 1536
"""Width up to which discriminants are tried: their cost grows with its cube."""

_MEMORY = 10
"""Earlier steps from which the curvature is guessed (Nocedal and Wright, Numerical Optimization,
section 7.2)."""
_TOLERANCE = 1e-4
"""Largest entry of the gradient of the mean loss at the end: scikit-learn's, so that the heads
are those of :func:`unmask.train.probe.fit_head`."""
_ROUNDING = 1e-6
"""Share of the loss that float32 may err by."""
_MOST_STEPS = 1000
_SEARCH_STEPS = 4
"""Of Newton's method along a direction; it costs no pass over the features."""
_EXACT = 512
"""Width up to which all directions are computed; of wider sets the first ones are."""
_DIRECTIONS = 200
_TAIL = 4.0
"""How much more than their mean the other directions are taken to vary: the first of them count
most. 1 and 4 were measured, 4 needs a third fewer steps."""


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """A head per column: ``logits = features @ weights + biases`` on standardised features."""

    weights: Tensor
    """``(D, K)``."""
    biases: Tensor
    """``(K,)``."""

    def __call__(self, blocks: Sequence[Tensor]) -> npt.NDArray[np.float64]:
        """Logits ``(N, K)``, positive = fake, of the features ``(N, d)`` side by side."""
        return np.asarray(_margins(blocks, self.weights, self.biases).double().numpy())


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The heads on one list of features, and what they say."""

    list: FeatureList
    fit: Fit
    strengths: tuple[float, ...]
    """``(K,)``."""
    logits: tuple[npt.NDArray[np.float64], ...]
    """Of each part that was asked for, ``(N, K)``."""


def fit_lists(
    train: Columns,
    samples: Sequence[Sample],
    parts: Sequence[Columns],
    lists: Sequence[FeatureList],
    *,
    strengths: Sequence[float],
    shrinkages: Sequence[float],
) -> Iterator[Fitted]:
    """Fit every list and apply it to each part; one item per list and kind of head.

    Args:
        train: What is learnt from.
        samples: Of its rows; classes count alike, and data sets alike within a class.
        parts: What the heads are applied to.
        lists: Discriminants are fitted to those of one feature only.
        strengths: Of the logistic regressions.
        shrinkages: Of the discriminants.
    """
    weights = cell_weights(samples)
    labels = np.array([sample.label for sample in samples])
    blocks: dict[str, list[Tensor]] = {}
    for name in dict.fromkeys(name for each in lists for name in each.features):
        standard = standard_of(train[name], weights)
        blocks[name] = [torch.from_numpy(standard(each[name])) for each in (train, *parts)]
    for each in lists:
        own, *others = zip(*(blocks[name] for name in each.features), strict=True)
        if strengths:
            heads = fit_logistic(own, labels, weights, strengths)
            logits = tuple(heads(part) for part in others)
            yield Fitted(each, "logistic", tuple(strengths), logits)
        if shrinkages and len(own) == 1 and own[0].shape[1] <= LDA_WIDTH:
            heads = fit_lda(own[0], labels, weights, shrinkages)
            yield Fitted(each, "lda", tuple(shrinkages), tuple(heads(part) for part in others))


def fit_lda(
    block: Tensor,
    labels: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
    shrinkages: Sequence[float],
) -> Heads:
    """Linear discriminants, one per shrinkage, see :func:`unmask.train.probe.lda_weights`."""
    coefficients, biases = lda_weights(block.numpy(), labels, weights, shrinkages)
    return Heads(torch.from_numpy(coefficients).float(), torch.from_numpy(biases).float())


def fit_logistic(
    blocks: Sequence[Tensor],
    labels: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
    strengths: Sequence[float],
) -> Heads:
    """Logistic regressions, one per strength; the bias is not penalised.

    The loss of each is ``mean(w * log(1 + exp(-y z))) + |v|^2 / (2 C sum(w))`` with y = 1 for a
    fake and -1 for a real: scikit-learn's, divided by ``C sum(w)``.

    Args:
        blocks: Standardised features, each ``(N, d)``; together ``(N, D)``.
        labels: ``(N,)`` 0 real, 1 fake.
        weights: ``(N,)``.
        strengths: Values of C, ``(K,)``.
    """
    problem = _Problem(blocks, labels, weights, strengths)
    width = sum(block.shape[1] for block in blocks)
    at = torch.zeros(width + 1, len(strengths))
    margins = torch.zeros(len(labels), len(strengths))
    gradient = problem.gradient(at, margins)
    history: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=_MEMORY)
    waiting = torch.ones(len(strengths), dtype=torch.bool)
    for _ in range(_MOST_STEPS):
        waiting &= gradient.abs().amax(0) > _TOLERANCE
        if not waiting.any():
            break
        direction = -problem.downhill(gradient, margins, history) * waiting
        along = problem.margins(direction)
        length = problem.length(at, margins, direction, along)
        waiting &= length > 0  # as low as rounding lets it go
        step = length * direction
        at, margins, before = at + step, margins + length * along, gradient
        gradient = problem.gradient(at, margins)
        change = gradient - before
        curvature = (step * change).sum(0)
        # No step, no news: such a column keeps what it knew.
        inverse = torch.where(curvature > 1e-12, 1 / curvature.clamp(min=1e-12), 0.0)
        history.append((step, change, inverse))
    return Heads(at[:-1], at[-1])


class _Problem:
    """The loss of all strengths, where parameters ``(D + 1, K)`` hold the bias in the last row."""

    def __init__(
        self,
        blocks: Sequence[Tensor],
        labels: npt.NDArray[np.int64],
        weights: npt.NDArray[np.float64],
        strengths: Sequence[float],
    ) -> None:
        self._blocks = blocks
        self._signs = torch.from_numpy(2.0 * labels - 1).float()[:, None]
        self._weights = torch.from_numpy(weights / weights.sum()).float()[:, None]
        self._penalty = torch.tensor([1 / (each * weights.sum()) for each in strengths]).float()
        self._vectors, self._values, self._rest = _directions(blocks, self._weights)

    def margins(self, at: Tensor) -> Tensor:
        """Logits ``(N, K)``."""
        return _margins(self._blocks, at[:-1], at[-1])

    def gradient(self, at: Tensor, margins: Tensor) -> Tensor:
        """Of the loss, ``(D + 1, K)``."""
        pull = self._pull(margins)
        across = pull.T.contiguous()  # read in rows: a third faster than block.T @ pull
        parts = [(across @ block).T for block in self._blocks]
        gradient = torch.cat([*parts, pull.sum(0, keepdim=True)])
        gradient[:-1] += self._penalty * at[:-1]
        return gradient

    def downhill(
        self, gradient: Tensor, margins: Tensor, history: Sequence[tuple[Tensor, Tensor, Tensor]]
    ) -> Tensor:
        """The gradient by the inverse curvature that is known (the two-loop recursion)."""
        left, shares = gradient, []
        for step, change, inverse in reversed(history):
            share = inverse * (step * left).sum(0)
            left = left - share * change
            shares.append(share)
        left = self._preconditioned(left, margins)
        for (step, change, inverse), share in zip(history, reversed(shares), strict=True):
            left = left + (share - inverse * (change * left).sum(0)) * step
        return left

    def _preconditioned(self, gradient: Tensor, margins: Tensor) -> Tensor:
        """By the inverse of ``h S + penalty``: S the low-rank covariance, h the mean p (1 - p)."""
        spread = (self._weights * torch.sigmoid(margins) * torch.sigmoid(-margins)).sum(0)
        rest = 1 / (spread * self._rest + self._penalty)
        known = 1 / (spread * self._values[:, None] + self._penalty)
        found = torch.empty_like(gradient)
        inner = gradient[:-1]
        found[:-1] = rest * inner + self._vectors @ ((known - rest) * (self._vectors.T @ inner))
        found[-1] = gradient[-1] / spread
        return found

    def length(self, at: Tensor, margins: Tensor, direction: Tensor, along: Tensor) -> Tensor:
        """How far each column goes, ``(K,)``: to the least loss on its line, never uphill."""
        slope = self._penalty * (at[:-1] * direction[:-1]).sum(0)
        bend = self._penalty * direction[:-1].square().sum(0)
        length = torch.ones_like(slope)
        for _ in range(_SEARCH_STEPS):
            here = margins + length * along
            first = (self._pull(here) * along).sum(0) + slope + length * bend
            spread = torch.sigmoid(here) * torch.sigmoid(-here)
            second = (self._weights * spread * along.square()).sum(0) + bend
            length = (length - first / second.clamp(min=1e-20)).clamp(0, 100)
        start = self._loss(margins)
        for _ in range(30):
            change = self._loss(margins + length * along) - start
            uphill = change + length * slope + length.square() * bend / 2 > _ROUNDING * start
            if not uphill.any():
                break
            length = torch.where(uphill, length / 2, length)
        return torch.where(uphill, 0.0, length)

    def _pull(self, margins: Tensor) -> Tensor:
        """The loss of each item by its logit, ``(N, K)``."""
        return -self._weights * self._signs * torch.sigmoid(-self._signs * margins)

    def _loss(self, margins: Tensor) -> Tensor:
        losses = torch.nn.functional.softplus(-self._signs * margins)
        return (self._weights * losses).double().sum(0).float()


def _margins(blocks: Sequence[Tensor], weights: Tensor, biases: Tensor) -> Tensor:
    start, total = 0, biases.expand(len(blocks[0]), -1).clone()
    for block in blocks:
        total.addmm_(block, weights[start : start + block.shape[1]])
        start += block.shape[1]
    return total


def _directions(blocks: Sequence[Tensor], weights: Tensor) -> tuple[Tensor, Tensor, float]:
    """Where the features vary most: vectors ``(D, r)``, variances ``(r,)``, and of the rest.

    Of wide sets by subspace iteration from a fixed start (Halko, Martinsson and Tropp, Finding
    Structure with Randomness, SIAM Review 2011, algorithm 4.4).
    """
    whole = torch.cat([block * weights.sqrt() for block in blocks], 1)
    width = whole.shape[1]
    if width <= _EXACT:
        values, vectors = torch.linalg.eigh(whole.T @ whole)
        return vectors, values.clamp(min=0), 0.0
    basis = torch.randn(width, _DIRECTIONS + 10, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        basis = torch.linalg.qr(whole.T @ (whole @ basis))[0]
    within = whole @ basis
    values, turn = torch.linalg.eigh(within.T @ within)
    values = values[-_DIRECTIONS:].clamp(min=0)
    left = float(whole.square().sum() - values.sum())
    rest = _TAIL * max(left, 0.0) / (width - _DIRECTIONS)
    return basis @ turn[:, -_DIRECTIONS:], values, rest
