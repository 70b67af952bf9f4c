"""Group-relative estimators: a completion is judged against the others of its prompt.

A row to which no reward applies (all NaN) is left out of every statistic and gets advantage 0.
"""

import torch

from rlpost.advantage.total import weighted_sum
from rlpost.masked import batch_mean, batch_std, group_count, group_mean, group_std, leave_one_out_mean
from rlpost.types import NK, Ids, K, N


def group_zscore(rewards: NK, weights: K, group: Ids, *, epsilon: float = 1e-4) -> N:
    """Total reward minus the group's mean, divided by the group's standard deviation (GRPO).

    Equation:
        r = sum_k w_k r_k over the rewards that apply
        advantage = (r - mean_group) / (std_group + epsilon), sample standard deviation

    Reduces to:
        group_centred times 1 / (std_group + epsilon).

    Edge cases:
        Equal rewards or a row alone in its group: 0. No reward applies: 0, and the row is left out of mean and std.

    Paper:
        DeepSeekMath, arXiv 2402.03300, section 4.1.2; epsilon and the sample std are TRL's scale_rewards=group.
    """
    r = weighted_sum(rewards, weights)
    return _zero_nan((r - group_mean(r, group)) / (group_std(r, group) + epsilon))


def group_centred(rewards: NK, weights: K, group: Ids) -> N:
    """Total reward minus the group's mean, without the standard deviation (Dr. GRPO).

    Equation:
        advantage = r - mean_group(r), with r = sum_k w_k r_k

    Reduces to:
        (G - 1)/G times leave_one_out in a group of G rows.

    Edge cases:
        A row alone in its group: 0. No reward applies: 0.

    Paper:
        Understanding R1-Zero-Like Training, arXiv 2503.20783; TRL's scale_rewards=none.
    """
    r = weighted_sum(rewards, weights)
    return _zero_nan(r - group_mean(r, group))


def batch_scaled(rewards: NK, weights: K, group: Ids, *, epsilon: float = 1e-4) -> N:
    """Total reward minus the group's mean, divided by the standard deviation over the whole step.

    Equation:
        advantage = (r - mean_group(r)) / (std_step(r) + epsilon), with r = sum_k w_k r_k

    Reduces to:
        group_zscore when the step is one group.

    Edge cases:
        The standard deviation is that of the rewards, not of the centred rewards, as in TRL's scale_rewards=batch.

    Paper:
        Tricks or Traps? A Deep Dive into RL for LLM Reasoning, arXiv 2508.08221; the form is TRL's.
    """
    r = weighted_sum(rewards, weights)
    return _zero_nan((r - group_mean(r, group)) / (batch_std(r) + epsilon))


def leave_one_out(rewards: NK, weights: K, group: Ids) -> N:
    """Total reward minus the mean of the other completions of the prompt: an unbiased baseline (RLOO).

    Equation:
        advantage_i = r_i - mean of r_j over j != i in the group

    Reduces to:
        G/(G - 1) times group_centred in a group of G rows.

    Edge cases:
        A row whose group has no other scored row: 0. No reward applies: 0.

    Paper:
        Back to Basics: Revisiting REINFORCE Style Optimization, arXiv 2402.14740.
    """
    r = weighted_sum(rewards, weights)
    return torch.where(group_count(r, group) > 1, _zero_nan(r - leave_one_out_mean(r, group)), 0.0)


def gdpo(rewards: NK, weights: K, group: Ids, *, epsilon: float = 1e-4) -> N:
    """Normalise each reward within its group before summing, so that rewards cannot cancel (GDPO).

    Equation:
        a_k = (r_k - mean_group r_k) / (std_group r_k + epsilon)
        a = sum_k w_k a_k over the rewards that apply
        advantage = (a - mean_step a) / (std_step a + epsilon)

    Reduces to:
        group_zscore followed by a z-score over the step when there is one reward of weight 1.

    Edge cases:
        A reward that is equal in the whole group contributes 0. No reward applies: 0, left out of all statistics.
        mean_step a is 0 but for rounding, since every column is centred in its groups; it is kept as in the source.

    Paper:
        GDPO, arXiv 2601.05242; TRL's multi_objective_aggregation=normalize_then_sum.
        Assumed: NaN rewards are left out as in TRL, where the paper's code makes them 0; the last z-score is done for
        one reward as well, as in TRL, where the paper's code falls back to GRPO.
    """
    columns = [(r - group_mean(r, group)) / (group_std(r, group) + epsilon) for r in rewards.unbind(-1)]
    a = weighted_sum(torch.stack(columns, dim=-1), weights)
    return _zero_nan((a - batch_mean(a)) / (batch_std(a) + epsilon))


def _zero_nan(values: N) -> N:
    return torch.nan_to_num(values, nan=0.0)
