"""Shaping that asks for short answers only where the prompts of a batch are solved best."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from rlpost.advantage.total import weighted_sum
from rlpost.errors import ConfigError
from rlpost.masked import dense, group_count, group_mean, group_std
from rlpost.types import NK, Ids, K, N


def length_switch(
    rewards: NK,
    weights: K,
    reward_names: Sequence[str],
    group: Ids,
    length: Ids,
    *,
    share: float = 0.2,
    alpha: float = 0.2,
    reward: str = "",
    threshold: float = 1.0,
) -> NK:
    """Long correct answers earn less, in the share of the step's groups that are solved best (GRPO-lambda).

    Equation:
        S = the ceil(share * B) of the step's B groups with the largest part of rows with r >= threshold
        z = (length - mean) / std of the length over the correct rows of the group, std of n
        r_i *= 1 - alpha * sigmoid(z) where r_i >= threshold and the group is in S

    Reduces to:
        no shaping at share 0 or alpha 0; a length penalty for every prompt at share 1.

    Edge cases:
        r is the reward that `reward` names, the weighted total where it names none; all columns of a correct row are
        multiplied. With fewer than 2 correct rows, or equal lengths, z is 0. Of groups solved alike the one that comes
        first in the step (the smaller number) is taken. Rows to which r does not apply (NaN) are in no statistic and
        keep their rewards. In a group that is all correct group_zscore gives the length differences unit size whatever
        alpha is; group_centred leaves them at alpha.

    Paper:
        Stable Reinforcement Learning for Efficient Reasoning (GRPO-lambda), arXiv 2505.18086: the top 20% of a batch.
        Assumed: the sigmoid of the length's z-score and alpha 0.2; there is no code.
    """
    if reward and reward not in reward_names:
        raise ConfigError(f"shaping length_switch names the reward {reward!r}; this run has {list(reward_names)}.")
    r = rewards[:, list(reward_names).index(reward)] if reward else weighted_sum(rewards, weights)
    right = r >= threshold
    solved = group_mean(torch.where(torch.isnan(r), torch.nan, right.to(rewards.dtype)), group)
    own = torch.where(right, length.to(rewards.dtype), torch.nan)
    std = group_std(own, group, ddof=0)
    z = torch.where((group_count(own, group) > 1) & (std > 0), (own - group_mean(own, group)) / std, 0.0)
    factor = torch.where(right & best(solved, group, share), 1 - alpha * torch.sigmoid(z), 1.0)
    return rewards * factor.unsqueeze(-1)


def best(solved: N, group: Ids, share: float) -> Bool[Tensor, "N"]:
    """True in the rows of the share of the groups with the largest `solved`, which is equal within each group."""
    ids = dense(group)
    groups = int(ids.max()) + 1 if len(ids) else 0
    rate = solved.new_zeros(groups).index_put((ids,), solved)
    # The share in decimal digits: 0.2 of 5 groups is 1, not the 2 that binary rounding might make of it.
    chosen = torch.argsort(rate, descending=True, stable=True)[: math.ceil(round(share * groups, 9))]
    return torch.isin(ids, chosen)
