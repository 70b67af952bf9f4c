"""Credit only for reasoning that is at least as good as none."""

import torch

from rlpost.advantage.group import group_zscore
from rlpost.errors import ConfigError
from rlpost.types import NK, Ids, K, N


def superior_zscore(
    rewards: NK,
    weights: K,
    group: Ids,
    reward_names: tuple[str, ...],
    *,
    gain: str = "constraint_gain",
    epsilon: float = 1e-4,
) -> N:
    """Group z-score for rows whose reasoning did not lose against an answer without it, 0 for the others (RAIF).

    Equation:
        advantage = group_zscore * [gain >= 0] * rows / (rows where gain >= 0)

    Reduces to:
        group_zscore when no row has a negative gain.

    Edge cases:
        The z-score is over all rows of the group. A gain that does not apply (NaN) keeps its row. The factor makes a
        mean over all rows (aggregate row_mean) one over the rows that stay; terms without the advantage, such as a KL,
        see all rows. No row stays: all 0.

    Paper:
        RAIF, arXiv 2506.01413: superior-CoT sample filter. Its advantages are computed before masking, as here.
    """
    if gain not in reward_names:
        raise ConfigError(
            f"advantage superior_zscore reads the reward {gain!r}, and there are {', '.join(reward_names)}; keep "
            "constraint_gain among the rewards, or name another one in advantage.gain"
        )
    stays = ~(rewards[:, reward_names.index(gain)] < 0)
    share = len(rewards) / stays.sum().clamp(min=1)
    return torch.where(stays, group_zscore(rewards, weights, group, epsilon=epsilon) * share, 0.0)
