"""Pairwise advantages: the identity with GRPO, a circle, uneven groups."""

import math

import pytest
import torch

from rlpost.advantage.group import group_zscore
from rlpost.advantage.pairs import pair_zscore

NAN, F64 = math.nan, torch.float64


@pytest.mark.parametrize("seed", range(5))
def test_differences_of_rewards_give_the_group_z_score(seed):
    r = torch.randn(7, generator=torch.Generator().manual_seed(seed), dtype=F64)
    group = torch.tensor([4, 4, 4, 4, 1, 1, 1])
    d = torch.full((7, 4), NAN, dtype=F64)
    d[:4], d[4:, :3] = r[:4, None] - r[None, :4], r[4:, None] - r[None, 4:]
    wanted = group_zscore(r[:, None], torch.ones(1, dtype=F64), group, epsilon=0.0)
    torch.testing.assert_close(pair_zscore(d, group, epsilon=0.0), wanted, atol=1e-9, rtol=0)
    # with its epsilon the two differ by less than 1e-6 / (2 std^2), relatively
    torch.testing.assert_close(pair_zscore(d, group), wanted, atol=1e-9, rtol=2e-5)


def test_a_circle_teaches_nothing():
    circle = torch.tensor([[0.0, 1, -1], [-1, 0, 1], [1, -1, 0]])
    assert pair_zscore(circle, torch.zeros(3).long()).tolist() == [0, 0, 0]


def test_golden_values_of_uneven_verdicts():
    d = torch.tensor([[0.0, 3, 2], [-3, 0, 2], [-2, -2, 0], [0.0, -1, NAN], [1.0, 0, NAN], [0.0, NAN, NAN], [NAN] * 3])
    found = pair_zscore(d, torch.tensor([8, 8, 8, 2, 2, 5, 8]))
    # means 5/3, -1/3, -4/3; squares over 2 G (G - 1) = 12; the unjudged row of the same group is not there
    spread = math.sqrt((9 + 4 + 9 + 4 + 4 + 4) / 12)
    wanted = [5 / 3 / spread, -1 / 3 / spread, -4 / 3 / spread]
    # the pair: means -1/2 and 1/2, spread (1 + 1) / 4; alone and unjudged: 0
    assert found.tolist() == pytest.approx([*wanted, -0.5 / math.sqrt(0.5), 0.5 / math.sqrt(0.5), 0, 0], rel=1e-5)


def test_a_group_of_equals_is_zero():
    assert pair_zscore(torch.zeros(2, 2), torch.zeros(2).long()).tolist() == [0, 0]
