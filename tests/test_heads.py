import pytest
import torch
from torch.nn import functional as F

from unmask.errors import ConfigError
from unmask.models.heads import Head, new_head


def test_two_outputs_give_their_difference_as_the_logit():
    head = new_head(5, 2, seed=3)
    x = torch.randn(4, 5)
    outputs = head.linear(x)
    torch.testing.assert_close(torch.sigmoid(head(x)), outputs.softmax(-1)[:, 1])


def test_one_output_is_the_logit():
    head = new_head(5, 1, seed=3)
    x = torch.randn(4, 5)
    torch.testing.assert_close(head(x), head.linear(x)[:, 0])


def test_normalising_makes_the_length_of_the_feature_irrelevant():
    head = new_head(5, 2, seed=3, normalize=True)
    x = torch.randn(4, 5)
    torch.testing.assert_close(head(x), head(7 * x))


def test_a_head_computes_in_float32_also_after_a_cast():
    head = new_head(64, 1, seed=0)
    x = torch.randn(4, 64)
    assert head.to(torch.bfloat16)(x.to(torch.bfloat16)).dtype == torch.float32


def test_the_same_seed_gives_the_same_head():
    assert torch.equal(new_head(9, 2, 5).linear.weight, new_head(9, 2, 5).linear.weight)
    assert not torch.equal(new_head(9, 2, 5).linear.weight, new_head(9, 2, 6).linear.weight)


def test_a_new_head_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    new_head(9, 2, 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_several_outputs_give_the_probability_of_all_fakes():
    head = Head(4, 5, fakes=2)
    x = torch.randn(3, 4)
    p_fake = F.linear(x, head.linear.weight, head.linear.bias).softmax(dim=1)[:, -2:].sum(dim=1)
    torch.testing.assert_close(torch.sigmoid(head(x)), p_fake)


@pytest.mark.parametrize(("outputs", "fakes"), [(0, 1), (1, 2), (2, 2), (3, 0), (1, 0)])
def test_a_head_without_real_or_without_fake_is_refused(outputs, fakes):
    with pytest.raises(ConfigError, match="several of which some are fake"):
        Head(4, outputs, fakes=fakes)
