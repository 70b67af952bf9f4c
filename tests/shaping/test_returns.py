"""Returns along trajectories that a mistake cuts."""

import pytest
import torch

from rlpost.errors import ConfigError
from rlpost.shaping.returns import discounted_return

NAMES = ("other", "action_return")
NAN = float("nan")


def test_chains_of_two_trajectories():
    """Trajectory 0 of group 1: 1, 0.9, 1 in the wrong order: 1 + 0.5 (0.9 + 0.5) = 1.7, 1.4, 1; trajectory 1 has a
    mistake at its end, so that the step before it has its own 1; group 2 has a gap in the reward."""
    r = torch.tensor([1.0, 1.0, 0.9, 1.0, 0.55, 1.0, NAN, 1.0])
    group = torch.tensor([1, 1, 1, 1, 1, 2, 2, 2])
    trajectory = torch.tensor([0, 0, 0, 1, 1, 0, 0, 0])
    index = torch.tensor([2, 0, 1, 0, 1, 0, 1, 2])
    other = torch.arange(8.0)
    found = discounted_return(torch.stack([other, r], dim=1), NAMES, group, trajectory, index)
    assert torch.equal(found[:, 0], other)
    wanted = torch.tensor([1.0, 1.7, 1.4, 1.0, 0.55, 1.0, NAN, 1.0])
    torch.testing.assert_close(found[:, 1], wanted, equal_nan=True)
    plain = discounted_return(torch.stack([other, r], dim=1), NAMES, group, trajectory, index, gamma=0.0)
    torch.testing.assert_close(plain[:, 1], r, equal_nan=True)


def test_an_unknown_reward():
    with pytest.raises(ConfigError, match="'action_return'"):
        discounted_return(torch.ones(1, 1), ("other",), *[torch.zeros(1).long()] * 3)
