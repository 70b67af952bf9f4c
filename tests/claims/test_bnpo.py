"""bnpo: a token mean per micro-batch, which gives tokens of a short micro-batch more weight."""

import pytest
import torch

from rlpost import step
from tests import toy


def test_the_weight_of_a_token_depends_on_its_micro_batch():
    mask = torch.arange(6) < torch.tensor([2, 2, 6, 6])[:, None]
    old = -torch.ones(4, 6)
    record = toy.scored(torch.zeros(4, 1), torch.tensor([0, 0, 1, 1]), mask, old, advantage=mask.float())
    logp = old.clone().requires_grad_()
    for name, ratio in (("bnpo", 3.0), ("dapo", 1.0)):
        method, counts = toy.recipe(name), step.counts(record, micro_batches=2)
        parts = [
            step.loss(toy.batch(record, logp[r], r), method, counts)[0] for r in (torch.arange(2), torch.arange(2, 4))
        ]
        gradient = torch.autograd.grad(sum(parts), logp)[0]
        assert (gradient[0, 0] / gradient[2, 0]).item() == pytest.approx(ratio)
