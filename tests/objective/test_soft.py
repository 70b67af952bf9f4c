"""CISPO against derived numbers, its stated gradient and its reduction."""

import torch
from hypothesis import given

from rlpost.objective.clipped import ppo_clip
from rlpost.objective.soft import cispo
from tests.strategies import field, seeds


def test_values_metrics_and_gradient():
    # r = .8/.1 = 8 (capped at 5), .3/.4 = .75, 6 (capped, negative advantage)
    logp = torch.tensor([[0.8, 0.3, 0.6]], dtype=torch.float64).log().requires_grad_()
    old = torch.tensor([[0.1, 0.4, 0.1]], dtype=torch.float64).log()
    a = torch.tensor([[0.5, -1.0, -3.0]], dtype=torch.float64)
    loss = cispo(logp, old, a)
    weight = torch.tensor([[5.0, 0.75, 5.0]], dtype=torch.float64)
    torch.testing.assert_close(loss.value, -weight * a * logp)
    torch.testing.assert_close(torch.autograd.grad(loss.value.sum(), logp)[0], -weight * a)
    torch.testing.assert_close(loss.metrics["ratio"], torch.tensor([[8.0, 0.75, 6.0]], dtype=torch.float64))
    assert loss.metrics["clip_high"].tolist() == [[1, 0, 0]]
    assert not any(m.requires_grad for m in loss.metrics.values())


def test_the_cap_is_the_knob():
    logp, old = torch.tensor([[-0.1]]), torch.tensor([[-1.1]])
    assert cispo(logp, old, torch.ones(1, 1), clip_high=2.0).value.item() == torch.tensor(0.2).item()


@given(seed=seeds)
def test_gradient_is_ppos_while_nothing_is_clipped(seed):
    old, a = field("old_logp", 3, 4, seed), field("advantage", 3, 4, seed)
    logp = (old + 0.1 * torch.tanh(field("advantage", 3, 4, seed + 1))).requires_grad_()
    soft = torch.autograd.grad(cispo(logp, old, a).value.sum(), logp)[0]
    torch.testing.assert_close(soft, torch.autograd.grad(ppo_clip(logp, old, a).value.sum(), logp)[0])
