"""The distance to the old policy: two estimates by hand, exact in expectation, and their gradients."""

import math

import torch

from rlpost.regularizer.old import kl_old, kl_old_k3

OLD = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
NEW = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)


def test_values():
    logp, old = torch.tensor([[-1.0, -0.5]]), torch.tensor([[-0.7, -0.6]])
    torch.testing.assert_close(kl_old(logp, old).value, torch.tensor([[0.3, -0.1]]))
    wanted = torch.tensor([[math.exp(-0.3) + 0.3 - 1, math.exp(0.1) - 0.1 - 1]])
    torch.testing.assert_close(kl_old_k3(logp, old).value, wanted)
    torch.testing.assert_close(kl_old(logp, old).metrics["kl_old"], torch.tensor([[0.3, -0.1]]))


def test_in_expectation_over_the_old_policy_both_are_its_divergence():
    exact = (OLD * (OLD / NEW).log()).sum()
    logits = NEW.log().requires_grad_()
    logp = torch.log_softmax(logits, -1)
    for term in (kl_old, kl_old_k3):
        value = (OLD * term(logp, OLD.log()).value).sum()
        torch.testing.assert_close(value, exact)
        # d KL(old || softmax) / d logits = new - old
        torch.testing.assert_close(torch.autograd.grad(value, logits, retain_graph=True)[0], NEW - OLD)
