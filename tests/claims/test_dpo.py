"""dpo: what it starts from, and what it converges to."""

import math

import pytest
import torch
from torch.nn.functional import log_softmax

from rlpost.preference.direct import dpo

ONE = torch.ones(1, 1, dtype=torch.bool)


def pair(logits, reference, first, second):
    logp, ref = log_softmax(logits, -1), log_softmax(reference, -1)
    rows = [logp[first], logp[second], ref[first], ref[second]]
    chosen, rejected, ref_chosen, ref_rejected = (x.reshape(1, 1) for x in rows)
    return chosen, rejected, ONE, ONE, ref_chosen, ref_rejected


def test_at_the_reference_the_loss_is_log_two_and_the_weight_a_half():
    reference = torch.tensor([0.3, -1.2], dtype=torch.float64)
    logits = reference.clone().requires_grad_()
    loss = dpo(*pair(logits, reference, 0, 1), beta=0.4)
    assert loss.value.item() == pytest.approx(math.log(2))
    # d h / d logits = beta * (1, -1), times minus one half
    assert torch.autograd.grad(loss.value.sum(), logits)[0].tolist() == pytest.approx([-0.2, 0.2])


@pytest.mark.parametrize("seed", range(5))
def test_the_policy_ratio_converges_to_the_closed_form(seed):
    """Labels by Bradley-Terry with reward difference dr: p1/p2 becomes (ref1/ref2) * exp(dr/beta), within 2%."""
    rng = torch.Generator().manual_seed(seed)
    reference = torch.randn(2, generator=rng, dtype=torch.float64)
    dr, beta = torch.rand((), generator=rng, dtype=torch.float64).item() - 0.3, 0.5
    first = 1 / (1 + math.exp(-dr))
    logits = reference.clone().requires_grad_()
    optimizer = torch.optim.SGD([logits], lr=2.0)
    for _ in range(500):
        optimizer.zero_grad()
        value = first * dpo(*pair(logits, reference, 0, 1), beta=beta).value
        (value + (1 - first) * dpo(*pair(logits, reference, 1, 0), beta=beta).value).sum().backward()
        optimizer.step()
    ratio = (logits[0] - logits[1]).exp().item()
    assert ratio == pytest.approx((reference[0] - reference[1]).exp().item() * math.exp(dr / beta), rel=0.02)
