"""The entropy bonus."""

import torch

from rlpost.regularizer.entropy import entropy_bonus


def test_value_pushes_entropy_up():
    entropy = torch.tensor([[0.3, 1.1]], requires_grad=True)
    loss = entropy_bonus(entropy)
    assert torch.autograd.grad(loss.value.sum(), entropy)[0].tolist() == [[-1, -1]]
    assert (
        torch.equal(loss.metrics["entropy"], torch.tensor([[0.3, 1.1]])) and not loss.metrics["entropy"].requires_grad
    )
