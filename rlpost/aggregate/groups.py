"""Means that give groups, not rows, the same weight."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rlpost.masked import dense, group_sum
from rlpost.types import Counts, Ids, Mask


def group_mean(mask: Mask, group: Ids, counts: Counts) -> Float[Tensor, "N T"]:
    """Mean over a row's tokens, over the rows of its group, then over groups: every question weighs the same.

    Equation:
        W = mask / (length of the row * rows with tokens in the group * groups of the step)

    Reduces to:
        row_mean when all groups have the same number of rows and every row has tokens.

    Edge cases:
        A row without tokens has weight 0 and is not counted in its group; a group without tokens still counts as one.

    Paper:
        DisCO, arXiv 2505.12366: the mean over questions of its objective.
    """
    m = mask.float()
    rows = group_sum(mask.any(-1).float(), group).clamp(min=1).unsqueeze(-1)
    return m / (m.sum(-1, keepdim=True).clamp(min=1) * rows * max(counts.groups, 1))


def role_mean(mask: Mask, group: Ids, role: Sequence[str], counts: Counts) -> Float[Tensor, "N T"]:
    """Mean over a row's tokens, over the rows of its role in its group, then over groups: each role weighs the same.

    Equation:
        W = mask / (length of the row * rows with tokens of its role in its group * groups of the step)

    Reduces to:
        group_mean where a group's rows all play one role.

    Edge cases:
        A term that is 0 on all other roles (expert_nll) is the mean over its own role's rows; groups without such a row
        still count. A row without tokens has weight 0 and is not counted.

    Paper:
        None; it keeps a demonstration's weight from depending on how many completions stand beside it.
    """
    m = mask.float()
    return m / (m.sum(-1, keepdim=True).clamp(min=1) * _alike(mask, group, role) * max(counts.groups, 1))


def role_fixed_length(
    mask: Mask, group: Ids, role: Sequence[str], counts: Counts, *, max_tokens: int
) -> Float[Tensor, "N T"]:
    """Sum over a row's tokens divided by a constant, mean over the rows of its role in its group, then over groups.

    Equation:
        W = mask / (max_tokens * rows with tokens of its role in its group * groups of the step)

    Reduces to:
        fixed_length when all groups have the same number of rows, all of one role.

    Edge cases:
        As role_mean; max_tokens only scales the loss.

    Paper:
        Understanding R1-Zero-Like Training, arXiv 2503.20783, section 3.2, for steps where some questions have one row.
    """
    return mask.float() / (max_tokens * _alike(mask, group, role) * max(counts.groups, 1))


def _alike(mask: Mask, group: Ids, role: Sequence[str]) -> Tensor:
    """(N,1): rows with tokens in the row's group that play its role, at least 1."""
    names = {name: i for i, name in enumerate(dict.fromkeys(role))}
    number = torch.tensor([names[name] for name in role], dtype=torch.long, device=group.device)
    return group_sum(mask.any(-1).float(), dense(group) * max(len(names), 1) + number).clamp(min=1).unsqueeze(-1)
