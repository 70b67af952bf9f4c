"""Shaping that makes one reward conditional on another."""

from collections.abc import Sequence

import torch

from rlpost.errors import ConfigError
from rlpost.masked import group_count, group_sum
from rlpost.types import NK, Ids


def gate(rewards: NK, reward_names: Sequence[str], *, easy: tuple[str, ...], hard: str, threshold: float = 1.0) -> NK:
    """Count easy rewards only where the hard one is reached (GDPO's conditioned reward).

    Equation:
        r_easy becomes r_easy * 1[r_hard >= threshold]

    Edge cases:
        Where the hard reward does not apply (NaN) the easy ones stay as they are; an easy NaN stays NaN.

    Paper:
        GDPO, arXiv 2601.05242.
    """
    names = list(reward_names)
    unknown = [name for name in (*easy, hard) if name not in names]
    if unknown:
        raise ConfigError(f"shaping gate names the reward {unknown[0]!r}, which this run lacks; it has {names}.")
    condition = rewards[:, names.index(hard)]
    shut = condition < threshold
    gated = torch.tensor([name in easy for name in names], device=rewards.device)
    return torch.where(shut.unsqueeze(-1) & gated & ~torch.isnan(rewards), 0.0, rewards)


def solved_gate(
    rewards: NK, reward_names: Sequence[str], group: Ids, *, bonus: str, reward: str = "correct", threshold: float = 1.0
) -> NK:
    """Count a bonus only in groups in which some completion reaches another reward (RepExp's switch).

    Equation:
        r_bonus becomes r_bonus * 1[max over the group of r_reward >= threshold]

    Reduces to:
        the rewards unchanged when every group has a completion that reaches the threshold.

    Edge cases:
        Where the other reward applies to no row of a group (NaN) the bonus stays; a bonus that is NaN stays NaN.

    Paper:
        Representation-Based Exploration for Language Models, arXiv 2510.11686 (turn_off_if_none_correct).
    """
    names = list(reward_names)
    unknown = [name for name in (bonus, reward) if name not in names]
    if unknown:
        raise ConfigError(f"shaping solved_gate names the reward {unknown[0]!r}, which this run lacks; it has {names}.")
    reached = rewards[:, names.index(reward)]
    solved = torch.where(torch.isnan(reached), torch.nan, (reached >= threshold).to(rewards.dtype))
    shut = (group_sum(solved, group) == 0) & (group_count(solved, group) > 0)
    column = torch.tensor([name == bonus for name in names], device=rewards.device)
    return torch.where(shut.unsqueeze(-1) & column & ~torch.isnan(rewards), 0.0, rewards)
