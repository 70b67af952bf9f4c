"""The cosine reward."""

import math

import pytest
import torch

from rlpost.errors import ConfigError
from rlpost.shaping.cosine import cosine_length

NAN = math.nan


def shaped(right, length, **knobs):
    return cosine_length(torch.tensor(right)[:, None], ("correct",), torch.tensor(length), max_tokens=100, **knobs)[
        :, 0
    ]


def test_the_papers_table():
    # at 0, a third, a half of the limit: cos is 1, 1/2, 0, so the part of `short` is 1, 3/4, 1/2
    found = cosine_length(
        torch.tensor([[1.0], [1.0], [1.0], [0.0], [0.0], [0.0]]), ("correct",), torch.tensor([0, 30, 45] * 2),
        max_tokens=90,
    )  # fmt: skip
    assert found[:, 0].tolist() == pytest.approx([2, 1.75, 1.5, -10, -7.5, -5], abs=1e-5)


def test_just_below_the_limit_is_long_and_at_it_exceeded():
    found = shaped([1.0, 0.0, 1.0, 0.0, 1.0], [99, 99, 100, 100, 130], exceeded=-7.0)
    small = (1 + math.cos(0.99 * math.pi)) / 2
    assert found.tolist() == pytest.approx([1 + small, -10 * small, -7, -7, -7], abs=1e-5)


def test_the_margin_comes_before_the_limit():
    assert (shaped([1.0, 1.0], [83, 84], margin=16) == -10).tolist() == [False, True]


def test_own_numbers_and_threshold():
    found = shaped(
        [0.6, 0.4], [50, 50], threshold=0.5, right_short=5.0, right_long=2.0, wrong_short=-4.0, wrong_long=-1.0
    )
    assert found.tolist() == pytest.approx([3.5, -2.5])


def test_nothing_is_left_of_it():
    flat = {"right_short": 1.0, "right_long": 1.0, "wrong_short": 0.0, "wrong_long": 0.0, "exceeded": 0.0}
    assert shaped([1.0, 0.0, 0.0], [10, 70, 100], **flat).tolist() == [1, 0, 0]


def test_one_column_changes_where_it_applies():
    rewards = torch.tensor([[0.3, 1.0], [0.3, NAN]])
    found = cosine_length(rewards, ("format", "correct"), torch.tensor([50, 50]), max_tokens=100)
    torch.testing.assert_close(found, torch.tensor([[0.3, 1.5], [0.3, NAN]]), equal_nan=True)
    with pytest.raises(ConfigError, match="replaces the reward 'right'"):
        cosine_length(rewards, ("format", "correct"), torch.tensor([50, 50]), max_tokens=100, reward="right")
