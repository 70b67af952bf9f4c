"""Credit of segments from the values of the texts before and behind them."""

from collections.abc import Sequence

import torch

from rlpost.advantage.total import weighted_sum
from rlpost.errors import ConfigError
from rlpost.spans import NSK, Span, row_rewards, spread
from rlpost.types import NK, NT, K, Mask


def spo_segment(
    rewards: NK,
    weights: K,
    reward_names: Sequence[str],
    span_rewards: NSK,
    span: Span,
    mask: Mask,
    *,
    value: str = "prefix_value",
) -> NT:
    """A segment's tokens get what the segment changed in the expected reward (SPO-chain).

    Equation:
        V_j = the score that the reward `value` gives span j: the value of the text before it
        R = sum_k w_k r_k over the rewards that score the row
        advantage of a token of span j = V_{j+1} - V_j, for the last span R - V_j

    Reduces to:
        R - V(prompt) for every token where the only span starts at the first token.

    Edge cases:
        The advantages of a row's spans add up to R - V_0. Tokens in no span get 0, a row without spans 0 everywhere; so
        does a row to which no reward applies.

    Paper:
        Segment Policy Optimization (SPO-chain), arXiv 2505.23564. No division by a standard deviation.
    """
    if value not in reward_names:
        raise ConfigError(f"advantage spo_segment takes values from reward.{value}; this run has {list(reward_names)}")
    v = span_rewards[..., list(reward_names).index(value)]
    total = weighted_sum(row_rewards(rewards, span_rewards), weights)
    there = ~torch.isnan(v)
    last = there & (there.long().flip(1).cumsum(1).flip(1) == 1)
    behind = torch.where(last, total[:, None], torch.cat([v[:, 1:], torch.full_like(v[:, :1], torch.nan)], dim=1))
    return spread(torch.nan_to_num(behind - v, nan=0.0), span, mask)
