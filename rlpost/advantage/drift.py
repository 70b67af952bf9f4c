"""Outcome credit less how far the rest of the completion leaves the reference: a penalty that knows where it arose."""

import torch

from rlpost.advantage.group import group_zscore
from rlpost.advantage.total import weighted_sum
from rlpost.masked import group_count
from rlpost.spans import Span, last_tokens, suffix_sum
from rlpost.types import NK, NT, Ids, K, Mask


def prl_process(
    rewards: NK,
    weights: K,
    group: Ids,
    old_logp: NT,
    ref_logp: NT,
    mask: Mask,
    span: Span,
    *,
    eta: float = 200.0,
    epsilon: float = 1e-6,
) -> NT:
    """GRPO's advantage less the log-ratio to the reference that is still to come, one value per step (PRL).

    Equation:
        A = (r - mean_group) / (std_group + epsilon), r = sum_k w_k r_k
        C_t = sum_{j >= t} (old_logp_j - ref_logp_j) over the tokens where mask
        advantage_t = A - C_e / eta, e the first end of a span at t or behind it; the last token is an end

    Gradient:
        None: the log-ratio is a number of the credit, not a penalty in the loss.

    Reduces to:
        group_zscore for eta -> infinity, and where the policy is the reference, in groups of two rows or more.

    Edge cases:
        C_e has what follows the end e, the token e itself included, not the rest of its own span. Tokens in no span
        take the value of the next end. A row alone in its group has mean 0 and deviation 1, so that A is its reward.
        A row without a reward has A = 0 and keeps the penalty.

    Paper:
        PRL: Process Reward Learning Improves LLMs' Reasoning Ability and Broadens the Reasoning Boundary,
        arXiv 2601.10201; spans of 256 tokens (rollout=windows) or lines.
        Assumed: every end has a value, also where that is exactly 0, which the official code takes for a gap.
    """
    r = weighted_sum(rewards, weights)
    alone = group_count(r, group) == 1
    a = torch.where(alone & ~torch.isnan(r), r / (1 + epsilon), group_zscore(rewards, weights, group, epsilon=epsilon))
    to_come = suffix_sum(torch.where(mask, old_logp - ref_logp, 0.0))
    left = suffix_sum(mask.long())
    ends = last_tokens(span, mask) | (mask & (left == 1))
    value = a[:, None] - to_come / eta
    width = mask.shape[1]
    place = torch.where(ends, torch.arange(width).expand(mask.shape), width)
    following = place.flip(1).cummin(1).values.flip(1)
    return torch.where(mask, value.gather(1, following.clamp(max=max(width - 1, 0))), 0.0)
