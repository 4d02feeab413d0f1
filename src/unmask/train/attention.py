"""Attention with a backward of its own, where torch's is slow: bfloat16 on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

__all__ = ["trained_attention"]


def trained_attention(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """A block in which attention has a fast backward; only bfloat16 on a CPU needs one.

    There torch 2.13 takes five times as long for the backward of its flash attention as for the
    forward: 44 and 8 ms for 8 pictures of 197 tokens with 12 heads on one thread with AMX, and 27
    ms this way. A training step of ViT-B/16 takes 1.71 s in place of 1.88, and 1.78 s with the
    eager attention of transformers, which also keeps all probabilities until the backward. In
    float32 torch's own takes 30 ms, products like these 46 and eager 38, so there it stays.

    Args:
        device: Where the block computes.
        dtype: What the block computes attention in.
    """
    wanted = device.type == "cpu" and dtype == torch.bfloat16
    return _Replaced() if wanted else nullcontext()


class _Replaced(TorchFunctionMode):
    """Within it, plain attention of bfloat16 goes through :class:`_Attention`."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # whatever the function gives
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and _is_plain(*args, **kwargs):
            return _attend(*args, **kwargs)
        return func(*args, **kwargs)


def _is_plain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> bool:
    """Whether it is no more than softmax(q k' / scale) v, per head, in bfloat16."""
    kinds = {part.dtype for part in (query, key, value)}
    asked = attn_mask is not None or dropout_p or is_causal or enable_gqa
    return kinds == {torch.bfloat16} and query.ndim == 4 and not asked


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *_nothing: object,
    scale: float | None = None,
    **_either: object,
) -> Tensor:
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    result: Tensor = _Attention.apply(query, key, value, scale)  # type: ignore[no-untyped-call]
    return result


class _Attention(torch.autograd.Function):
    """Torch's attention forward; backward by matrix products, a picture at a time.

    With ``P = softmax(s Q K')`` and the gradient G of ``P V``: ``dV = P' G``,
    ``dS = s P * (G V' - rowsum(P * G V'))``, ``dQ = dS K`` and ``dK = dS' Q``. P is computed again,
    so that no more is kept than flash attention keeps. Its scores are float32, as there: with
    bfloat16 gradients are off by 9e-3 of their length in place of 3e-3 where scores deviate by 3.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:  # noqa: ANN401  # torch's
        """``(B, heads, N, d)`` of the same from each."""
        ctx.save_for_backward(query, key, value)
        ctx.scale = scale
        return F.scaled_dot_product_attention(query, key, value, scale=scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # torch's
        """Of query, key and value."""
        inputs = ctx.saved_tensors
        gradients = tuple(torch.empty_like(each) for each in inputs)
        for Q, K, V, G, dQ, dK, dV in zip(*inputs, gradient, *gradients, strict=True):
            scores = Q.float() @ (K.float().mT * ctx.scale)
            P = torch.softmax(scores, dim=-1).to(Q.dtype)
            torch.matmul(P.mT, G, out=dV)
            dP = G @ V.mT
            dS = torch.ops.aten._softmax_backward_data(dP, P, -1, P.dtype).mul_(ctx.scale)
            torch.matmul(dS, K, out=dQ)
            torch.matmul(dS.mT, Q, out=dK)
        return (*gradients, None)
