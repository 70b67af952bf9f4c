"""The decaying reward of a serial group."""

import pytest
import torch

from rlpost.advantage.group import group_centred
from rlpost.errors import ConfigError
from rlpost.shaping.exits import exit_decay

ONE, NAME = torch.ones(1), ("right",)


def shaped(right, index, group=None, **knobs):
    group = torch.zeros(len(right), dtype=torch.long) if group is None else torch.tensor(group)
    return exit_decay(torch.tensor(right)[:, None], ONE, NAME, group, torch.tensor(index), **knobs)[:, 0]


def test_the_papers_series():
    found = shaped([0.0, 1, 1, 0, 1], [0, 1, 2, 3, 4])
    assert found.tolist() == [0, 1, 0.5, 0, 0.25]
    credit = group_centred(found[:, None], ONE, torch.zeros(5, dtype=torch.long))
    assert credit.tolist() == pytest.approx([-0.35, 0.65, 0.15, -0.35, -0.10])


def test_the_order_is_that_of_the_index_within_each_group():
    """Rows of two groups in disorder: the whole completion (index 2) may stand first."""
    found = shaped([1.0, 1, 1, 1, 0, 1], [2, 0, 1, 0, 1, 2], group=[5, 5, 5, 3, 3, 3], decay=0.1)
    assert found.tolist() == pytest.approx([0.01, 1, 0.1, 1, 0, 0.1])


def test_decay_one_and_groups_that_are_no_series_stay():
    assert shaped([1.0, 1, 0], [0, 1, 2], decay=1.0).tolist() == [1, 1, 0]
    assert shaped([1.0, 1, 0], [0, 0, 0]).tolist() == [1, 1, 0]


def test_what_decides_and_what_decays():
    """`right` decides; the format column of correct rows decays with it, that of wrong rows does not."""
    nan = float("nan")
    rewards = torch.tensor([[1.0, 0.5], [0.0, 0.5], [1.0, 0.5], [nan, 0.5], [nan, nan]])
    args = (rewards, torch.tensor([1.0, 2.0]), ("right", "format"), torch.zeros(5, dtype=torch.long), torch.arange(5))
    found = exit_decay(*args, reward="right")
    wanted = torch.tensor([[1.0, 0.5], [0.0, 0.5], [0.5, 0.25], [nan, 0.5], [nan, nan]])
    torch.testing.assert_close(found, wanted, equal_nan=True)
    # Totals are 2, 1, 2, 1, NaN: at threshold 1 all four count.
    total = exit_decay(*args)
    torch.testing.assert_close(total[:4, 1], torch.tensor([0.5, 0.25, 0.125, 0.0625]))
    assert total[4].isnan().all()
    with pytest.raises(ConfigError, match="names the reward 'wrong'"):
        exit_decay(*args, reward="wrong")
