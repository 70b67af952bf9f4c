"""The temporal and the length bonus on groups of uneven size, with an image group and columns that do not apply."""

import math

import pytest
import torch

from rlpost.advantage.group import group_zscore
from rlpost.errors import ConfigError
from rlpost.shaping.video import length_bonus, temporal_bonus

NAMES = ("multiple_choice", "ocr", "think_answer_format")
NAN = math.nan
# group 7: p = (1 + 0 + 1) / 3, q = (1 + 0) / 2. group 3: p = (0.4 + 0.05) / 2 = 0.225, q = 0.25. group 5: no contrast.
REWARDS = torch.tensor(
    [
        [1.0, NAN, 1.0],
        [0.0, NAN, 1.0],
        [1.0, NAN, 0.0],
        [1.0, NAN, 1.0],
        [0.0, NAN, 1.0],
        [NAN, 0.4, 1.0],
        [NAN, 0.05, 0.0],
        [NAN, 0.25, 1.0],
        [1.0, NAN, 1.0],
        [1.0, NAN, 1.0],
    ]
)
GROUP = torch.tensor([7, 7, 7, 7, 7, 3, 3, 3, 5, 5])
ROLE = ("policy", "policy", "policy", "contrast", "contrast", "policy", "policy", "contrast", "policy", "policy")
LENGTH = torch.tensor([320, 400, 319, 400, 400, 512, 400, 400, 513, 512])


def gain(after: torch.Tensor) -> list[list[float]]:
    assert torch.equal(torch.isnan(after), torch.isnan(REWARDS))
    return torch.nan_to_num(after - REWARDS).tolist()


def expected(*rows: int, column: int, bonus: float) -> list[list[float]]:
    table = torch.zeros_like(REWARDS)
    for row in rows:
        table[row, column] = bonus
    return table.tolist()


def test_correct_ordered_answers_earn_the_temporal_bonus():
    after = gain(temporal_bonus(REWARDS, NAMES, GROUP, ROLE))
    torch.testing.assert_close(torch.tensor(after), torch.tensor(expected(0, 2, column=0, bonus=0.3)))


def test_mu_of_the_code_is_more_generous():
    """0.225 >= 0.8 * 0.25 but not >= 1.0 * 0.25: the row of 0.4 in group 3 earns it, that of 0.05 never does."""
    after = torch.tensor(gain(temporal_bonus(REWARDS, NAMES, GROUP, ROLE, mu=0.8)))
    wanted = torch.tensor(expected(0, 2, column=0, bonus=0.3)) + torch.tensor(expected(5, column=1, bonus=0.3))
    torch.testing.assert_close(after, wanted)


def test_equal_accuracies_pass():
    rewards, group = torch.tensor([[1.0], [0.0], [1.0], [0.0]]), torch.tensor([0, 0, 0, 0])
    role = ("policy", "policy", "contrast", "contrast")
    assert temporal_bonus(rewards, ("ocr",), group, role, columns=("ocr",)).flatten().tolist() == pytest.approx(
        [1.3, 0.0, 1.0, 0.0]
    )


def test_nobody_earns_in_a_group_that_is_all_wrong():
    rewards, group = torch.zeros(3, 1), torch.tensor([0, 0, 0])
    assert temporal_bonus(rewards, ("ocr",), group, ("policy", "policy", "contrast")).sum() == 0


def test_a_little_partial_credit_is_enough():
    """0.12 lies above the threshold of 0.1 whatever other columns there are; p = 0.12 and q = 0."""
    rewards = torch.tensor([[NAN, 0.12, 1.0], [NAN, 0.0, 1.0]])
    after = temporal_bonus(rewards, NAMES, torch.tensor([4, 4]), ("policy", "contrast"))
    assert after[:, 1].tolist() == pytest.approx([0.42, 0.0])


def test_moderate_lengths_earn_when_more_than_one_is_correct():
    """Group 7 solves rows 0 and 2 (320 and 319 tokens), group 3 only row 5, group 5 both rows (513 and 512 tokens)."""
    after = gain(length_bonus(REWARDS, NAMES, GROUP, ROLE, LENGTH))
    torch.testing.assert_close(torch.tensor(after), torch.tensor(expected(0, 9, column=0, bonus=0.2)))


@pytest.mark.parametrize("bonus", [temporal_bonus, lambda *a, **k: length_bonus(*a, LENGTH, **k)])
def test_no_bonus_changes_nothing(bonus):
    assert torch.equal(torch.nan_to_num(bonus(REWARDS, NAMES, GROUP, ROLE, bonus=0.0)), torch.nan_to_num(REWARDS))


def test_row_order_does_not_matter():
    order = torch.tensor([9, 3, 5, 0, 7, 2, 8, 1, 6, 4])
    roles = tuple(ROLE[i] for i in order)
    shuffled = temporal_bonus(REWARDS[order], NAMES, GROUP[order], roles, mu=0.8)
    straight = temporal_bonus(REWARDS, NAMES, GROUP, ROLE, mu=0.8)[order]
    assert torch.equal(torch.nan_to_num(shuffled), torch.nan_to_num(straight))


def test_a_run_without_accuracy_rewards_is_told():
    with pytest.raises(ConfigError, match="name the accuracy rewards"):
        temporal_bonus(REWARDS, ("a", "b", "c"), GROUP, ROLE)


def test_group_zscore_cancels_the_bonus_where_answers_are_right_or_wrong():
    """Rewards (1, 0, 1, 0) and (1.3, 0, 1.3, 0) have the same z-scores up to the epsilon of 1e-4."""
    rewards = torch.tensor([[1.0], [0.0], [1.0], [0.0], [0.0]])
    group, role = torch.zeros(5, dtype=torch.long), ("policy",) * 4 + ("contrast",)
    after = temporal_bonus(rewards, ("ocr",), group, role)
    weights = torch.ones(1)
    plain, bonus = (group_zscore(r[:4], weights, group[:4]) for r in (rewards, after))
    assert after[0, 0] == pytest.approx(1.3)
    torch.testing.assert_close(plain, bonus, rtol=0, atol=1e-4)
