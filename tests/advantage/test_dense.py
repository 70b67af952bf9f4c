"""Fine-grained credit by hand: rewards at the ends of spans and rows, a penalty at every token, and their decay."""

import math

import torch

from rlpost.advantage.dense import fine_grained

NAN = math.nan
SPAN = torch.tensor([[0, 0, 1, 1, -1], [0, 1, 1, -1, -1]])
MASK = torch.tensor([[1, 1, 0, 1, 1], [1, 1, 1, 0, 0]]).bool()
D = torch.tensor([[0.5, 0.0, 7.0, -0.25, 0.0], [0.0, 1.0, 0.0, 7.0, 7.0]])
REF = torch.tensor([[-1.0, -2.0, -0.5, -1.5, -3.0]] * 2)
# Column 0 scores the row, columns 1 and 2 spans; the weights are 2, 1/2 and 4.
SPANS = torch.tensor([[[NAN, 1.0, NAN], [NAN, -2.0, 0.25]], [[NAN, NAN, NAN], [NAN, NAN, -0.5]]])
REWARDS = torch.tensor([[1.5, -0.5, 0.25], [NAN, NAN, -0.5]])
WEIGHTS = torch.tensor([2.0, 0.5, 4.0])


def test_golden():
    """Row 0: span 0 earns 1/2 at token 1, span 1 earns -1 + 1 = 0 at token 3, the row 3 at token 4; token 2 is skipped.

    With beta 0.4: r = (-.2, .5, -, .1, 3), so at decay 1/2 g = (.45, 1.3, -, 1.6, 3). Row 1: span 1 earns -2 at token
    2 and token 1 pays .4: r = (0, -.4, -2), g = (-.7, -1.4, -2).
    """
    g = torch.tensor([[0.45, 1.3, 0.0, 1.6, 3.0], [-0.7, -1.4, -2.0, 0.0, 0.0]])
    mean = (0.45 + 1.3 + 1.6 + 3.0 - 0.7 - 1.4 - 2.0) / 7
    variance = sum((x - mean) ** 2 for x in (0.45, 1.3, 1.6, 3.0, -0.7, -1.4, -2.0)) / 7
    want = torch.where(MASK, (g - mean) / (variance + 0.01) ** 0.5, 0.0)
    got = fine_grained(REWARDS, WEIGHTS, SPANS, SPAN, MASK, REF + D, REF, beta=0.4, decay=0.5, epsilon=0.01)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)


def test_reduces_to_the_standardised_row_reward():
    none, rewards = torch.full((2, 0, 3), NAN), torch.tensor([[1.0, 2.0, NAN], [0.5, NAN, NAN]])
    got = fine_grained(rewards, WEIGHTS, none, SPAN, MASK, REF + D, REF, beta=0.0, decay=1.0)
    # totals 3 on four tokens and 1 on three: mean 15/7, deviation 2 sqrt(12)/7
    high, low = (3 - 15 / 7) / (2 * 12**0.5 / 7), (1 - 15 / 7) / (2 * 12**0.5 / 7)
    want = torch.where(MASK, torch.tensor([[high], [low]]), 0.0)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


def test_equal_credit_everywhere_is_none():
    none, mask = torch.full((2, 0, 1), NAN), torch.ones(2, 3, dtype=torch.bool)
    got = fine_grained(torch.ones(2, 1), torch.ones(1), none, SPAN[:, :3], mask, REF[:, :3], REF[:, :3], decay=1.0)
    assert not got.any()
    assert fine_grained(torch.ones(0, 1), torch.ones(1), torch.ones(0, 0, 1), SPAN[:0, :0], mask[:0, :0],
                        REF[:0, :0], REF[:0, :0]).shape == (0, 0)  # fmt: skip
