"""Credit that favours likely completions, or the end of a completion (entropy-performance exchange)."""

import torch

from rlpost.advantage.group import group_zscore
from rlpost.masked import group_mean, group_std, row_mean
from rlpost.types import NK, NT, Ids, K, Mask, N


def perplexity_weighted(
    rewards: NK,
    weights: K,
    group: Ids,
    old_logp: NT,
    mask: Mask,
    *,
    alpha: float = 0.01,
    epsilon: float = 1e-4,
    perplexity_epsilon: float = 1e-6,
) -> N:
    """GRPO's advantage, larger in size for completions of low perplexity, right or wrong.

    Equation:
        l_i = -mean_t old_logp_t where mask, the log-perplexity
        z_i = (l_i - mean_group l) / (std_group l + perplexity_epsilon)
        advantage = group_zscore * max(0, 1 - alpha * z)

    Gradient:
        None through the perplexity: old_logp is a number.

    Reduces to:
        group_zscore for alpha 0.

    Edge cases:
        Perplexities that differ by less than perplexity_epsilon in deviation, and a row alone: z = 0. Rows to which no
        reward applies count in the perplexities. The maximum matters for large alpha only. z has mean 0 in the group,
        so the mean size of equal advantages stays.

    Paper:
        Decomposing the Entropy-Performance Exchange: The Missing Keys to Unlocking Effective Reinforcement Learning,
        arXiv 2508.02260. Assumed: the factor 1 - alpha * z and alpha 0.01, for which no code was found; the statistics
        over the group rather than the batch.
    """
    logp = row_mean(old_logp, mask)
    spread = group_std(logp, group)
    z = torch.where(spread <= perplexity_epsilon, 0.0, (group_mean(logp, group) - logp) / (spread + perplexity_epsilon))
    credit = group_zscore(rewards, weights, group, epsilon=epsilon)
    return credit * (1 - alpha * z.to(credit.dtype)).clamp(min=0)


def position_bonus(
    rewards: NK,
    weights: K,
    group: Ids,
    mask: Mask,
    *,
    gamma: float = 0.1,
    slope: float = 10.0,
    centre: float = 0.5,
    epsilon: float = 1e-4,
) -> NT:
    """GRPO's advantage with a bonus in its own direction that grows towards the end of the completion.

    Equation:
        A = group_zscore;  rel_t = t / |o|, t = 1..|o| over the tokens where mask
        advantage_t = A + sign(A) * gamma * sigmoid(slope * (rel_t - centre))

    Reduces to:
        group_zscore for gamma 0.

    Edge cases:
        A = 0 stays 0. The bonus adds to the size everywhere and does not average to 0: a gamma comparable to |A|
        makes the whole gradient larger. A negative slope favours the beginning. Tokens outside the mask: 0.

    Paper:
        Decomposing the Entropy-Performance Exchange, arXiv 2508.02260. Assumed: gamma, slope and centre, and the
        sigmoid's argument; no code was found.
    """
    credit = group_zscore(rewards, weights, group, epsilon=epsilon)[:, None]
    place = mask.cumsum(-1) / mask.sum(-1, keepdim=True).clamp(min=1)
    bonus = gamma * torch.sigmoid(slope * (place - centre)).to(credit.dtype)
    return torch.where(mask, credit + credit.sign() * bonus, 0.0)
