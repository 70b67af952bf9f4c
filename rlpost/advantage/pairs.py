"""Estimators that read comparisons between the completions of a prompt."""

import torch
from jaxtyping import Float
from torch import Tensor

from rlpost.masked import group_sum
from rlpost.types import Ids, N


def pair_zscore(pair_rewards: Float[Tensor, "N G"], group: Ids, *, epsilon: float = 1e-6) -> N:
    """Mean difference to the group's members over what would be their standard deviation (Think-RM's pairwise GRPO).

    Equation:
        advantage_i = (1/G sum_j D_ij) / sqrt(sum_ij D_ij^2 / (2 G (G - 1)) + epsilon), D = pair_rewards
    Reduces to:
        group_zscore where D_ij = r_i - r_j: the denominator is then the sample deviation.
    Edge cases:
        All D of a group 0, or a row alone in its group: 0. A circle (A beats B beats C beats A by as much) gives 0 to
        all. Rows that `keep` removed still stand in the sums of the others. No pairwise reward applies (NaN): 0.

    Paper:
        Think-RM, arXiv 2505.16265; epsilon is that of its published code.
    """
    there = ~torch.isnan(pair_rewards)
    d = torch.where(there, pair_rewards, 0.0)
    size = there.sum(-1).to(d.dtype)
    spread = group_sum((d**2).sum(-1), group) / (2 * size * (size - 1)).clamp(min=1)
    return d.sum(-1) / size.clamp(min=1) / (spread + epsilon).sqrt()
