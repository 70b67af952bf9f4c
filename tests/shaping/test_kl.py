"""The KL of a completion as part of its reward."""

import torch

from rlpost.shaping.kl import kl_penalty


def test_the_summed_masked_log_ratio_is_subtracted():
    old = torch.tensor([[-0.5, -1.0, -9.0], [-0.2, -0.4, -0.1]])
    ref = torch.tensor([[-1.5, -1.25, -1.0], [-0.1, -0.1, -0.1]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    # log-ratios: 1 + .25 = 1.25; -.1 - .3 + 0 = -.4
    found = kl_penalty(torch.tensor([[2.0], [0.0]]), torch.ones(1), old, ref, mask, beta=0.5)
    torch.testing.assert_close(found, torch.tensor([[1.375], [0.2]]))
    default = kl_penalty(torch.tensor([[2.0], [0.0]]), torch.tensor([4.0]), old, ref, mask)
    torch.testing.assert_close(default, torch.tensor([[2 - 0.0625 / 4], [0.02 / 4]]))
