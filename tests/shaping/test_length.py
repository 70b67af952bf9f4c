"""DAPO's soft overlong punishment."""

import torch

from rlpost.shaping.length import soft_overlong

ONE = torch.ones(1)


def test_the_papers_own_numbers():
    # L_max 20480, L_cache 4096: free up to 16384, half way at 18432, -1 at the limit and beyond
    length = torch.tensor([100, 16384, 17408, 18432, 20480, 30000])
    found = soft_overlong(torch.ones(6, 1), ONE, length, max_tokens=20480)
    torch.testing.assert_close(found[:, 0], 1 + torch.tensor([0, 0, -0.25, -0.5, -1, -1]))


def test_the_stretch_is_a_fraction_and_the_total_moves():
    rewards = torch.tensor([[1.0, float("nan")], [1.0, 2.0]])
    found = soft_overlong(rewards, torch.tensor([2.0, 1.0]), torch.tensor([9, 9]), max_tokens=10, cache_fraction=0.4)
    # penalty (10 - 4 - 9)/4 = -0.75: alone over weight 2, together over weight 3
    torch.testing.assert_close(found[1], torch.tensor([0.75, 1.75]))
    assert found[0, 0].item() == 0.625 and found[0, 1].isnan()
