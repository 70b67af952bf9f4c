"""REINFORCE++'s advantage: rewards whitened over the whole step, outliers left out."""

import torch

from rlpost.advantage.total import weighted_sum
from rlpost.types import NK, K, Mask, N


def whitened_within(rewards: NK, weights: K, mask: Mask, *, limit: float = 3.0, epsilon: float = 1e-8) -> N:
    """Total reward whitened over all tokens of the step; what is further out than `limit` deviations is 0 (R1-Reward).

    Equation:
        mu, var = mean and variance (by n) of r over all tokens of the step where mask, r = sum_k w_k r_k of their row
        z = (r - mu) / sqrt(max(var, epsilon));  advantage = z where |z| <= limit, otherwise 0

    Reduces to:
        the whitening of REINFORCE++ without a critic for an infinite limit; of rows, where all are equally long.

    Edge cases:
        Long rows weigh more in mean and variance, since each of their tokens counts. Groups play no part, so a single
        completion per prompt suffices. A variance below epsilon: 0. No reward applies: 0, left out of the statistics.

    Paper:
        R1-Reward, arXiv 2505.02835 (advantage filter, limit 3). Assumed: z is compared with +-limit as in its text; its
        code compares z with the mean +-3, and drops |z| > 10.
    """
    r = weighted_sum(rewards, weights)
    there = ~torch.isnan(r)
    value = torch.where(there, r, 0.0).double()
    tokens = torch.where(there, mask.sum(-1), 0).double()
    total = tokens.sum().clamp(min=1)
    centred = value - (value * tokens).sum() / total
    variance = (centred**2 * tokens).sum() / total
    z = centred / variance.clamp(min=epsilon).sqrt()
    stays = there & (z.abs() <= limit) & (variance >= epsilon)
    return torch.where(stays, z, 0.0).to(r.dtype)
