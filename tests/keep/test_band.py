"""The band of difficulty: which groups stay."""

import pytest
import torch

from rlpost.errors import ConfigError
from rlpost.keep.band import difficulty_band
from rlpost.keep.groups import mixed_groups

NAN = float("nan")
ONE = torch.ones(1)


def kept(rewards, group, *, weights=ONE, names=("correct",), role=None, trajectory=None, **knobs):
    rewards = torch.tensor(rewards)
    role, trajectory = role or ["policy"] * len(rewards), torch.tensor(trajectory or [-1] * len(rewards))
    return difficulty_band(rewards, weights, names, torch.tensor(group), trajectory, role, **knobs).tolist()


@pytest.mark.parametrize("size", [5, 10, 20])
def test_the_limits_are_inside(size):
    rewards = [[float(i < solved)] for solved in range(size + 1) for i in range(size)]
    group = [solved for solved in range(size + 1) for _ in range(size)]
    wanted = [0.2 * size <= solved <= 0.8 * size for solved in group]
    assert kept(rewards, group) == wanted
    assert sum(wanted) == size * (0.6 * size + 1)  # from 20% to 80%, both counted


def test_uneven_groups_in_any_order():
    rewards, group = [[1.0], [0.0], [1.0], [0.0], [1.0], [1.0], [1.0]], [3, 0, 3, 3, 0, 5, 3]
    # group 3 solves 3 of 4, group 0 half, group 5 all
    assert kept(rewards, group) == [True, True, True, True, True, False, True]
    assert kept(rewards, group, high=0.7) == [False, True, False, False, True, False, False]
    assert kept(rewards, group, low=0.6, high=1.0) == [True, False, True, True, False, True, True]


def test_a_rollout_of_several_rows_counts_once():
    """One rollout of five rows is right, one of a single row is not: half of them, and not five sixths."""
    rewards, trajectory = [[1.0]] * 5 + [[0.0]], [0] * 5 + [1]
    assert kept(rewards, [0] * 6, trajectory=trajectory, low=0.5, high=0.5) == [True] * 6
    assert kept(rewards, [0] * 6) == [False] * 6
    assert kept([*rewards, [NAN]], [0] * 7, trajectory=[*trajectory, 1], low=0.5, high=0.5) == [True] * 7


def test_the_reward_and_the_rows_that_count():
    rewards, names = [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [NAN, NAN], [0.0, 1.0]], ("correct", "format")
    role, weights = ["policy", "policy", "contrast", "policy", "policy"], torch.tensor([1.0, 0.5])
    # correct: 1 of 3 scored policy rows; total: (1 + 0 + .5) / 3
    assert kept(rewards, [0] * 5, names=names, role=role, weights=weights, reward="correct", high=0.4) == [True] * 5
    assert kept(rewards, [0] * 5, names=names, role=role, weights=weights, high=0.4) == [False] * 5
    assert kept(rewards, [0] * 5, names=names, role=role, weights=weights, low=0.5) == [True] * 5
    assert kept([[NAN], [1.0]], [0, 0], role=["policy", "contrast"], low=0.0, high=1.0) == [False, False]


def test_it_reduces_to_no_filter_and_to_mixed_groups():
    draws = (torch.rand(60, 1, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    group = torch.arange(15).repeat_interleave(4)
    assert all(kept(draws.tolist(), group.tolist(), low=0.0, high=1.0))
    mixed = mixed_groups(draws, ONE, group).tolist()
    assert kept(draws.tolist(), group.tolist(), low=1 / 8, high=7 / 8) == mixed and 0 < sum(mixed) < 60


def test_faults_are_sentences():
    with pytest.raises(ConfigError, match=r"low=0\.9 above high=0\.8"):
        kept([[1.0]], [0], low=0.9)
    with pytest.raises(ConfigError, match=r"'answer'; this run has \['correct'\]"):
        kept([[1.0]], [0], reward="answer")
