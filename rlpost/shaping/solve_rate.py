"""Shaping by length that is milder where the prompt is hard."""

from collections.abc import Sequence

import torch

from rlpost.advantage.total import add_to_total, weighted_sum
from rlpost.errors import ConfigError
from rlpost.masked import group_mean
from rlpost.types import NK, Ids, K


def difficulty_overlong(
    rewards: NK,
    weights: K,
    reward_names: Sequence[str],
    group: Ids,
    role: Sequence[str],
    length: Ids,
    stop: Sequence[str],
    *,
    max_tokens: int,
    cache_fraction: float = 0.2,
    gamma: float = 1.0,
    failure_scale: float = 1.0,
    reward: str = "",
    threshold: float = 1.0,
) -> NK:
    """The overlong punishment, smaller for correct completions the fewer of their group are correct.

    Equation:
        cache = cache_fraction * max_tokens
        penalty = clip((max_tokens - cache - length) / cache, -1, 0)
        p = mean over the group's policy rows of 1[r >= threshold]
        scale = p^gamma if r >= threshold else failure_scale; 1 for a completion that max_tokens cut off
        sum_k w_k r_k grows by scale * penalty

    Reduces to:
        soft_overlong when gamma is 0 and failure_scale is 1.

    Edge cases:
        r is the column that `reward` names, the weighted total where it names none. Rows to which r does not apply
        (NaN) count neither in p nor as correct; rows without any reward stay NaN. Weights summing to 0 are refused.

    Paper:
        Apriel-Reasoner, arXiv 2604.02007; the rule is that of its published code (PipelineRL).
        Assumed: gamma 1 and the stretch of 20% (DAPO's), which neither the paper's text nor its configuration gives.
    """
    if reward and reward not in reward_names:
        raise ConfigError(
            f"shaping difficulty_overlong names the reward {reward!r}; this run has {list(reward_names)}."
        )
    r = rewards[:, list(reward_names).index(reward)] if reward else weighted_sum(rewards, weights)
    solved = torch.where(torch.isnan(r), torch.nan, (r >= threshold).to(rewards.dtype))
    policy = torch.tensor([name == "policy" for name in role], dtype=torch.bool)
    rate = group_mean(torch.where(policy, solved, torch.nan), group)
    cut = torch.tensor([s != "eos" for s in stop], dtype=torch.bool) & (length >= max_tokens)
    scale = torch.where(cut, 1.0, torch.where(solved == 1, rate**gamma, failure_scale))
    cache = cache_fraction * max_tokens
    penalty = ((max_tokens - cache - length.to(rewards.dtype)) / cache).clamp(-1, 0)
    return add_to_total(rewards, weights, scale * penalty)
