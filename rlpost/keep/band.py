"""Rules on how often a prompt is solved."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from rlpost.advantage.total import weighted_sum
from rlpost.errors import ConfigError
from rlpost.masked import group_count, group_sum, rollouts
from rlpost.types import NK, Ids, K


def difficulty_band(
    rewards: NK,
    weights: K,
    reward_names: Sequence[str],
    group: Ids,
    trajectory: Ids,
    role: Sequence[str],
    *,
    low: float = 0.2,
    high: float = 0.8,
    reward: str = "",
) -> Bool[Tensor, "N"]:
    """Keep groups that the policy solves neither too often nor too rarely (balanced online difficulty filtering).

    Equation:
        p = mean of r over the group's rollouts by the policy; keep = low <= p <= high

    Reduces to:
        no filter at low 0 and high 1; mixed_groups for rewards of 0 and 1 at low = 1 - high = 1 / (2 G).

    Edge cases:
        r is the column that `reward` names, the weighted total where it names none; it should be 0 or 1. A group
        without a scored policy row is dropped. Rows of one trajectory are one rollout, whose scored rows count for one
        together. low 0 keeps groups that are all wrong, which teach nothing. Few
        completions make p coarse: of 4, only 1/4, 1/2 and 3/4 are inside. The variance of a binary reward is p (1 - p),
        largest in the middle; advantages divided by their deviation have variance 1 for every p between 0 and 1, so
        for them the band gains less. The paper's bound p (1 - p) / (2 beta^2) on the KL divergence to the optimal
        policy is its leading term for a large beta and lies above it: at beta 1, p = 1/2 it is 0.125 against 0.120, at
        beta 0.04 78 against 11.8.

    Paper:
        Online Difficulty Filtering for Reasoning Oriented Reinforcement Learning, arXiv 2504.03380.
        Assumed: the band 0.2 to 0.8; 0.3 to 0.7 and 0.1 to 0.9 are others.
    """
    if not low <= high:
        raise ConfigError(f"keep difficulty_band has low={low} above high={high} and would drop every group")
    if reward and reward not in reward_names:
        raise ConfigError(f"keep difficulty_band names the reward {reward!r}; this run has {list(reward_names)}.")
    r = rewards[:, list(reward_names).index(reward)] if reward else weighted_sum(rewards, weights)
    policy = torch.tensor([name == "policy" for name in role], dtype=torch.bool)
    r = torch.where(policy, r, torch.nan)
    share = torch.where(torch.isnan(r), torch.nan, 1 / group_count(r, rollouts(group, trajectory)))
    count = group_sum(share, group)
    p = group_sum(r * share, group) / count.clamp(min=1e-9)
    return (p >= low) & (p <= high) & (count > 0)
