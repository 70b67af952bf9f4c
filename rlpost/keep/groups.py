"""Rules on whole groups."""

import torch
from jaxtyping import Bool
from torch import Tensor

from rlpost.advantage.total import weighted_sum
from rlpost.masked import group_mean, group_sum
from rlpost.types import NK, Ids, K, N


def mixed_groups(rewards: NK, weights: K, group: Ids, *, tolerance: float = 1e-6) -> Bool[Tensor, "N"]:
    """Keep groups whose completions do not all earn the same: the others carry no group-relative signal.

    Equation:
        keep = max_group |r - mean_group r| > tolerance, with r = sum_k w_k r_k

    Edge cases:
        A group with fewer than two scored rows is dropped. All groups may be dropped: such a step has nothing to learn.
        DAPO samples further prompts until the batch is full; this rule makes the step smaller instead.

    Paper:
        DAPO (dynamic sampling), arXiv 2503.14476, section 3.2.
        Assumed: equal total rewards stand for "all correct or all wrong", so that it serves graded rewards too.
    """
    r = weighted_sum(rewards, weights)
    spread = torch.nan_to_num((r - group_mean(r, group)).abs(), nan=0.0)
    return group_sum((spread > tolerance).to(rewards.dtype), group) > 0


def off_mean(rewards: NK, weights: K, group: Ids, *, tolerance: float = 1e-6) -> Bool[Tensor, "N"]:
    """Keep rows whose total reward is not their group's mean: the others have a centred advantage of 0.

    Equation:
        keep_i = |r_i - mean_group r| > tolerance, with r = sum_k w_k r_k

    Edge cases:
        A row to which no reward applies stays: another rule decides on it. Rows that leave do not move the mean of the
        others, but they do change a deviation that is computed afterwards.

    Paper:
        Segment Policy Optimization, arXiv 2505.23564: edges of a tree without an advantage are dropped.
    """
    r = weighted_sum(rewards, weights)
    return ~((r - group_mean(r, group)).abs() <= tolerance)
