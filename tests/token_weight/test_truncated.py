"""Rows that hit the length limit."""

import torch

from rlpost import step
from rlpost.token_weight.truncated import mask_truncated
from tests import toy


def test_only_length_is_masked():
    mask = torch.ones(4, 2, dtype=torch.bool)
    assert mask_truncated(mask, ("eos", "length", "tool", "error")).tolist() == [[1, 1], [0, 0], [1, 1], [1, 1]]


def test_renormalise_takes_the_tokens_out_of_the_counts_but_not_out_of_the_group():
    mask, old = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0]]).bool(), -torch.ones(3, 3)
    rewards = torch.tensor([[0.0], [3.0], [1.5]])
    method = toy.recipe("dapo", "token_weight=[mask_truncated]")
    record = toy.scored(rewards, torch.zeros(3, dtype=torch.long), mask, old, stop=("eos", "length", "eos"))
    credit = step.score(record, method)
    counts = step.counts(credit.scored)
    assert (counts.rows, counts.tokens) == (3, 3)
    # the group's mean 1.5 and std 1.5 still count the truncated row
    torch.testing.assert_close(credit.scored.advantage[:, 0], torch.tensor([-1.5 / 1.5001, 0.0, 0.0]))
    logp = old.clone().requires_grad_()
    value, _ = step.loss(toy.batch(credit.scored, logp), method, counts)
    torch.testing.assert_close(
        torch.autograd.grad(value, logp)[0], torch.tensor([[1.5 / 1.5001 / 3] * 2 + [0.0], [0.0] * 3, [0.0] * 3])
    )
