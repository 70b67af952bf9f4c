"""Means that give groups, not rows, the same weight."""

from jaxtyping import Float
from torch import Tensor

from rlpost.masked import group_sum
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
