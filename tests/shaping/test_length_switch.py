"""The switch between the plain reward and a length penalty."""

import math

import pytest
import torch

from rlpost.errors import ConfigError
from rlpost.shaping.length_switch import best, length_switch

NAN = math.nan


def shaped(right, group, length, names=("correct",), weights=(1.0,), **knobs):
    rewards = torch.tensor(right)
    rewards = rewards[:, None] if rewards.dim() == 1 else rewards
    return length_switch(rewards, torch.tensor(weights), names, torch.tensor(group), torch.tensor(length), **knobs)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_only_the_group_that_is_solved_best_is_penalised():
    # group 9 solves 2 of 3, group 5 one of 3: half of two groups is one. Correct lengths 10 and 30: z = -1 and 1
    found = shaped([1.0, 0, 1, 0, 1, 0], [9, 5, 9, 9, 5, 5], [10, 50, 30, 70, 90, 20], share=0.5, alpha=0.4)
    wanted = [1 - 0.4 * sigmoid(-1), 0, 1 - 0.4 * sigmoid(1), 0, 1, 0]
    assert found[:, 0].tolist() == pytest.approx(wanted, rel=1e-6)


def test_the_deviation_is_of_n():
    # lengths 10, 20, 60: mean 30, variance (400 + 100 + 900) / 3
    found = shaped([1.0] * 3, [0] * 3, [10, 20, 60], share=1.0)[:, 0].tolist()
    assert found == pytest.approx([1 - 0.2 * sigmoid(d / math.sqrt(1400 / 3)) for d in (-20, -10, 30)], rel=1e-6)


def test_one_correct_row_or_equal_lengths_have_half_the_penalty():
    found = shaped([1.0, 0, 1, 1], [0, 0, 1, 1], [10, 90, 40, 40], share=1.0, alpha=0.3)
    assert found[:, 0].tolist() == pytest.approx([0.85, 0, 0.85, 0.85])


@pytest.mark.parametrize("knobs", [{"share": 0.0}, {"share": 1.0, "alpha": 0.0}])
def test_nothing_is_left_of_it(knobs):
    rewards = torch.tensor([[1.0], [0.5], [NAN], [1.0]])
    found = length_switch(rewards, torch.ones(1), ("a",), torch.zeros(4).long(), torch.tensor([1, 2, 3, 4]), **knobs)
    torch.testing.assert_close(found, rewards, equal_nan=True)


@pytest.mark.parametrize(("share", "wanted"), [(0.2, [3]), (0.21, [2, 3]), (0.6, [0, 2, 3]), (1.0, [0, 1, 2, 3, 4])])
def test_the_share_is_rounded_up_and_ties_go_by_number(share, wanted):
    """Rates of groups 0 to 4, rows in disorder; groups 0 and 4 tie."""
    group, rate = torch.tensor([4, 2, 0, 3, 1, 4]), torch.tensor([0.5, 0.1, 0.75, 0.9, 0.5])
    assert group[best(rate[group], group, share)].unique().tolist() == wanted
    order = torch.tensor([5, 3, 1, 4, 0, 2])
    assert best(rate[group[order]], group[order], share).tolist() == best(rate[group], group, share)[order].tolist()


def test_what_decides_and_what_is_multiplied():
    rewards, names = [[1.0, 0.5], [0.0, 2.0], [NAN, 0.5]], ("correct", "format")
    found = shaped(rewards, [0] * 3, [10, 20, 30], names, (1.0, 1.0), share=1.0, reward="correct")
    torch.testing.assert_close(found, torch.tensor([[0.9, 0.45], [0.0, 2.0], [NAN, 0.5]]), equal_nan=True)
    total = shaped(rewards, [0] * 3, [10, 20, 30], names, (1.0, 1.0), share=1.0)  # totals 1.5, 2 and .5
    factors = torch.tensor([1 - 0.2 * sigmoid(-1), 1 - 0.2 * sigmoid(1), 1.0])
    torch.testing.assert_close(total[:, 1], torch.tensor([0.5, 2.0, 0.5]) * factors)
    with pytest.raises(ConfigError, match="names the reward 'answer'"):
        shaped(rewards, [0] * 3, [1] * 3, names, (1.0, 1.0), reward="answer")
