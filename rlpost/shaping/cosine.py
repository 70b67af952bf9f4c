"""Shaping by length that is opposite for right and wrong answers."""

import math
from collections.abc import Sequence

import torch

from rlpost.errors import ConfigError
from rlpost.types import NK, Ids


def cosine_length(
    rewards: NK,
    reward_names: Sequence[str],
    length: Ids,
    *,
    max_tokens: int,
    reward: str = "correct",
    threshold: float = 1.0,
    right_short: float = 2.0,
    right_long: float = 1.0,
    wrong_short: float = -10.0,
    wrong_long: float = 0.0,
    exceeded: float = -10.0,
    margin: int = 0,
) -> NK:
    """Right answers earn more the shorter they are, wrong ones lose more the shorter they are (cosine reward).

    Equation:
        r >= threshold: short, long = right_short, right_long; else wrong_short, wrong_long
        r becomes long + (short - long) * (1 + cos(pi * length / max_tokens)) / 2
        and exceeded where length + margin >= max_tokens, right or wrong

    Reduces to:
        0 and 1 for right_short = right_long = 1 and wrong_short = wrong_long = exceeded = 0.

    Edge cases:
        r is the column that `reward` names, and it alone changes. Where it does not apply (NaN) it stays so. With
        margin 0 only completions that fill max_tokens have exceeded it, a finished one of that length included.

    Paper:
        Demystifying Long Chain-of-Thought Reasoning in LLMs, arXiv 2502.03373: the numbers of its cosine reward.
        Assumed: margin 0; the released code counts a few tokens (16, from reading) before the limit as exceeded.
    """
    if reward not in reward_names:
        raise ConfigError(
            f"shaping cosine_length replaces the reward {reward!r}; this run has {list(reward_names)}: name one in "
            "shaping.cosine_length.reward"
        )
    column = torch.tensor([name == reward for name in reward_names], device=rewards.device)
    right = rewards >= threshold
    part = (1 + torch.cos(math.pi * length.to(rewards.dtype) / max_tokens)).unsqueeze(-1) / 2
    worth = torch.where(
        right, right_long + (right_short - right_long) * part, wrong_long + (wrong_short - wrong_long) * part
    )
    worth = torch.where((length + margin >= max_tokens).unsqueeze(-1), exceeded, worth)
    return torch.where(column & ~torch.isnan(rewards), worth, rewards)
