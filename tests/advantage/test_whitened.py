"""Whitening over a step by hand, and the filter of outliers."""

import math

import pytest
import torch

from rlpost.advantage.whitened import whitened_within

MASK = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 1], [0, 0, 0]]).bool()


def test_tokens_are_what_is_averaged():
    # totals 2, 0 and .5 with 3, 1 and 2 tokens, one row without: mean 7/6, variance (12 + .5)/6 - 49/36
    rewards, weights = torch.tensor([[1.0, 0], [0, 0], [math.nan, 0.5], [1.0, 0]]), torch.tensor([2.0, 1.0])
    mean, deviation = 7 / 6, math.sqrt(12.5 / 6 - 49 / 36)
    found = whitened_within(rewards, weights, MASK)
    assert found.tolist() == pytest.approx([(r - mean) / deviation for r in (2, 0, 0.5, 2)], abs=1e-6)
    assert (found * MASK.sum(-1)).sum().item() == pytest.approx(0, abs=1e-6)


def test_outliers_and_their_limit():
    # 19 rows at 0, one at 1: mean .05, variance .05 * .95, so the odd one is at sqrt(19) = 4.36 deviations
    rewards, mask = torch.zeros(20, 1), torch.ones(20, 2, dtype=torch.bool)
    rewards[7] = 1.0
    found = whitened_within(rewards, torch.ones(1), mask)
    assert found[7] == 0 and found[0].item() == pytest.approx(-math.sqrt(1 / 19), abs=1e-6)
    for limit in (4.36, math.inf):
        assert whitened_within(rewards, torch.ones(1), mask, limit=limit)[7].item() == pytest.approx(math.sqrt(19))
    assert whitened_within(rewards, torch.ones(1), mask, limit=4.35)[7] == 0


def test_edges():
    one, two = torch.ones(1), torch.ones(4, 1)
    assert whitened_within(0.3 * two, one, MASK).eq(0).all(), "equal rewards: exactly 0"
    assert whitened_within(two * math.nan, one, MASK).eq(0).all()
    some = torch.tensor([[1.0], [0.0], [math.nan], [0.5]])
    # 1 with three tokens and 0 with one: mean 3/4, variance 3/16; the row without a reward and its two tokens are out
    wanted = [(r - 0.75) / math.sqrt(3 / 16) for r in (1, 0)]
    assert whitened_within(some, one, MASK)[:3].tolist() == pytest.approx([*wanted, 0])
    assert whitened_within(some[:, :], one, torch.zeros_like(MASK)).eq(0).all(), "nothing to train"
    near = torch.tensor([[0.0], [1e-3], [0.0], [0.0]])
    assert whitened_within(near, one, MASK, epsilon=1e-6).eq(0).all() and whitened_within(near, one, MASK)[1] > 1
    assert whitened_within(two, one, MASK).dtype == torch.float32
