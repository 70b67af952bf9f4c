"""Clip and Delta by hand: a group of two uneven rows, a row without steps, and a row alone."""

import math
from statistics import mean, stdev

import pytest
import torch

from rlpost.advantage.clipped_steps import clip_delta, process_rewards
from rlpost.advantage.group import group_zscore

NAN = math.nan
P = torch.tensor([[0.9, 0.8, 0.95, 0.99]], dtype=torch.float64)


def tails(v):
    return v.nan_to_num(nan=0.0).flip(1).cumsum(1).flip(1)


def test_delta_telescopes():
    v = process_rewards(P, "delta", None)
    assert v[0].tolist() == pytest.approx([0.1, -0.15, 0.95, 0], rel=1e-9)
    assert tails(v)[0].tolist() == pytest.approx([0.9, 0.8, 0.95, 0], rel=1e-9)


def test_clip_and_both():
    # less 0.9: (0, -.1, .05, .09), of which what is above 0 is cut off
    assert process_rewards(P, "clip", 0.9)[0].tolist() == pytest.approx([0, -0.1, 0, 0], abs=1e-12)
    assert process_rewards(P, "clip_delta", 0.9)[0].tolist() == pytest.approx([0.1, -0.1, 0, 0], abs=1e-12)
    # the mean of the four is .91
    assert process_rewards(P, "clip", None)[0].tolist() == pytest.approx([-0.01, -0.11, 0, 0], abs=1e-12)


@pytest.mark.parametrize(("scores", "wanted"), [([0.7], [0]), ([0.7, 0.4], [0.7, 0]), ([0.7, 0.4, 0.2], [0.3, 0.4, 0])])
def test_delta_of_few_steps(scores, wanted):
    assert process_rewards(torch.tensor([scores]).double(), "delta", None)[0].tolist() == pytest.approx(wanted)


def test_a_step_without_a_score_is_skipped():
    found = process_rewards(torch.tensor([[0.9, NAN, 0.8, 0.95, NAN, 0.99, NAN]], dtype=torch.float64), "delta", None)
    wanted = torch.tensor([[0.1, NAN, -0.15, 0.95, NAN, 0, NAN]], dtype=torch.float64)
    torch.testing.assert_close(found, wanted, equal_nan=True, atol=1e-12, rtol=0)


def test_more_good_steps_raise_only_the_raw_sum():
    longer = torch.cat([P, torch.full((1, 5), 0.9).double()], dim=1)
    gain = tails(process_rewards(longer, "raw", None))[0, 0] - tails(process_rewards(P, "raw", None))[0, 0]
    assert gain.item() == pytest.approx(5 * 0.9)
    assert (tails(process_rewards(longer, "clip", 0.85)) <= 0).all()
    torch.testing.assert_close(tails(process_rewards(longer, "delta", None))[:, :3], P[:, :3])


# Steps of 2, 1 and 1 tokens and a token in none; of 1 and 2; none at all; and a group of its own.
SPAN = torch.tensor([[0, 0, 1, 2, -1], [0, 1, 1, -1, -1], [-1, -1, -1, -1, -1], [0, 1, -1, -1, -1]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 1, 0, 0, 0]]).bool()
GROUP = torch.tensor([4, 4, 4, 7])
# Column 0 scores rows, column 1 steps, whose weight of 1/2 makes them (1, .4, .2), (.6, .2), none and (NaN, .5)
STEPS = torch.tensor([[2.0, 0.8, 0.4], [1.2, 0.4, NAN], [NAN] * 3, [NAN, 1.0, NAN]])
SPAN_REWARDS = torch.stack([torch.full_like(STEPS, NAN), STEPS], dim=-1)
REWARDS = torch.tensor([[1.0, 3.2 / 3], [0.0, 0.8], [1.0, NAN], [NAN, 1.0]])
WEIGHTS = torch.tensor([2.0, 0.5])


def found(**knobs):
    return clip_delta(REWARDS, WEIGHTS, SPAN_REWARDS, GROUP, SPAN, MASK, **knobs)


@pytest.mark.parametrize(
    ("variant", "first", "second"),
    [
        # outcomes 2, 0, 2; alpha 1/2 of the sums from each step on
        ("raw", [2.8, 2.3, 2.1], [0.4, 0.1]),  # 1.6, .6, .2 and .8, .2
        ("delta", [2.5, 2.2, 2.0], [0.3, 0.0]),  # 1, .4, 0 and .6, 0
        ("clip", [1.8, 1.8, 1.85], [-0.15, -0.15]),  # less .5: 0, -.1, -.3 and 0, -.3: sums -.4, -.4, -.3; -.3, -.3
        ("clip_delta", [2.0, 1.95, 2.0], [0.0, 0.0]),  # 0, -.1, 0 and 0, 0
    ],
)
def test_golden(variant, first, second):
    every = [*first, *second, 2.0]
    a, b, c, d, e, row = [(x - mean(every)) / (stdev(every) + 0.01) for x in every]
    want = torch.tensor([[a, a, b, c, row], [d, e, e, 0, 0], [row, row, 0, 0, 0], [0] * 5])
    made = found(variant=variant, alpha=0.5, eta=0.5, epsilon=0.01)
    torch.testing.assert_close(made[:3], want[:3], atol=1e-5, rtol=0)


def test_a_row_alone_is_judged_against_itself():
    assert found(variant="raw")[3].abs().max() == 0


def test_without_process_rewards_it_is_the_group_zscore():
    rewards, group = torch.tensor([[1.0], [0.0], [0.5], [2.0]]), torch.tensor([0, 0, 0, 1])
    none = torch.full((4, 0, 1), NAN)
    made = clip_delta(rewards, torch.ones(1), none, group, torch.full((4, 3), -1), torch.ones(4, 3).bool())
    torch.testing.assert_close(made, group_zscore(rewards, torch.ones(1), group)[:, None].expand(4, 3))


def test_a_row_without_any_reward_is_left_out():
    rewards = torch.tensor([[1.0], [0.0], [NAN]])
    none = torch.full((3, 0, 1), NAN)
    made = clip_delta(
        rewards, torch.ones(1), none, torch.zeros(3).long(), torch.full((3, 1), -1), torch.ones(3, 1).bool()
    )
    assert made[2] == 0 and made[0].item() == pytest.approx(0.5 / math.sqrt(0.5), rel=1e-3)
