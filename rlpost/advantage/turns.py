"""Credit for trajectories of several rows: each counts once, or each turn is judged against the same turn of others."""

import torch

from rlpost.advantage.total import weighted_sum
from rlpost.masked import group_count, group_max, group_mean, group_std, together
from rlpost.types import NK, Ids, K, N


def trajectory_zscore(rewards: NK, weights: K, group: Ids, trajectory: Ids, index: Ids, *, epsilon: float = 1e-6) -> N:
    """What a trajectory earned at its end, against the others of its group; all of its rows get the same.

    Equation:
        r_i = sum_k w_k r_k over the rewards that apply to the last row (greatest index) of trajectory i
        advantage of its rows = (r_i - mean_group r) / (std_group r + epsilon), over trajectories, sample deviation

    Reduces to:
        group_zscore (with its epsilon) where every trajectory is one row.

    Edge cases:
        Equal rewards or a trajectory alone in its group: 0. No reward applies to the last row: 0, left out of mean
        and std. Rewards of earlier rows are not read.

    Paper:
        MGPO, arXiv 2507.05920: the advantage of a conversation stands at the tokens of both of its turns.
    """
    own = together(group, trajectory)
    r = weighted_sum(rewards, weights)
    r = torch.where(index == group_max(index.to(r.dtype), own), r, torch.nan)
    judged = group_count(r, own) > 0
    z = (group_mean(r, own) - group_mean(r, group)) / (group_std(r, group) + epsilon)
    return torch.where(judged, z, 0.0)
