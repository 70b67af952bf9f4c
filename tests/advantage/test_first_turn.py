"""Returns over turns, each turn centred for itself, and distilled rows against the first turn."""

import pytest
import torch

from rlpost.advantage.first_turn import first_turn_baseline

NAN = float("nan")


def found(rows, gamma=0.5):
    """Rows are (group, trajectory, turn, role, reward); rewards weigh 2."""
    group, trajectory, turn = (torch.tensor([row[k] for row in rows]) for k in range(3))
    rewards, role = torch.tensor([[row[4]] for row in rows]), tuple(row[3] for row in rows)
    return first_turn_baseline(rewards, torch.tensor([2.0]), group, trajectory, turn, role, gamma=gamma).tolist()


def test_returns_are_centred_per_turn():
    """Weighted: turn 0 has 2, 0, 0 with returns 2, 0 + .5 (2 + .5 * 1) = 1.25 and 0 + .5 * 0 = 0, mean 13/12.

    Turn 1 has 2 + .5 * 1 = 2.5 and 0, mean 1.25; turn 2 one row. Distilled: 2 and 0 less (2 + 0 + 0) / 3.
    """
    rows = [
        (0, 0, 0, "policy", 1.0), (0, 1, 0, "policy", 0.0), (0, 2, 0, "policy", 0.0),
        (0, 1, 1, "revision", 1.0), (0, 1, 1, "distilled", 1.0),
        (0, 2, 1, "revision", 0.0), (0, 2, 1, "distilled", 0.0), (0, 2, 1, "critique", NAN),
        (0, 1, 2, "revision", 0.5),
    ]  # fmt: skip
    expected = [2 - 13 / 12, 1.25 - 13 / 12, -13 / 12, 1.25, 4 / 3, -1.25, -2 / 3, 0.0, 0.0]
    assert found(rows) == pytest.approx(expected)
    order = [5, 8, 2, 0, 7, 4, 1, 6, 3]
    assert found([rows[i] for i in order]) == pytest.approx([expected[i] for i in order])


def test_groups_do_not_mix_and_one_turn_is_the_centred_reward():
    """Two groups, whose trajectories have the same numbers."""
    rows = [(0, 0, 0, "policy", 1.0), (1, 0, 0, "policy", 3.0), (0, 1, 0, "policy", 0.0), (1, 1, 0, "policy", 2.0)]
    assert found(rows) == pytest.approx([1.0, 1.0, -1.0, -1.0])
    more = [*rows, (1, 1, 1, "revision", 4.0), (1, 1, 1, "distilled", 4.0)]
    # R of the second group: 6, 4 + .5 * 8 = 8; distilled 8 - (6 + 4) / 2.
    assert found(more) == pytest.approx([1.0, -1.0, -1.0, 1.0, 0.0, 3.0])


def test_a_turn_without_a_reward_counts_for_nothing():
    rows = [
        (0, 0, 0, "policy", NAN),
        (0, 0, 1, "revision", 1.0),
        (0, 0, 1, "distilled", 1.0),
        (0, 1, 1, "revision", 0.0),
    ]
    assert found(rows) == pytest.approx([0.0, 1.0, 2.0, -1.0])


def test_a_turn_of_one_group_is_not_the_first_of_the_next():
    """Turn 1 of group 0, with returns 0 and 2, beside the first turns of groups 1 and 2, with 8 and 4, 2 and 6."""
    rows = [
        (0, 0, 0, "policy", 0.0), (0, 1, 0, "policy", 0.0), (0, 0, 1, "revision", 0.0), (0, 1, 1, "revision", 1.0),
        (1, 0, 0, "policy", 4.0), (1, 1, 0, "policy", 2.0), (2, 0, 0, "policy", 1.0), (2, 1, 0, "policy", 3.0),
    ]  # fmt: skip
    assert found(rows) == pytest.approx([-0.5, 0.5, -1.0, 1.0, 2.0, -2.0, -2.0, 2.0])
