"""Truncated importance sampling."""

import torch

from rlpost.token_weight.importance import tis


def test_ratio_is_trainer_over_sampler_and_capped():
    gen, old = torch.tensor([[0.5, 0.2, 0.4]]).log(), torch.tensor([[0.6, 0.8, 0.1]]).log().requires_grad_()
    weight = tis(gen, old)
    torch.testing.assert_close(weight, torch.tensor([[1.2, 2.0, 0.25]]))
    assert not weight.requires_grad
    torch.testing.assert_close(tis(gen, old, cap=1.1)[0, :2], torch.tensor([1.1, 1.1]))
    assert tis(gen, gen).eq(1).all()
