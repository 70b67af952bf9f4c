"""Shaping along the steps of a trajectory."""

from collections.abc import Sequence

import torch

from rlpost.errors import ConfigError
from rlpost.masked import together
from rlpost.types import NK, Ids


def discounted_return(
    rewards: NK,
    reward_names: Sequence[str],
    group: Ids,
    trajectory: Ids,
    index: Ids,
    *,
    reward: str = "action_return",
    gamma: float = 0.5,
    matched: float = 0.9,
) -> NK:
    """A step earns what its trajectory earns from there on, as far as the steps are right: a mistake cuts the chain.

    Equation:
        backwards along index: G_t = r_t + gamma G_{t+1} where r_t >= matched, else G_t = r_t and steps before it see 0

    Reduces to:
        no shaping at gamma 0 and for trajectories of one step.

    Edge cases:
        The step before a mistake gets its own r alone. Only the column that `reward` names changes. A step to which it
        does not apply (NaN) stays so and cuts the chain.

    Paper:
        UI-S1, arXiv 2509.11543: gamma 0.5. With r = 0.1 form + 0.9 action, r >= 0.9 says that the action is right.
    """
    if reward not in reward_names:
        raise ConfigError(f"shaping discounted_return names the reward {reward!r}; this run has {list(reward_names)}.")
    column = list(reward_names).index(reward)
    found, follows = rewards[:, column].clone(), {}
    own = together(group, trajectory).tolist()
    for row in sorted(range(len(own)), key=lambda i: -int(index[i])):
        good = bool(found[row] >= matched)
        if good:
            found[row] += gamma * follows.get(own[row], 0.0)
        follows[own[row]] = found[row].item() if good else 0.0
    return torch.cat([rewards[:, :column], found[:, None], rewards[:, column + 1 :]], dim=1)
