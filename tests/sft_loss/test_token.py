"""Supervised losses: values, stated gradients, reductions."""

import torch

from rlpost.sft_loss.token import asft, dft, nll, phi

LOGP = torch.tensor([[0.8, 0.001]], dtype=torch.float64).log()
KL = torch.tensor([[0.3, 2.0]], dtype=torch.float64)


def gradient(make):
    logp = LOGP.clone().requires_grad_()
    return torch.autograd.grad(make(logp).value.sum(), logp)[0]


def test_values():
    p = LOGP.exp()
    assert torch.equal(nll(LOGP).value, -LOGP)
    torch.testing.assert_close(dft(LOGP).value, -p * LOGP)
    torch.testing.assert_close(asft(LOGP, KL, anchor=0.5).value, -p * LOGP + torch.tensor([[0.15, 1.0]]))
    torch.testing.assert_close(asft(LOGP, KL).value, -p * LOGP + torch.tensor([[0.015, 0.1]]))
    torch.testing.assert_close(asft(LOGP, KL).metrics["kl"], KL)
    torch.testing.assert_close(dft(LOGP).metrics["probability"], p)


def test_gradients():
    torch.testing.assert_close(gradient(nll), torch.tensor([[-1.0, -1.0]], dtype=torch.float64))
    torch.testing.assert_close(gradient(dft), -LOGP.exp())
    torch.testing.assert_close(gradient(lambda logp: asft(logp, KL)), -LOGP.exp())
    kl = KL.clone().requires_grad_()
    loss = asft(LOGP, kl, anchor=0.2)
    torch.testing.assert_close(torch.autograd.grad(loss.value.sum(), kl)[0], torch.full_like(KL, 0.2))
    assert not loss.metrics["kl"].requires_grad


def test_reductions():
    sure = torch.zeros(1, 2, dtype=torch.float64)
    assert torch.equal(dft(sure).value, nll(sure).value)
    torch.testing.assert_close(asft(LOGP, KL, anchor=0.0).value, dft(LOGP).value)


def test_phi_by_hand():
    logp = torch.tensor([[0.5, 0.2, 0.9]], dtype=torch.float64).log().requires_grad_()
    # p(1-p): 1/4 at a half, its largest, .16 at .2, .09 at .9
    weight = torch.tensor([[0.25, 0.16, 0.09]], dtype=torch.float64)
    found = phi(logp)
    torch.testing.assert_close(found.value, -weight * logp)
    torch.testing.assert_close(torch.autograd.grad(found.value.sum(), logp)[0], -weight)
    torch.testing.assert_close(found.metrics["probability"], logp.detach().exp())
    certain = torch.tensor([[1.0, 1e-30]], dtype=torch.float64).log()
    assert phi(certain).value.abs().max() < 1e-27


def test_phi_leaves_alone_what_exceeds_the_cutoff():
    logp = torch.tensor([[0.9, 0.6]], dtype=torch.float64).log().requires_grad_()
    gradient = torch.autograd.grad(phi(logp, cutoff=0.7).value.sum(), logp)[0]
    torch.testing.assert_close(gradient, torch.tensor([[0.0, -0.24]], dtype=torch.float64))
