"""What each segment changed in the expected reward, by hand."""

import math

import pytest
import torch

from rlpost.advantage.segment import spo_segment
from rlpost.errors import ConfigError

NAN = math.nan
SPAN = torch.tensor([[-1, 0, 0, 1, 2, 2], [0, 0, 0, -1, -1, -1], [-1] * 6, [0, 1, 1, -1, -1, -1]])
MASK = torch.tensor([[1, 1, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]]).bool()
VALUES = torch.tensor([[0.5, 0.25, 0.75], [0.375, NAN, NAN], [NAN] * 3, [0.5, 1.0, NAN]])
SPANS = torch.stack([torch.full_like(VALUES, NAN), VALUES], dim=-1)
REWARDS = torch.tensor([[1.0, 0.5], [0.0, 0.375], [1.0, NAN], [NAN, 0.75]])
NAMES, WEIGHTS = ("correct", "prefix_value"), torch.tensor([2.0, 0.0])


def test_golden():
    """Row 0: .25 - .5, .75 - .25 and 2 * 1 - .75. Row 1: 0 - .375. Row 2 has no span. Row 3 has no reward."""
    got = spo_segment(REWARDS, WEIGHTS, NAMES, SPANS, SPAN, MASK)
    want = [[0, -0.25, 0, 0.5, 1.25, 1.25], [-0.375] * 3 + [0] * 3, [0] * 6, [0.5, 0, 0, 0, 0, 0]]
    torch.testing.assert_close(got, torch.tensor(want), atol=1e-6, rtol=0)


def test_without_any_span_there_is_no_credit():
    got = spo_segment(REWARDS[:, :1], torch.ones(1), ("v",), torch.full((4, 0, 1), NAN), SPAN, MASK, value="v")
    assert got.shape == MASK.shape and not got.any()


def test_values_must_be_among_the_rewards():
    with pytest.raises(
        ConfigError, match=r"takes values from reward.other; this run has \['correct', 'prefix_value'\]"
    ):
        spo_segment(REWARDS, WEIGHTS, NAMES, SPANS, SPAN, MASK, value="other")
