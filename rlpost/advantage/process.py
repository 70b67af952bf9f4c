"""Credit from scores of steps: what a token earns is decided by the steps that it leads to.

The return of step k is a sum over the steps from k on, less a baseline from the other completions of the prompt.
"""

from typing import Literal

import torch
from torch import Tensor

from rlpost.advantage.group import leave_one_out
from rlpost.masked import group_sum, leave_one_out_mean
from rlpost.spans import NS, NSK, Span, last_tokens, row_rewards, sizes, spread, suffix_sum, weighted_spans
from rlpost.types import NK, NT, Ids, K, Mask

Baseline = Literal["token", "step"]


def pure(
    rewards: NK,
    weights: K,
    span_rewards: NSK,
    group: Ids,
    span: Span,
    mask: Mask,
    *,
    temperature: float = 0.1,
    baseline: Baseline = "token",
) -> NT:
    """Credit a step with the worst step from it on, instead of the sum: good padding cannot pay (PURE).

    Equation:
        s_k = sum_j w_j r_{k,j} over the rewards that score step k; c_k = softmax_k(-s / temperature) * s_k
        G_k = sum_{l >= k} (c_l - b_l); outcome o = sum_j w_j r_j over the rewards that score the row
        advantage of a token of step k = G_k + o - mean of o over the other rows of the group
        baseline token: b_l = tokens of step l * (sum of c of the other rows) / (sum of their tokens)
        baseline step:  b_l = mean over the other rows of (sum of c) / (their steps)

    Reduces to:
        process_sum with softmax = 1; leave_one_out where no step is scored, but for the last tokens of steps. For
        temperature -> 0 G_k + its baseline is min_l s_l up to the worst step, 0 behind it.

    Edge cases:
        The last token of a step gets 0, as released (it is the separator, or the stop token), and a step's size in b is
        counted without it, the rows' lengths with it. A token in no step has the outcome part alone. A step without
        a score is skipped, a row without any is left out of the baseline. A row alone in its group is refused by the
        official code; here it has no baseline in G and 0 for o.

    Paper:
        Stop Summation: Min-Form Credit Assignment Is All Process Reward Model Needs for Reasoning, arXiv 2504.15275;
        the baselines are the official code's. No division by a standard deviation.
    """
    s = weighted_spans(span_rewards, weights)
    there = ~torch.isnan(s)
    share = torch.softmax(torch.where(there, -s / temperature, -torch.inf), dim=1)
    c = torch.where(there, share * s, torch.nan)
    return _credit(c, group, span, mask, baseline) + _outcome(rewards, weights, span_rewards, group, span, mask)


def process_sum(
    rewards: NK,
    weights: K,
    span_rewards: NSK,
    group: Ids,
    span: Span,
    mask: Mask,
    *,
    baseline: Baseline = "token",
) -> NT:
    """Credit a step with the sum of the scores from it on: what PURE is held against.

    Equation:
        s_k = sum_j w_j r_{k,j} over the rewards that score step k; G_k = sum_{l >= k} (s_l - b_l)
        advantage of a token of step k = G_k + o - mean of o over the other rows, baselines as in pure with c = s

    Reduces to:
        pure with every softmax = 1.

    Edge cases:
        Those of pure. More steps of a positive score always pay: the return can be raised by padding.

    Paper:
        The canonical summation form in Stop Summation, arXiv 2504.15275.
    """
    s = weighted_spans(span_rewards, weights)
    return _credit(s, group, span, mask, baseline) + _outcome(rewards, weights, span_rewards, group, span, mask)


def _credit(c: NS, group: Ids, span: Span, mask: Mask, baseline: Baseline) -> NT:
    """The return of its own step for every token, 0 at the last token of each; `c` is NaN where a step has no score."""
    there = ~torch.isnan(c)
    scored = there.any(1)
    total = torch.where(scored, torch.nansum(c, dim=1), torch.nan)
    if baseline == "token":
        length = torch.where(scored, mask.sum(1).to(c.dtype), torch.nan)
        b = _others(total, group) / _others(length, group).clamp(min=1)
        each = b[:, None] * (sizes(span, mask, c.shape[1]) - 1).clamp(min=0)
    else:
        each = leave_one_out_mean(total / there.sum(1), group)[:, None]
    returns = suffix_sum(torch.where(there, c - each, 0.0))
    return torch.where(last_tokens(span, mask), 0.0, spread(returns, span, mask))


def _outcome(rewards: NK, weights: K, span_rewards: NSK, group: Ids, span: Span, mask: Mask) -> NT:
    part = leave_one_out(row_rewards(rewards, span_rewards), weights, group)
    return torch.where(last_tokens(span, mask), 0.0, part[:, None].expand(mask.shape))


def _others(values: Tensor, group: Ids) -> Tensor:
    """The sum over the other rows of the group, NaN left out."""
    return group_sum(values, group) - torch.nan_to_num(values, nan=0.0)
