"""Full-vocabulary divergences against sums by hand and a few exact properties."""

import math

import pytest
import torch
from hypothesis import given

from rlpost.divergence.full import forward_kl, js, reverse_kl
from tests.strategies import seeds


def test_values():
    p, q = torch.tensor([[0.5, 0.5]], dtype=torch.float64), torch.tensor([[0.8, 0.2]], dtype=torch.float64)
    shift = torch.tensor([[3.0]], dtype=torch.float64)  # logits are free up to a constant
    forward = 0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2)
    reverse = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    assert forward_kl(p.log() + shift, q.log() - shift).item() == pytest.approx(forward, rel=1e-9)
    assert reverse_kl(p.log() + shift, q.log()).item() == pytest.approx(reverse, rel=1e-9)
    m = [0.65, 0.35]
    half = sum(x * math.log(x / y) for x, y in zip([0.5, 0.5], m, strict=True))
    other = sum(x * math.log(x / y) for x, y in zip([0.8, 0.2], m, strict=True))
    assert js(p.log(), q.log() + shift).item() == pytest.approx((half + other) / 2, rel=1e-9)


@given(seed=seeds)
def test_properties(seed):
    p, q = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).unbind(0)
    torch.testing.assert_close(reverse_kl(p, q), forward_kl(q, p))
    torch.testing.assert_close(js(p, q), js(q, p))
    for divergence in (forward_kl, reverse_kl, js):
        assert (divergence(p, q) > 0).all() and divergence(p, p).abs().max() < 1e-12
        assert torch.autograd.gradcheck(divergence, (p, q.clone().requires_grad_()))


def test_excluded_tokens():
    p = torch.tensor([[0.0, -torch.inf, 0.0]])
    q = torch.tensor([[0.0, 0.0, 0.0]], requires_grad=True)
    value = forward_kl(p, q)
    assert value.item() == pytest.approx(math.log(1.5))
    assert torch.isfinite(torch.autograd.grad(value, q)[0]).all()
    assert js(torch.tensor([[0.0, -torch.inf]]), torch.tensor([[-torch.inf, 0.0]])).item() == pytest.approx(math.log(2))
