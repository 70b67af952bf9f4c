"""dft: a token pulls in proportion to its probability, so odd labels are not learnt."""

import pytest
import torch

from rlpost.sft_loss.token import dft, nll
from tests.claims.small import noisy_labels


def test_the_pull_of_an_odd_label_is_a_thousandth():
    logp = torch.tensor([[1e-3]]).log().requires_grad_()
    pull = {f: torch.autograd.grad(f(logp).value.sum(), logp)[0].abs().item() for f in (nll, dft)}
    assert pull[nll] == pytest.approx(1.0) and pull[dft] == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_odd_labels_stay_unlikely_while_the_others_are_learnt(seed):
    _, good, odd = noisy_labels(lambda logp, _: dft(logp), seed)
    assert good > 0.9 and odd < 0.02
    assert noisy_labels(lambda logp, _: nll(logp), seed)[2] > 0.95
