"""Credit that leaves out reasoning which lost against none."""

import math

import pytest
import torch

from rlpost.advantage.group import group_zscore
from rlpost.advantage.superior import superior_zscore
from rlpost.errors import ConfigError

NAMES = ("constraints", "constraint_gain")
REWARDS = torch.tensor([[3.0, 1.0], [1.0, -1.0], [0.5, math.nan], [2.0, 0.0]])
WEIGHTS, GROUP = torch.tensor([1.0, 0.0]), torch.tensor([0, 0, 1, 1])


def test_by_hand():
    # z-scores of (3, 1) and (.5, 2): +-1/sqrt 2 up to epsilon; three of four rows stay, so each counts 4/3
    z = 4 / 3 / math.sqrt(2)
    found = superior_zscore(REWARDS, WEIGHTS, GROUP, NAMES, epsilon=0.0)
    torch.testing.assert_close(found, torch.tensor([z, 0.0, -z, z]))


def test_reductions_and_edges():
    none = REWARDS.clone()
    none[:, 1] = torch.tensor([0.0, 2.0, math.nan, 1.0])
    plain = group_zscore(none, WEIGHTS, GROUP)
    torch.testing.assert_close(superior_zscore(none, WEIGHTS, GROUP, NAMES), plain)
    none[:, 1] = -1.0
    assert superior_zscore(none, WEIGHTS, GROUP, NAMES).eq(0).all()
    with pytest.raises(ConfigError, match="reads the reward 'other', and there are constraints, constraint_gain"):
        superior_zscore(none, WEIGHTS, GROUP, NAMES, gain="other")
