"""Filling a step up from earlier rows, by hand."""

import random

import pytest
import torch

from rlpost.errors import ConfigError
from rlpost.replay.quota import Quota
from tests import toy


def rows(*advantages):
    n = len(advantages)
    mask = torch.ones(n, 2, dtype=torch.bool)
    table = toy.scored(torch.zeros(n, 1), torch.arange(n), mask, -torch.ones(n, 2))
    return type(table)(**{**vars(table), "advantage": torch.tensor(advantages).float().reshape(n, 1).expand(n, 2)})


def test_own_rows_with_credit_and_earlier_ones_up_to_the_quota():
    plan, fresh, stored = Quota(quota=5), rows(1.0, 0.0, -2.0), rows(0.5, 0.5, 0.5, 0.5)
    for seed in range(5):
        own, earlier = plan.pick(fresh, stored, random.Random(seed))
        assert own == [0, 2] and len(set(earlier)) == 3
    assert {tuple(plan.pick(fresh, stored, random.Random(seed))[1]) for seed in range(40)} == {
        (0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)
    }  # fmt: skip
    assert plan.pick(fresh, rows(1.0), random.Random(0)) == ([0, 2], [0])
    assert Quota(quota=1).pick(fresh, stored, random.Random(0)) == ([0, 2], [])
    assert plan.pick(rows(0.0), rows(), random.Random(0)) == ([], [])


def test_the_newest_rows_stay():
    stored = rows(1.0, 1.0, 1.0, 1.0)
    assert Quota(quota=4).hold(rows(1.0, 0.0, 2.0), stored) == ([0, 2], [2, 3])
    assert Quota(quota=4, buffer=2.0).hold(rows(1.0, 2.0), stored) == ([0, 1], [0, 1, 2, 3])
    assert Quota(quota=2).hold(rows(1.0, 2.0, 3.0), stored) == ([1, 2], [])
    assert Quota(quota=2, buffer=0.0).hold(rows(1.0), stored) == ([], [])
    for knobs in ({"quota": 0}, {"buffer": -1.0}):
        with pytest.raises(ConfigError, match="must be 1 or more rows"):
            Quota(**knobs)
