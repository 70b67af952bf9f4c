"""Advantages that objectives regress on: exact in scale, since they are targets and not only directions."""

import torch

from rlpost.advantage.total import weighted_sum
from rlpost.masked import group_count, group_logmeanexp, group_mean, group_std, rollouts
from rlpost.types import NK, Ids, K, N


def population_zscore(rewards: NK, weights: K, group: Ids, *, epsilon: float = 1e-6) -> N:
    """Total reward minus the group's mean, divided by the population standard deviation: mean square 1.

    Equation:
        r = sum_k w_k r_k over the rewards that apply
        advantage = (r - mean_group) / (std_group + epsilon), std with 1/G

    Reduces to:
        group_zscore times sqrt(G / (G - 1)) for a small epsilon.

    Edge cases:
        Equal rewards or a row alone in its group: 0. No reward applies: 0, and the row is left out of mean and std.

    Paper:
        DeepVideo-R1, arXiv 2506.07464: the target of Reg-GRPO. Assumed: the population form, whose mean square of 1 is
        that of the standardised log-ratios.
    """
    r = weighted_sum(rewards, weights)
    return torch.nan_to_num((r - group_mean(r, group)) / (group_std(r, group, ddof=0) + epsilon), nan=0.0)


def optimal_advantage(rewards: NK, weights: K, group: Ids, trajectory: Ids, *, beta1: float = 0.5) -> N:
    """Total reward minus the soft value of the prompt, estimated by the group: log-mean-exp instead of the mean.

    Equation:
        value = beta1 * log(mean over the group's rollouts of exp(r / beta1)), with r = sum_k w_k r_k
        advantage = r - value

    Reduces to:
        group_centred for beta1 -> infinity; r - max_group r for beta1 -> 0.

    Edge cases:
        Equal rewards or a row alone in its group: 0. No reward applies: 0, left out of the value. Rows of one
        trajectory are one rollout, whose rows to which a reward applies count for one together.

    Paper:
        LLMs Can Learn to Reason Via Off-Policy RL (OAPL), arXiv 2602.19362.
        Assumed: beta1 0.5 as in A*-PO by the same authors.
    """
    r = weighted_sum(rewards, weights)
    share = torch.where(torch.isnan(r), torch.nan, 1 / group_count(r, rollouts(group, trajectory)))
    value = group_logmeanexp(r / beta1 + share.log(), group) - group_mean(share, group).log()
    return torch.nan_to_num(r - beta1 * value, nan=0.0)
