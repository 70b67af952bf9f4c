"""Only rethought rows that are better than their group are taught, whatever the size of their advantage."""

import torch

from rlpost.regularizer.rethought import rethought_nll


def test_selected_rows_only():
    logp = torch.tensor([[-1.0, -2.0], [-0.5, -4.0], [-0.2, -6.0], [-5.5, -3.0]], requires_grad=True)
    advantage = torch.tensor([[0.5], [0.01], [-0.3], [0.0]]).expand(4, 2)
    loss = rethought_nll(logp, advantage, ("policy", "rethought", "rethought", "rethought"))
    assert loss.value.tolist() == [[0, 0], [0.5, 4.0], [0, 0], [0, 0]]
    assert torch.autograd.grad(loss.value.sum(), logp)[0].tolist() == [[0, 0], [-1, -1], [0, 0], [0, 0]]
    assert loss.metrics["rethought"].tolist() == [[0, 0], [1, 1], [0, 0], [0, 0]]
