"""Shaping by the length of the completion."""

from rlpost.advantage.total import add_to_total
from rlpost.types import NK, Ids, K


def soft_overlong(rewards: NK, weights: K, length: Ids, *, max_tokens: int, cache_fraction: float = 0.2) -> NK:
    """Lower the total reward linearly over the last stretch before the length limit, down to -1 at it.

    Equation:
        cache = cache_fraction * max_tokens
        penalty = clip((max_tokens - cache - length) / cache, -1, 0)
        sum_k w_k r_k grows by penalty

    Edge cases:
        Every reward that applies takes an equal part; weights summing to 0 are refused. Rows without rewards stay NaN.

    Paper:
        DAPO (soft overlong punishment), arXiv 2503.14476, section 3.4; 4096 of 20480 tokens there, hence 0.2.
    """
    cache = cache_fraction * max_tokens
    penalty = ((max_tokens - cache - length.to(rewards.dtype)) / cache).clamp(-1, 0)
    return add_to_total(rewards, weights, penalty)
