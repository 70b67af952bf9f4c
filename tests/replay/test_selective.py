"""Selective replay: how many rows of which kind are drawn, how often each, and what the buffer holds."""

import random

import pytest
import torch

from rlpost.replay.selective import Selective
from tests import toy


def table(advantages, rewards=None, masked=()):
    """Rows of two tokens with these advantages; of those `masked` the second does not train."""
    n = len(advantages)
    mask = torch.ones(n, 2, dtype=torch.bool)
    mask[list(masked), 1] = False
    reward = torch.tensor(rewards if rewards is not None else [0.0] * n)
    advantage = torch.tensor(advantages, dtype=torch.float32)[:, None].expand(n, 2) * mask
    return toy.scored(reward[:, None], torch.arange(n), mask, -torch.ones(n, 2), advantage=advantage, reward=reward)


NONE = table([])


def test_a_step_with_signal_draws_half_a_batch_of_its_own_rows():
    own, earlier = Selective().pick(table([1.0, -1.0, 0.5, 0.5, 0, 0]), table([1.0]), random.Random(0))
    assert len(own) == 3 and set(own) <= {0, 1, 2, 3} and earlier == []


def test_what_is_missing_comes_from_the_buffer():
    own, earlier = Selective().pick(table([0, 0, 0, -1.0, 0, 0, 0, 0]), table([1.0, 0.5]), random.Random(0))
    assert own == [3] and len(earlier) == 3 and set(earlier) <= {0, 1}
    own, earlier = Selective().pick(table([0.0] * 8), table([1.0, 0.5]), random.Random(0))
    assert own == [] and len(earlier) == 4
    assert Selective().pick(table([0, 0, 0, -1.0, 0, 0, 0, 0]), NONE, random.Random(0)) == ([3], [])
    assert Selective().pick(table([0.0] * 8), NONE, random.Random(0)) == ([], [])


def test_right_rows_without_signal_add_draws_of_the_others():
    """10 loud rows and 10%: one draw more where there is a right row of advantage 0, and half a batch allows it."""
    loud = [0.5, -0.5] * 5
    for right, drawn in (([1.0] * 14, 11), ([0.95] * 14, 10)):
        own, _ = Selective().pick(table(loud + [0.0] * 14, [0.0] * 10 + right), NONE, random.Random(0))
        assert len(own) == drawn and max(own) < 10
    assert len(Selective(positives=0.4).pick(table(loud + [0.0] * 14, [1.0] * 24), NONE, random.Random(0))[0]) == 12


def chi_square(found, expected):
    counts = torch.bincount(torch.tensor(found), minlength=len(expected)).double()
    wanted = torch.tensor(expected, dtype=torch.float64) / sum(expected) * len(found)
    return float(((counts - wanted) ** 2 / wanted).sum())


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_rows_are_drawn_in_proportion_to_their_advantage(alpha):
    """Three degrees of freedom: chi-square exceeds 16.3 once in a thousand. A masked token counts for nothing."""
    size, rng = [0.1, 0.2, 0.4, 0.8], random.Random(0)
    signs = table([0.1, -0.2, 0.4, -0.8], masked=[1, 3])
    plan = Selective(alpha=alpha, batch=1.0)
    own = [i for _ in range(1000) for i in plan.pick(signs, NONE, rng)[0]]
    earlier = [i for _ in range(1000) for i in plan.pick(table([0.0] * 4), signs, rng)[1]]
    for found in (own, earlier):
        assert len(found) == 4000 and chi_square(found, [s**alpha for s in size]) < 16.3
        assert chi_square(found, [s ** (3 - alpha) for s in size]) > 100


def test_the_buffer_holds_the_last_rows_with_signal():
    fresh = table([0, 1.0, -1.0, 0, 0.5, 0, 0, 0])
    assert Selective().hold(fresh, NONE) == ([1, 2, 4], [])
    assert Selective().hold(fresh, table([1.0] * 3)) == ([1, 2, 4], [2])
    assert Selective().hold(table([1.0] * 8), table([1.0] * 3)) == ([4, 5, 6, 7], [])
    assert Selective().hold(table([0.0] * 8), table([1.0] * 3)) == ([], [0, 1, 2])
    assert Selective(buffer=0.25).hold(table([0.0] * 8), table([1.0] * 3)) == ([], [1, 2])
    assert Selective(buffer=0.0).hold(fresh, table([1.0] * 3)) == ([], [])
