"""Shaping that makes one reward conditional on another."""

from collections.abc import Sequence

import torch

from rlpost.errors import ConfigError
from rlpost.types import NK


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
