"""Credit over trajectories of several rows."""

import pytest
import torch

from rlpost.advantage.group import group_zscore
from rlpost.advantage.turns import trajectory_zscore

NAN, W = float("nan"), torch.tensor([1.0])


def table(values: list[float]) -> torch.Tensor:
    return torch.tensor(values)[:, None]


def test_a_trajectory_counts_once():
    """Ends 1, 0, 1 of trajectories with 2, 1 and 3 rows: mean 2/3, deviation sqrt(1/3); group 5 has one of 2 and 4."""
    rewards = table([9.0, 1.0, 0.0, 9.0, 9.0, 1.0, 2.0, 4.0])
    group = torch.tensor([3, 3, 3, 3, 3, 3, 5, 5])
    trajectory, index = torch.tensor([0, 0, 1, 2, 2, 2, 0, 1]), torch.tensor([0, 1, 0, 0, 1, 2, 0, 0])
    s, h = 3**0.5, 0.5**0.5
    wanted = [s / 3, s / 3, -2 * s / 3, s / 3, s / 3, s / 3, -h, h]
    found = trajectory_zscore(rewards, W, group, trajectory, index, epsilon=0.0)
    assert found.tolist() == pytest.approx(wanted, abs=1e-6)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    shuffled = trajectory_zscore(rewards[order], W, group[order], trajectory[order], index[order], epsilon=0.0)
    assert shuffled.tolist() == pytest.approx(found[order].tolist(), abs=1e-6)


def test_single_rows_are_grpo():
    rewards, group = table([1.0, 0.5, NAN, -2.0, 3.0, 1.0]), torch.tensor([0, 0, 0, 1, 1, 2])
    found = trajectory_zscore(rewards, W, group, torch.arange(6), torch.zeros(6).long(), epsilon=1e-4)
    assert torch.equal(found, group_zscore(rewards, W, group, epsilon=1e-4)) and found[2] == found[5] == 0
