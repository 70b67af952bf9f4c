"""Advantages as targets: uneven groups, weights, rows without a reward, limits."""

import math

import pytest
import torch

from rlpost.advantage.group import group_centred
from rlpost.advantage.target import optimal_advantage, population_zscore

NAN, F64 = math.nan, torch.float64
GROUP = torch.tensor([4, 4, 4, 4, 1, 1, 7])
REWARDS = torch.tensor([[1.0, 1], [0, 2], [NAN, 0], [NAN, NAN], [3, 1], [3, 1], [5, 5]], dtype=F64)
ALONE = torch.full((7,), -1)
WEIGHTS = torch.tensor([2.0, 0.5], dtype=F64)  # totals 2.5, 1, 0, none, 6.5, 6.5, 12.5


def test_population_zscore():
    found = population_zscore(REWARDS, WEIGHTS, GROUP)
    mean = 3.5 / 3
    std = math.sqrt(((2.5 - mean) ** 2 + (1 - mean) ** 2 + mean**2) / 3)
    wanted = [(2.5 - mean) / std, (1 - mean) / std, -mean / std, 0, 0, 0, 0]
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)
    assert (found[:3] ** 2).mean().item() == pytest.approx(1, rel=1e-5)


def test_optimal_advantage():
    found = optimal_advantage(REWARDS, WEIGHTS, GROUP, ALONE, beta1=0.8)
    value = 0.8 * math.log((math.exp(2.5 / 0.8) + math.exp(1 / 0.8) + 1) / 3)
    assert found.tolist() == pytest.approx([2.5 - value, 1 - value, -value, 0, 0, 0, 0])
    centred = group_centred(REWARDS, WEIGHTS, GROUP)
    torch.testing.assert_close(optimal_advantage(REWARDS, WEIGHTS, GROUP, ALONE, beta1=1e7), centred, atol=1e-6, rtol=0)
    greedy = optimal_advantage(REWARDS, WEIGHTS, GROUP, ALONE, beta1=1e-4)
    assert greedy.tolist() == pytest.approx([0, -1.5, -2.5, 0, 0, 0, 0], abs=2e-4)


def test_a_rollout_of_several_rows_counts_once():
    """One rollout with reward 1 in three rows, one of them unjudged, and one with 0: value log((e^2 + 1) / 2) / 2."""
    rewards = torch.tensor([[1.0], [0.0], [NAN], [1.0]], dtype=F64)
    group, one = torch.zeros(4, dtype=torch.long), torch.ones(1, dtype=F64)
    value = 0.5 * math.log((math.exp(2) + 1) / 2)
    found = optimal_advantage(rewards, one, group, torch.tensor([3, 0, 3, 3]))
    assert found.tolist() == pytest.approx([1 - value, -value, 0, 1 - value])
    rows = optimal_advantage(rewards, one, group, torch.tensor([-1, -1, -1, -1]))
    assert rows[1].item() == pytest.approx(-0.5 * math.log((2 * math.exp(2) + 1) / 3))


def test_defaults():
    plain = population_zscore(REWARDS, WEIGHTS, GROUP)
    assert torch.equal(plain, population_zscore(REWARDS, WEIGHTS, GROUP, epsilon=1e-6))
    value = optimal_advantage(REWARDS, WEIGHTS, GROUP, ALONE)
    assert torch.equal(value, optimal_advantage(REWARDS, WEIGHTS, GROUP, ALONE, beta1=0.5))
