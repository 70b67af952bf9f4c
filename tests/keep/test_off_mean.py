"""Rows that are worth what their group is."""

import torch

from rlpost.keep.groups import off_mean


def test_rows_at_their_groups_mean_leave():
    rewards = torch.tensor([[1.0, 0.0], [0.0, 4.0], [0.5, 1.0], [3.0, 0.0], [torch.nan, torch.nan], [2.0, torch.nan]])
    weights, group = torch.tensor([1.0, 0.5]), torch.tensor([0, 0, 0, 1, 1, 2])
    # totals 1, 2, 1 about 4/3; then 3 alone with one that nothing judges; then one alone
    assert off_mean(rewards, weights, group).tolist() == [True, True, True, False, True, False]
    near = torch.tensor([[1.0], [2.0], [1.5], [1.5]])
    kept = [off_mean(near, torch.ones(1), torch.zeros(4, dtype=torch.long), tolerance=t).tolist() for t in (1e-6, 0.5)]
    assert kept == [[True, True, False, False], [False] * 4]
