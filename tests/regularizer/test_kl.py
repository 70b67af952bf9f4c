"""The three estimates of KL: numbers by hand, unbiasedness under the policy, and their gradients."""

import math

import pytest
import torch

from rlpost.regularizer.kl import kl_k1, kl_k2, kl_k3

LOGP = torch.tensor([[0.5, 0.2]], dtype=torch.float64).log()
REF = torch.tensor([[0.25, 0.6]], dtype=torch.float64).log()
P = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
Q = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
KL = (P * (P / Q).log()).sum()


def test_values():
    two, third = math.log(2), math.log(1 / 3)
    torch.testing.assert_close(kl_k1(LOGP, REF).value, torch.tensor([[two, third]], dtype=torch.float64))
    torch.testing.assert_close(kl_k2(LOGP, REF).value, torch.tensor([[two**2 / 2, third**2 / 2]], dtype=torch.float64))
    # exp(-log 2) + log 2 - 1 and exp(log 3) - log 3 - 1
    wanted = torch.tensor([[0.5 + two - 1, 3 - math.log(3) - 1]], dtype=torch.float64)
    torch.testing.assert_close(kl_k3(LOGP, REF).value, wanted)
    for kl in (kl_k1, kl_k2, kl_k3):
        logp = LOGP.clone().requires_grad_()
        torch.testing.assert_close(kl(logp, REF).metrics["kl"], kl(LOGP, REF).value)
        assert not kl(logp, REF).metrics["kl"].requires_grad


@pytest.mark.parametrize("clamp", [None, 10.0])
def test_k3_is_bounded_with_zero_gradient_beyond(clamp):
    bound = 20.0 if clamp is None else clamp
    logp = torch.tensor([[-300.0, -0.1, -9.0]], requires_grad=True)
    value = kl_k3(logp, torch.tensor([[-0.1, -300.0, -9.5]]), clamp=clamp).value
    gradient = torch.autograd.grad(value.sum(), logp)[0]
    assert value[0, 0].item() == pytest.approx(math.exp(bound) - bound - 1, rel=1e-5)
    assert value[0, 1].item() == pytest.approx(bound - 1, rel=1e-5)
    assert gradient[0, :2].eq(0).all() and gradient[0, 2] > 0


def test_k1_and_k3_are_unbiased_and_k2_is_not():
    for kl, unbiased in ((kl_k1, True), (kl_k3, True), (kl_k2, False)):
        mean = (P * kl(P.log()[None], Q.log()[None]).value[0]).sum()
        assert torch.isclose(mean, KL, rtol=1e-9) == unbiased


def test_only_k2_has_the_gradient_of_the_divergence_on_policy():
    """sum_v p_v d value_v / d theta against d KL / d theta, theta the logits."""
    theta = P.log().requires_grad_()
    logp = torch.log_softmax(theta, -1)
    true = torch.autograd.grad((logp.exp() * (logp - Q.log())).sum(), theta)[0]
    for kl, wanted in ((kl_k1, torch.zeros(3, dtype=torch.float64)), (kl_k2, true)):
        logp = torch.log_softmax(theta, -1)
        found = torch.autograd.grad((P * kl(logp[None], Q.log()[None]).value[0]).sum(), theta)[0]
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
