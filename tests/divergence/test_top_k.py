"""Divergences on the frozen model's top k against sums by hand, the full forms and finite differences."""

import math

import pytest
import torch

from rlpost.divergence import top_k
from rlpost.divergence.full import forward_kl, reverse_kl
from rlpost.errors import ConfigError

P = torch.tensor([[0.1, 0.5, 0.3, 0.1]], dtype=torch.float64)
Q = torch.tensor([[0.2, 0.2, 0.2, 0.4]], dtype=torch.float64)
SHIFT = 2.5  # logits are free up to a constant
PAIRS = [
    (top_k.top_k_forward_kl, forward_kl),
    (top_k.top_k_reverse_kl, reverse_kl),
    (top_k.top_k_forward_kl_renormalized, forward_kl),
    (top_k.top_k_reverse_kl_renormalized, reverse_kl),
    (top_k.policy_top_k_reverse_kl, reverse_kl),
]


def kl(a, b):
    return sum(x * math.log(x / y) for x, y in zip(a, b, strict=True))


def test_values():
    """The top two of P are ids 1 and 2; the rest has 0.2 of P and 0.6 of Q."""
    given = P.log() + SHIFT, Q.log() - SHIFT
    bucket = [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]
    scaled = [0.625, 0.375], [0.5, 0.5]
    assert top_k.top_k_forward_kl(*given, k=2).item() == pytest.approx(kl(*bucket), rel=1e-12)
    assert top_k.top_k_reverse_kl(*given, k=2).item() == pytest.approx(kl(*bucket[::-1]), rel=1e-12)
    assert top_k.top_k_forward_kl_renormalized(*given, k=2).item() == pytest.approx(kl(*scaled), rel=1e-12)
    assert top_k.top_k_reverse_kl_renormalized(*given, k=2).item() == pytest.approx(kl(*scaled[::-1]), rel=1e-12)


def test_the_policys_own_top():
    """The top two of q are ids 3 and 1: q' = (4/7, 3/7) against p' = (1/6, 5/6)."""
    q = torch.tensor([[0.1, 0.3, 0.2, 0.4]], dtype=torch.float64)
    found = top_k.policy_top_k_reverse_kl(P.log() + SHIFT, q.log() - SHIFT, k=2).item()
    assert found == pytest.approx(kl([4 / 7, 3 / 7], [1 / 6, 5 / 6]), rel=1e-12)


@pytest.mark.parametrize("short, full", PAIRS)
def test_limits_and_gradients(short, full):
    p, q = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64).unbind(0)
    torch.testing.assert_close(short(p, q, k=6), full(p, q))
    torch.testing.assert_close(short(p, q, k=99), full(p, q))
    assert (short(p, q, k=2) > 0).all() and short(p, p, k=2).abs().max() < 1e-12
    assert torch.autograd.gradcheck(lambda x: short(p, x, k=2), q.clone().requires_grad_())
    with pytest.raises(ConfigError, match=r"divergence\.k=0 must be 1 or more"):
        short(p, q, k=0)


@pytest.mark.parametrize("short, full", PAIRS[:2])
def test_a_bucket_loses_information_and_one_token_in_it_none(short, full):
    p, q = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64).unbind(0)
    assert (short(p, q, k=2) < full(p, q)).all()
    torch.testing.assert_close(short(p, q, k=5), full(p, q))


def test_excluded_tokens_leave_finite_gradients():
    """p excludes ids 2 and 3, so its bucket is empty: the forward form counts it as 0."""
    p = torch.tensor([[0.0, 0.0, -torch.inf, -torch.inf]])
    q = torch.zeros(1, 4, requires_grad=True)
    value = top_k.top_k_forward_kl(p, q, k=2)
    assert value.item() == pytest.approx(math.log(2))
    assert torch.isfinite(torch.autograd.grad(value, q)[0]).all()
