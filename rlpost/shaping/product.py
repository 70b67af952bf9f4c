"""Shaping that multiplies one reward by another."""

from collections.abc import Sequence

import torch

from rlpost.errors import ConfigError
from rlpost.types import NK


def consistency_product(
    rewards: NK,
    reward_names: Sequence[str],
    *,
    reward: str = "correct",
    consistency: str = "reasoning_agrees",
    share: float = 0.5,
) -> NK:
    """A right answer counts more where its reasoning agrees with it, less where it does not (R1-Reward).

    Equation:
        r_reward becomes r_reward * (1 + share * r_consistency)

    Reduces to:
        the rewards unchanged for share 0.

    Edge cases:
        A wrong answer (0) earns nothing for agreeing with itself. A consistency that does not apply (NaN) counts as 0.
        Give the consistency weight 0, as its option does, or it is added as well.

    Paper:
        R1-Reward, arXiv 2505.02835: share 0.5.
    """
    names = list(reward_names)
    unknown = [name for name in (reward, consistency) if name not in names]
    if unknown:
        raise ConfigError(f"shaping consistency_product names the reward {unknown[0]!r}; this run has {names}.")
    agrees = torch.nan_to_num(rewards[:, names.index(consistency)], nan=0.0)
    column = torch.tensor([name == reward for name in names], device=rewards.device)
    return torch.where(column, rewards * (1 + share * agrees).unsqueeze(-1), rewards)
