"""Shaping along a series of ever longer attempts at one question."""

from collections.abc import Sequence

import torch

from rlpost.advantage.total import weighted_sum
from rlpost.errors import ConfigError
from rlpost.types import NK, Ids, K


def exit_decay(
    rewards: NK,
    weights: K,
    reward_names: Sequence[str],
    group: Ids,
    index: Ids,
    *,
    decay: float = 0.5,
    threshold: float = 1.0,
    reward: str = "",
) -> NK:
    """Correct answers of a series earn less the more correct ones come before them: the earliest exit earns most.

    Equation:
        e_i = number of rows j of the group with index_j < index_i and r_j >= threshold
        r_i *= decay^e_i where r_i >= threshold

    Reduces to:
        no shaping at decay 1, and for groups with at most one correct row.

    Edge cases:
        r is the reward that `reward` names, the weighted total where it names none; all columns of a correct row are
        multiplied. Rows that are wrong, or to which r does not apply, keep their rewards. Groups that are no series
        (every index equal, as in rollout sample) are left as they are.

    Paper:
        S-GRPO, arXiv 2505.07686: 1, 1/2, 1/4, ... for the correct answers of the exits in their order.
    """
    if reward and reward not in reward_names:
        raise ConfigError(f"shaping exit_decay names the reward {reward!r}; this run has {list(reward_names)}.")
    r = rewards[:, list(reward_names).index(reward)] if reward else weighted_sum(rewards, weights)
    right = r >= threshold
    before = (group[:, None] == group) & (index[:, None] > index) & right
    factor = torch.where(right, decay ** before.sum(-1).to(rewards.dtype), 1.0)
    return rewards * factor.unsqueeze(-1)
