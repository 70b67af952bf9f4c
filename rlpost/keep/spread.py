"""Rules on how far the completions of a prompt lie apart."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from rlpost.errors import ConfigError
from rlpost.masked import group_std
from rlpost.types import NK, Ids


def return_spread(
    rewards: NK,
    reward_names: Sequence[str],
    group: Ids,
    index: Ids,
    *,
    reward: str = "action_return",
    least: float = 0.3,
) -> Bool[Tensor, "N"]:
    """Keep groups whose trajectories differ enough in what they return from their first step on.

    Equation:
        keep = std over the group's rows with index 0 of r > least, sample deviation

    Edge cases:
        A group with fewer than two first steps to which `reward` applies has deviation 0 and is dropped.

    Paper:
        UI-S1, arXiv 2509.11543: 0.3.
        Assumed: the sample deviation.
    """
    if reward not in reward_names:
        raise ConfigError(f"keep return_spread names the reward {reward!r}; this run has {list(reward_names)}.")
    r = rewards[:, list(reward_names).index(reward)]
    return group_std(torch.where(index == 0, r, torch.nan), group) > least
