"""Shaping that gives a bonus a size of its own, whatever the model is that it is read from."""

from collections.abc import Sequence
from typing import Literal

import torch

from rlpost.errors import ConfigError
from rlpost.masked import batch_mean, batch_std
from rlpost.types import NK


def bonus_scale(
    rewards: NK, reward_names: Sequence[str], *, bonus: str = "elliptical", scale: Literal["std", "zscore"] = "std"
) -> NK:
    """Divide a bonus by its standard deviation over the step (RepExp's normalisations).

    Equation:
        r_bonus becomes r_bonus / std (std), or (r_bonus - mean) / std (zscore), over all rows of the step

    Edge cases:
        Sample deviation. Where it is 0 the bonus stays as it is, but for its mean in zscore. NaN stays NaN and is in no
        statistic. Before a gate (shaping=[bonus_scale,solved_gate]) what is gated is 0; behind it a z-score is not.

    Paper:
        Representation-Based Exploration for Language Models, arXiv 2510.11686: none, std or zscore.
    """
    names = list(reward_names)
    if bonus not in names:
        raise ConfigError(f"shaping bonus_scale names the reward {bonus!r}, which this run lacks; it has {names}.")
    column = rewards[:, names.index(bonus)]
    spread = batch_std(column)
    scaled = (column - batch_mean(column) if scale == "zscore" else column) / torch.where(spread > 0, spread, 1.0)
    return torch.where(torch.tensor([name == bonus for name in names]), scaled[:, None], rewards)
