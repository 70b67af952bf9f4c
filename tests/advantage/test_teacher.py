"""Credit from a teacher, by hand."""

import math

import torch

from rlpost.advantage.teacher import extrapolated, group_zscore_teacher, teacher_gain

OLD = torch.tensor([[0.5, 0.2]]).log()
TEACHER = torch.tensor([[0.25, 0.6]]).log()
REF = torch.tensor([[0.5, 0.3]]).log()


def test_the_gain_is_the_log_ratio():
    torch.testing.assert_close(teacher_gain(OLD, TEACHER), torch.tensor([[-math.log(2), math.log(3)]]))


def test_extrapolated_by_hand():
    # first token: 1.25 * log(1/2) - log(1); second: 1.25 * log(2) - log(2/3)
    wanted = torch.tensor([[-1.25 * math.log(2), 1.25 * math.log(2) + math.log(1.5)]])
    torch.testing.assert_close(extrapolated(OLD, TEACHER, REF), wanted)
    # at 2: 2 log(1/2) and 2 log 2 - log(2/3)
    wanted = torch.tensor([[-2 * math.log(2), 2 * math.log(2) + math.log(1.5)]])
    torch.testing.assert_close(extrapolated(OLD, TEACHER, REF, scale=2.0), wanted)


def test_at_scale_one_the_reference_cancels():
    torch.testing.assert_close(extrapolated(OLD, TEACHER, REF, scale=1.0), teacher_gain(OLD, TEACHER))


def test_an_impossible_token_has_finite_credit():
    none = torch.tensor([[-math.inf, -1.0]])
    assert teacher_gain(OLD, none).tolist()[0][0] == -20.0
    assert extrapolated(OLD, none, REF).tolist()[0][0] == -20.0


def test_k1_as_a_reward_by_hand():
    """Rewards 2 and 0: +-1 / sqrt(2), the sample deviation being sqrt(2). Log-ratios log 2, log 1/3; log 5, 20."""
    old = torch.tensor([[0.5, 0.2], [0.5, 1.0]]).log()
    teacher = torch.tensor([[0.25, 0.6], [0.1, 0.0]]).log()
    rewards, group = torch.tensor([[2.0], [0.0]]), torch.tensor([3, 3])
    found = group_zscore_teacher(rewards, torch.ones(1), group, old, teacher, beta=0.5, epsilon=0.0)
    pull = torch.tensor([[math.log(2), -math.log(3)], [math.log(5), 20.0]])
    torch.testing.assert_close(found, torch.tensor([[0.5**0.5], [-(0.5**0.5)]]) - 0.5 * pull)
