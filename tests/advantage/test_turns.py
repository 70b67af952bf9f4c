"""Credit over trajectories of several rows."""

import pytest
import torch

from rlpost.advantage.group import group_zscore
from rlpost.advantage.turns import keyed_zscore, trajectory_zscore, ui_s1
from rlpost.errors import ConfigError

NAN, W = float("nan"), torch.tensor([1.0])


def table(values: list[float]) -> torch.Tensor:
    return torch.tensor(values)[:, None]


def test_a_trajectory_counts_once():
    """Ends 1, 0, 1 of trajectories with 2, 1 and 3 rows: mean 2/3, deviation sqrt(1/3); group 5 has one of 2 and 4."""
    rewards = table([9.0, 1.0, 0.0, -5.0, 7.0, 1.0, 2.0, 4.0])
    group = torch.tensor([3, 3, 3, 3, 3, 3, 5, 5])
    trajectory, index = torch.tensor([0, 0, 1, 2, 2, 2, 0, 1]), torch.tensor([0, 1, 0, 0, 1, 2, 0, 0])
    s, h = 3**0.5, 0.5**0.5
    wanted = [s / 3, s / 3, -2 * s / 3, s / 3, s / 3, s / 3, -h, h]
    found = trajectory_zscore(rewards, W, group, trajectory, index, epsilon=0.0)
    assert found.tolist() == pytest.approx(wanted, abs=1e-6)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    shuffled = trajectory_zscore(rewards[order], W, group[order], trajectory[order], index[order], epsilon=0.0)
    assert shuffled.tolist() == pytest.approx(found[order].tolist(), abs=1e-6)


def test_single_rows_are_grpo():
    rewards, group = table([1.0, 0.5, NAN, -2.0, 3.0, 1.0]), torch.tensor([0, 0, 0, 1, 1, 2])
    found = trajectory_zscore(rewards, W, group, torch.arange(6), torch.zeros(6).long(), epsilon=1e-4)
    assert torch.equal(found, group_zscore(rewards, W, group, epsilon=1e-4)) and found[2] == found[5] == 0


def test_a_row_against_the_same_turn():
    """Turn 0: 1 and 3, deviation sqrt(2); turn 1: a row alone; all of the group: 1, 3, 5 with mean 3, deviation 2."""
    rewards, group, turn = table([1.0, 3.0, 5.0, NAN]), torch.zeros(4).long(), torch.tensor([0, 0, 1, 0])
    trajectory = torch.tensor([0, 1, 0, 2])
    h = 0.5**0.5
    found = keyed_zscore(rewards, W, group, turn, trajectory, epsilon=0.0)
    assert found[[0, 1, 3]].tolist() == pytest.approx([-h, h, 0.0], abs=1e-6)
    assert keyed_zscore(rewards, W, group, turn, trajectory)[2] == 0
    plain = keyed_zscore(rewards, W, group, turn, trajectory, keys=["group"])
    assert torch.equal(plain, group_zscore(rewards, W, group)) and plain[2] > 0.9
    with pytest.raises(ConfigError, match="no keys"):
        keyed_zscore(rewards, W, group, turn, trajectory, keys=[])


def test_two_judgements_of_a_step():
    """Scores 1, 3, 5: -1, 0, 1 in the group. Returns of turn 0: 2 and 6, centred -2 and 2, z -h and h; turn 1: 0."""
    names, group, turn = ("action_return", "action_score"), torch.zeros(3).long(), torch.tensor([0, 0, 1])
    rewards, weights = torch.tensor([[2.0, 1.0], [6.0, 3.0], [9.0, 5.0]]), torch.tensor([0.5, 2.0])
    h = 0.5**0.5
    trajectory = torch.tensor([0, 1, 0])
    found = ui_s1(rewards, weights, names, group, turn, trajectory, pool="steps")
    assert found.tolist() == pytest.approx([-2 - h / 2, h / 2, 2.0], abs=1e-5)
    centred = ui_s1(rewards, weights, names, group, turn, trajectory, pool="steps", scale="mean")
    assert centred.tolist() == pytest.approx([-4 - 1, 1.0, 4.0])
    step_only = ui_s1(rewards, torch.tensor([1.0, 0.0]), names, group, turn, trajectory, epsilon=1e-4)
    # the sums of the trajectories are 6 and 3: mean 4.5, deviation 3 h, so that z is h and -h
    found = ui_s1(rewards, weights, names, group, turn, trajectory)
    assert found.tolist() == pytest.approx([2 * h - h / 2, -2 * h + h / 2, 2 * h], abs=1e-5)
    centred = ui_s1(rewards, weights, names, group, turn, trajectory, scale="mean")
    assert centred.tolist() == pytest.approx([3 - 1, -3 + 1, 3.0])
    unjudged = torch.cat([rewards, torch.tensor([[9.0, NAN], [9.0, 7.0]])])
    last = torch.cat([trajectory, torch.tensor([1, 2])])
    found = ui_s1(unjudged, torch.tensor([0.0, 1.0]), names, torch.zeros(5).long(), torch.arange(5), last, scale="mean")
    assert found.tolist() == pytest.approx([6 - 16 / 3, 3 - 16 / 3, 6 - 16 / 3, 3 - 16 / 3, 7 - 16 / 3], abs=1e-5)
    torch.testing.assert_close(step_only, keyed_zscore(rewards[:, :1], W, group, turn, torch.zeros(3).long()))
    with pytest.raises(ConfigError, match="'action_score'"):
        ui_s1(rewards[:, :1], W, names[:1], group, turn, trajectory)
