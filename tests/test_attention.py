"""Attention with a backward of its own: where it is used, and that its gradients are the same."""

import pytest
import torch
from torch.nn import functional as F

from tuned_models import plain_model, save_base
from unmask.models.tuning import tune
from unmask.train import attention
from unmask.train.attention import trained_attention
from unmask.train.config import make_config
from unmask.train.loop import Forward

CPU = torch.device("cpu")


def parts(dtype=torch.bfloat16, *, keys: int = 7, queries: int = 7, scores: float = 1.0):
    """Queries, keys and values of 3 pictures with 4 heads, strided as towers make them.

    ``scores`` is their deviation.
    """
    drawn = torch.Generator().manual_seed(1)
    return [
        (torch.randn(3, count, 4, 8, generator=drawn) * factor)
        .to(dtype)
        .transpose(1, 2)
        .requires_grad_()
        for count, factor in ((queries, scores), (keys, 1), (keys, 1))
    ]


def gradients(inputs, **options):
    result = F.scaled_dot_product_attention(*inputs, **options)
    weight = torch.linspace(-1, 1, result.numel()).view(result.shape).to(result.dtype)
    return result, torch.autograd.grad(result, inputs, weight)


@pytest.fixture
def backwards(monkeypatch):
    """How often the backward of our own ran."""
    ran = []
    own = attention._Attention.backward

    def counted(ctx, gradient):
        ran.append(1)
        return own(ctx, gradient)

    monkeypatch.setattr(attention._Attention, "backward", staticmethod(counted))
    return ran


@pytest.mark.parametrize("options", [{}, {"scale": 0.7}])
@pytest.mark.parametrize("keys", [7, 5])
def test_the_gradients_are_those_of_float32_to_its_precision(options, keys, backwards):
    exact = gradients([each.detach().float().requires_grad_() for each in parts(keys=keys)],
                      **options)[1]  # fmt: skip
    with trained_attention(CPU, torch.bfloat16):
        ours = gradients(parts(keys=keys), **options)[1]
    assert backwards
    for one, other in zip(ours, exact, strict=True):
        torch.testing.assert_close(one.float(), other, atol=0.02, rtol=0.02)


def test_they_are_as_near_to_float32_as_those_of_torch():
    def many():
        return parts(queries=100, keys=100, scores=3.0)

    exact = gradients([each.detach().float().requires_grad_() for each in many()])[1]
    torchs = gradients(many())[1]
    with trained_attention(CPU, torch.bfloat16):
        ours = gradients(many())[1]
    for mine, its, truth in zip(ours, torchs, exact, strict=True):
        assert (mine - truth).norm() < 1.5 * (its - truth).norm()


def test_the_forward_is_that_of_torch():
    theirs = gradients(parts())[0]
    with trained_attention(CPU, torch.bfloat16):
        assert torch.equal(gradients(parts())[0], theirs)


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (torch.float32, {}),
        (torch.bfloat16, {"is_causal": True}),
        (torch.bfloat16, {"attn_mask": torch.ones(7, 7, dtype=torch.bool).tril()}),
        (torch.bfloat16, {"dropout_p": 0.5}),
    ],
)
def test_what_is_not_plain_or_not_bfloat16_is_left_to_torch(dtype, options, backwards):
    with trained_attention(CPU, torch.bfloat16):
        gradients(parts(dtype), **options)
    assert not backwards


@pytest.mark.parametrize(
    ("device", "dtype"), [(CPU, torch.float32), (torch.device("cuda"), torch.bfloat16)]
)
def test_elsewhere_nothing_is_replaced(device, dtype, backwards):
    with trained_attention(device, dtype):
        gradients(parts())
    assert not backwards


def test_afterwards_nothing_is_replaced(backwards):
    with trained_attention(CPU, torch.bfloat16):
        pass
    gradients(parts())
    assert not backwards


def test_an_absent_mask_may_be_given_in_its_place(backwards):
    with trained_attention(CPU, torch.bfloat16):
        F.scaled_dot_product_attention(*parts(), None).float().sum().backward()
    assert backwards


@pytest.mark.parametrize(("precision", "used"), [("bfloat16", True), ("float32", False)])
def test_a_training_in_bfloat16_uses_it(tmp_path, backwards, precision, used):
    model, _ = plain_model(save_base(tmp_path / "clip", "clip"))
    tune(model, make_config("effort", {}, {}, where="test").tuning())
    Forward(model, precision)(torch.randn(2, 3, 32, 32))[1].sum().backward()
    assert bool(backwards) is used
