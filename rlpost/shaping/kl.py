"""Shaping by the distance to the reference policy."""

from rlpost.advantage.total import add_to_total
from rlpost.masked import row_sum
from rlpost.types import NK, NT, K, Mask


def kl_penalty(rewards: NK, weights: K, old_logp: NT, ref_logp: NT, mask: Mask, *, beta: float = 0.05) -> NK:
    """Subtract the completion's log-ratio to the reference from its total reward (RLOO, RLHF).

    Equation:
        sum_k w_k r_k falls by beta * sum_t(old_logp - ref_logp) over the tokens where mask

    Edge cases:
        The k1 estimate is negative for completions that the reference prefers. Every reward that applies takes an equal
        part; weights that sum to 0 are refused. Rows without a reward stay NaN.

    Paper:
        Back to Basics: Revisiting REINFORCE Style Optimization, arXiv 2402.14740; beta is TRL 1.16's.
    """
    return add_to_total(rewards, weights, -beta * row_sum(old_logp - ref_logp, mask).to(rewards.dtype))
