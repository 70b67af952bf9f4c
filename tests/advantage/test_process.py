"""PURE and the sum form by hand: a group of two uneven rows, and a row alone."""

import math
from fractions import Fraction as F

import pytest
import torch

from rlpost.advantage.group import leave_one_out
from rlpost.advantage.process import process_sum, pure

NAN = math.nan
# Steps of 3, 2 and 3 tokens; of 2 and 3; one of 3 with a token that does not train. The last token of each gets 0.
SPAN = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2], [0, 0, 1, 1, 1, -1, -1, -1], [0, 0, 0, 0, -1, -1, -1, -1]])
MASK = torch.tensor([[1] * 8, [1] * 5 + [0] * 3, [1, 0, 1, 1] + [0] * 4]).bool()
GROUP = torch.tensor([4, 4, 7])
# Column 0 scores rows, column 1 steps; a weight of 1/2 brings the steps to (1, 0, -1), (0, -1) and (3).
STEPS = torch.tensor([[2.0, 0.0, -2.0], [0.0, -2.0, NAN], [6.0, NAN, NAN]])
SPAN_REWARDS = torch.stack([torch.full_like(STEPS, NAN), STEPS], dim=-1)
REWARDS = torch.tensor([[1.0, 0.0], [0.0, -1.0], [5.0, 6.0]])
WEIGHTS = torch.tensor([2.0, 0.5])
HALVES = 1 / math.log(2)  # at this temperature softmax(-s) has the weights 2^-s


def expected(first, second, alone, outcome):
    """(N,T) from the return of each step and the outcome part of each row; 0 at the last tokens of steps."""
    a, b, c = first
    rows = [[a, a, 0, b, 0, c, c, 0], [second[0], 0, second[1], second[1], 0, 0, 0, 0], [alone, 0, alone, 0] + [0] * 4]
    made = torch.tensor([[float(x) for x in row] for row in rows])
    ends = torch.tensor([[0, 0, 1, 0, 1, 0, 0, 1], [0, 1, 0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 1, 1, 1, 1]]).bool()
    return torch.where(ends, 0.0, made + torch.tensor(outcome)[:, None])


def found(function, **knobs):
    return torch.where(MASK, function(REWARDS, WEIGHTS, SPAN_REWARDS, GROUP, SPAN, MASK, **knobs), 0.0)


# c = (1/7, 0, -4/7) and (0, -2/3) from the weights (1, 2, 4)/7 and (1, 2)/3; the lone row has c = 3.
C = [[F(1, 7), F(0), F(-4, 7)], [F(0), F(-2, 3)]]
S = [[F(1), F(0), F(-1)], [F(0), F(-1)]]
# per token: the other row's total over its 5 or 8 tokens, times the tokens of a step less one
TOKEN = [[2, 1, 2], [1, 2]]
LENGTH, COUNT = [8, 5], [3, 2]


@pytest.mark.parametrize(("function", "c", "knobs"), [(pure, C, {"temperature": HALVES}), (process_sum, S, {})])
@pytest.mark.parametrize("baseline", ["token", "step"])
def test_golden(function, c, knobs, baseline):
    returns = []
    for i in (0, 1):
        other = sum(c[1 - i])
        each = [
            x - (n * other / LENGTH[1 - i] if baseline == "token" else other / COUNT[1 - i])
            for x, n in zip(c[i], TOKEN[i], strict=True)
        ]
        returns.append([sum(each[k:]) for k in range(len(each))])
    if function is pure and baseline == "token":  # by hand
        assert returns == [[F(25, 105), F(-18, 105), F(-32, 105)], [F(-85, 168), F(-47, 84)]]
    want = expected(*returns, 3, [2.0, -2.0, 0.0])  # the outcomes 2 * 1 and 2 * 0, less the other's
    torch.testing.assert_close(found(function, baseline=baseline, **knobs), want, atol=1e-6, rtol=0)


def test_a_low_temperature_takes_the_worst_step():
    """Two rows without a baseline: (.9, .8, -.9, .9) has its minimum 1.7 below the next, so softmin is the minimum."""
    steps = torch.tensor([[0.9, 0.8, -0.9, 0.9]])
    span, mask = torch.arange(8)[None] // 2, torch.ones(1, 8, dtype=torch.bool)
    got = pure(steps.mean(1, keepdim=True), torch.ones(1), steps[..., None], torch.tensor([0]), span, mask)
    torch.testing.assert_close(got[0, ::2], torch.tensor([-0.9, -0.9, -0.9, 0.0]), atol=1e-4, rtol=0)


def test_without_scores_of_steps_it_is_leave_one_out_but_for_the_ends():
    rewards = torch.tensor([[1.0], [0.25], [2.0]])
    none = torch.full((3, 0, 1), NAN)
    got = pure(rewards, torch.tensor([3.0]), none, torch.tensor([0, 0, 0]), SPAN, MASK)
    want = leave_one_out(rewards, torch.tensor([3.0]), torch.tensor([0, 0, 0]))
    assert got[0, 0] == want[0] != 0 and got[1, 3] == want[1] and got[0, 2] == got[0, 7] == 0


def test_steps_and_rows_without_scores_are_left_out():
    """Row 1 has no score at all: row 0 has no baseline, and its middle step, unscored, passes the return on."""
    scores = SPAN_REWARDS.clone()
    scores[0, 1, 1], scores[1] = NAN, NAN
    got = process_sum(torch.full_like(REWARDS, NAN), WEIGHTS, scores, GROUP, SPAN, MASK)
    assert got[0].tolist() == [0, 0, 0, -1, 0, -1, -1, 0] and not got[1].any()
