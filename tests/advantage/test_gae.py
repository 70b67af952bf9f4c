"""Generalised advantage estimates by hand: terminal rewards, penalties, rewards of spans, and both ends of lambda."""

import math

import pytest
import torch

from rlpost.advantage.gae import gae, gae_kl, gae_spans

NAN = math.nan
WEIGHTS = torch.tensor([2.0, 1.0])
# Row 0 has a hole (an observation), row 1 ends early; row 2 has no reward.
VALUE = torch.tensor([[0.5, NAN, -1.0, 2.0], [0.25, 1.0, NAN, NAN], [1.0, 2.0, 3.0, 4.0]])
REWARDS = torch.tensor([[1.5, NAN], [0.5, -2.0], [NAN, NAN]])
SEEN = torch.tensor([[1, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()


def test_golden():
    """gamma 1/2, lambda 1/2. Row 0 earns 3, row 1 earns -1, each at its last token.

    Row 0: deltas 3 - 2 = 1; 2/2 + 1 = 2; -1/2 - 1/2 = -1. A = 1; 2 + 1/4 = 2.25; -1 + 2.25/4 = -.4375.
    Row 1: deltas -1 - 1 = -2; 1/2 - 1/4 = 1/4. A = -2; 1/4 - 2/4 = -.25. Returns are A + V.
    """
    found = gae(REWARDS, WEIGHTS, VALUE, gamma=0.5, lam=0.5)
    want = torch.tensor([[-0.4375, 0.0, 2.25, 1.0], [-0.25, -2.0, 0.0, 0.0], [0.0] * 4])
    torch.testing.assert_close(found.advantage, want, atol=1e-7, rtol=0)
    known = torch.where(SEEN, want + torch.nan_to_num(VALUE), NAN)
    torch.testing.assert_close(found.returns, known, atol=1e-7, rtol=0, equal_nan=True)


def test_lambda_1_is_the_discounted_return_less_the_value():
    """gamma 1/2: row 0 earns 3 from its last token, 1.5 and .75 from those before; row 1 earns -1 and -.5."""
    found = gae(REWARDS, WEIGHTS, VALUE, gamma=0.5, lam=1.0)
    earned = torch.tensor([[0.75, NAN, 1.5, 3.0], [-0.5, -1.0, NAN, NAN], [NAN] * 4])
    torch.testing.assert_close(found.returns, earned, atol=1e-7, rtol=0, equal_nan=True)
    torch.testing.assert_close(found.advantage, torch.where(SEEN, earned - VALUE, 0.0), atol=1e-7, rtol=0)


def test_lambda_0_is_one_step_of_temporal_difference():
    found = gae(REWARDS, WEIGHTS, VALUE, gamma=0.5, lam=0.0)
    want = torch.tensor([[-1.0, 0.0, 2.0, 1.0], [0.25, -2.0, 0.0, 0.0], [0.0] * 4])
    torch.testing.assert_close(found.advantage, want, atol=1e-7, rtol=0)


OLD = torch.tensor([[-0.5, -9.0, -2.0, -1.0], [-1.5, -0.25, -9.0, -9.0], [-9.0] * 4])
REF = torch.tensor([[-1.5, -1.0, -1.0, -3.0], [-1.0, -0.25, -1.0, -1.0], [-1.0] * 4])


def test_the_penalty_is_part_of_every_tokens_reward():
    """beta .1, log-ratios (1, -1, 2) and (-.5, 0): r = (-.1, .1, 3 - .2) and (.05, -1). gamma 1, lambda 1/2.

    Row 0: deltas 2.8 - 2 = .8; .1 + 2 + 1 = 3.1; -.1 - 1 - .5 = -1.6. A = .8; 3.5; .15.
    Row 1: deltas -1 - 1 = -2; .05 + 1 - .25 = .8. A = -2; -.2.
    """
    found = gae_kl(REWARDS, WEIGHTS, VALUE, OLD, REF, beta=0.1, gamma=1.0, lam=0.5, epsilon=0.01)
    raw = torch.tensor([[0.15, 0.0, 3.5, 0.8], [-0.2, -2.0, 0.0, 0.0], [0.0] * 4])
    five = [0.15, 3.5, 0.8, -0.2, -2.0]
    mean = sum(five) / 5
    deviation = (sum((x - mean) ** 2 for x in five) / 5 + 0.01) ** 0.5
    want = torch.where(SEEN, (raw - mean) / deviation, 0.0)
    torch.testing.assert_close(found.advantage, want, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.returns, torch.where(SEEN, raw + VALUE, NAN), atol=1e-6, rtol=0, equal_nan=True)


def test_beta_0_is_the_standardised_estimate():
    plain = gae(REWARDS, WEIGHTS, VALUE, gamma=0.9, lam=0.8)
    found = gae_kl(REWARDS, WEIGHTS, VALUE, OLD, REF, beta=0.0, gamma=0.9, lam=0.8, epsilon=0.0)
    a = plain.advantage[SEEN]
    torch.testing.assert_close(found.advantage[SEEN], (a - a.mean()) / a.std(correction=0), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.returns, plain.returns, equal_nan=True, atol=0, rtol=0)


def test_spans_earn_at_their_last_token():
    """beta 1/2, with a log-ratio of 1 at token 1 of row 0.

    Row 0: span 0 (tokens 0, 1) earns 2, span 1 (tokens 2, 3) earns -1, the row 3: r = (0, 1.5, 0, 2).
    Row 1: span 0 earns 4 at token 1, nothing else applies: r = (0, 4, 0). Row 2 has no reward. The mean is 7.5 / 7.
    """
    table = torch.tensor([[[NAN, 2.0], [NAN, -1.0]], [[NAN, 4.0], [NAN, NAN]], [[NAN, NAN], [NAN, NAN]]])
    rewards, span = torch.tensor([[3.0, 0.5], [NAN, 4.0], [NAN, NAN]]), torch.tensor([[0, 0, 1, 1]] * 3)
    value = torch.tensor([[0.0, 1.0, 0.0, 2.0], [1.0, 0.0, 2.0, NAN], [1.0, 1.0, 1.0, 1.0]])
    seen = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [0, 0, 0, 0]]).bool()
    ref = torch.tensor([[-1.0, -2.0, -3.0, -4.0]] * 3)
    old = ref + torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 7.0], [5.0] * 4])
    mask = ~torch.isnan(value)
    found = gae_spans(rewards, torch.ones(2), table, span, mask, value, old, ref, beta=0.5, lam=0.0, epsilon=0.0)
    r = torch.tensor([0.0, 1.5, 0.0, 2.0, 0.0, 4.0, 0.0])
    scaled = (r - 7.5 / 7) / r.std(correction=0) + 7.5 / 7
    after, before = [1.0, 0.0, 2.0, 0.0, 0.0, 2.0, 0.0], [0.0, 1.0, 0.0, 2.0, 1.0, 0.0, 2.0]
    delta = scaled + torch.tensor(after) - torch.tensor(before)
    torch.testing.assert_close(found.returns[seen], delta + value[seen], atol=1e-6, rtol=0)
    assert torch.isnan(found.returns[~seen]).all()
    torch.testing.assert_close(
        found.advantage[seen], (delta - delta.mean()) / delta.std(correction=0), atol=1e-6, rtol=0
    )
    assert not found.advantage[~seen].any()


@pytest.mark.parametrize("rows", [0, 2])
def test_nothing_to_see_is_nothing(rows):
    empty = torch.full((rows, 3), NAN)
    found = gae_kl(torch.ones(rows, 1), torch.ones(1), empty, empty, empty)
    assert not found.advantage.any() and torch.isnan(found.returns).all()
