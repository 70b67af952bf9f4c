"""Credit from a process reward model whose scores are bounded, so that more steps cannot earn more."""

from typing import Literal

import torch

from rlpost.advantage.total import weighted_sum
from rlpost.masked import group_mean, group_std
from rlpost.spans import NS, NSK, Span, row_rewards, spread, suffix_sum, weighted_spans
from rlpost.types import NK, NT, Ids, K, Mask

Variant = Literal["raw", "clip", "delta", "clip_delta"]


def clip_delta(
    rewards: NK,
    weights: K,
    span_rewards: NSK,
    group: Ids,
    span: Span,
    mask: Mask,
    *,
    variant: Variant = "clip_delta",
    alpha: float = 0.02,
    eta: float | None = None,
    epsilon: float = 1e-4,
) -> NT:
    """A step earns the outcome and the bounded sum of process rewards from it on (Clip and Delta).

    Equation:
        p_k = sum_j w_j r_{k,j} over the rewards that score step k = 1 .. K; o = sum_j w_j r_j of those that score rows
        c_k = p_k in raw and delta, min(p_k - eta, 0) in clip and clip_delta
        v_k = c_k in raw and clip; in delta and clip_delta c_k - c_{k+1} for k <= K-2, c_{K-1} for K-1, 0 for K
        G_k = alpha * sum_{l >= k} v_l + o
        advantage of a token of step k = (G_k - mean) / (std + epsilon), over the G of all steps of the group's rows

    Reduces to:
        group_zscore where no row has a scored step.

    Edge cases:
        With delta the sum from step k on is c_k itself, 0 for the last step, which the outcome alone judges; one step
        alone has v = 0. A step without a score is skipped: it has the return of those behind it. A token in no step
        has o in place of G, and a row without a scored step counts once, with o. eta null is the mean of p over this
        step's scored steps. A row to which no reward applies: 0, left out. Equal returns: 0.

    Paper:
        On Designing Effective RL Reward at Training Time for LLM Reasoning, arXiv 2410.15115.
        Assumed: alpha; eta's source, there the starting policy's mean; group normalisation, where the paper has PPO.
        The forms of clip and delta are from reading, there is no code.
    """
    p = weighted_spans(span_rewards, weights)
    there = ~torch.isnan(p)
    v = process_rewards(p, variant, eta)
    whole = weighted_sum(row_rewards(rewards, span_rewards), weights)
    known = there.any(1) | ~torch.isnan(whole)
    outcome = torch.nan_to_num(whole, nan=0.0)
    returns = alpha * suffix_sum(torch.nan_to_num(v, nan=0.0)) + outcome[:, None]
    # Rows without a scored step bring their outcome into the statistics, in a column of its own.
    alone = torch.where(known & ~there.any(1), outcome, torch.nan)
    counted = torch.cat([torch.where(there, returns, torch.nan), alone[:, None]], dim=1)
    ids = group[:, None].expand(counted.shape).reshape(-1)
    flat = counted.reshape(-1)
    mean = group_mean(flat, ids).view(counted.shape)[:, :1]
    std = group_std(flat, ids).view(counted.shape)[:, :1]
    inside = mask & (span >= 0) & (span < p.shape[1])
    credit = torch.where(inside, spread(returns, span, mask), outcome[:, None])
    return torch.where(mask & known[:, None], (credit - mean) / (std + epsilon), 0.0)


def process_rewards(p: NS, variant: Variant, eta: float | None) -> NS:
    """v of each step (N,S) from its score; NaN stays NaN and is skipped. The rules are those of clip_delta."""
    there = ~torch.isnan(p)
    if variant in ("clip", "clip_delta"):
        limit = eta if eta is not None else (p[there].mean() if there.any() else 0.0)
        p = (p - limit).clamp(max=0)
    if variant in ("raw", "clip"):
        return p
    behind = suffix_sum(there.long()) - there.long()
    following = torch.zeros_like(p)
    for k in range(p.shape[1] - 2, -1, -1):
        following[:, k] = torch.where(there[:, k + 1], p[:, k + 1], following[:, k + 1])
    v = torch.where(behind >= 2, p - following, torch.where(behind == 1, p, 0.0))
    return torch.where(there, v, torch.nan)
