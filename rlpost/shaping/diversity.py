"""Shaping that pays more for what few completions of a prompt do."""

from collections.abc import Sequence

import torch

from rlpost.errors import ConfigError
from rlpost.masked import group_sum, together
from rlpost.types import NK, Ids


def format_diversity(
    rewards: NK, reward_names: Sequence[str], group: Ids, *, label: str = "opening", strength: float = 1.0
) -> NK:
    """Rewards grow with the rarity of the completion's format in its group, less and less over the run (Ada-GRPO).

    Equation:
        F_i = rows of the group with the same format as row i, G = rows of the group
        r_i *= 1 + strength * (G / F_i - 1)

    Reduces to:
        no shaping at strength 0, for known formats; nor where all rows of a group have the same format.

    Edge cases:
        The column `label` numbers the formats and stays as it is. Its NaN is an unknown format: the row's other rewards
        become 0 (NaN stays). strength may be a schedule: the option's is half a cosine from 1 to 0 over the run, which
        makes the factor G / F at first and 1 at the end.

    Paper:
        ARM: Adaptive Reasoning Model (Ada-GRPO), arXiv 2505.20258; the form is that of its published code.
    """
    if label not in reward_names:
        raise ConfigError(
            f"shaping format_diversity reads the column {label!r} for the formats; this run has {list(reward_names)}: "
            "add reward=opening or name another one in shaping.format_diversity.label"
        )
    form = rewards[:, list(reward_names).index(label)]
    known = ~torch.isnan(form)
    ids = torch.unique(torch.nan_to_num(form, nan=0.0), return_inverse=True)[1]
    ones = torch.ones_like(form)
    same = group_sum(ones, together(group, ids, known.long()))
    factor = torch.where(known, 1 + strength * (group_sum(ones, group) / same - 1), 0.0)
    scaled = torch.tensor([name != label for name in reward_names], device=rewards.device)
    return torch.where(scaled, rewards * factor.unsqueeze(-1), rewards)
