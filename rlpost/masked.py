"""Masked and per-group statistics: the only copies in rlpost.

Conventions decided here once: an empty mask has mean 0; the standard deviation is the sample one (n-1) as in TRL, and 0
for fewer than two values; NaN entries (a reward that does not apply) are left out of every statistic.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def masked_mean(values: Float[Tensor, "*s"], mask: Bool[Tensor, "*s"]) -> Float[Tensor, ""]:
    """Mean of `values` where `mask`; 0 if the mask is empty."""
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def row_sum(values: Float[Tensor, "N T"], mask: Bool[Tensor, "N T"]) -> Float[Tensor, "N"]:
    """Sum over the tokens of each row where `mask`."""
    return torch.where(mask, values, 0).sum(-1)


def row_mean(values: Float[Tensor, "N T"], mask: Bool[Tensor, "N T"]) -> Float[Tensor, "N"]:
    """Mean over the tokens of each row where `mask`; 0 for an empty row."""
    return row_sum(values, mask) / mask.sum(-1).clamp(min=1)


def dense(ids: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
    """Ids renumbered 0..n-1."""
    return torch.unique(ids, return_inverse=True)[1]


def together(*ids: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
    """One id per row, equal where all of the given ids are: groups within groups."""
    return torch.unique(torch.stack(ids, dim=-1), dim=0, return_inverse=True)[1]


def rollouts(group: Int[Tensor, "N"], trajectory: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
    """Ids from 0 on: rows of one trajectory in a group share one, rows without a number (-1) have their own."""
    alone = -1 - torch.arange(len(group), device=group.device)
    return together(group, torch.where(trajectory < 0, alone, trajectory))


def group_count(values: Float[Tensor, "N"], group: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Number of non-NaN values in each row's group."""
    return _spread(_scatter((~torch.isnan(values)).to(values.dtype), group), group)


def group_sum(values: Float[Tensor, "N"], group: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Sum of the non-NaN values in each row's group, broadcast to the rows."""
    return _spread(_scatter(torch.nan_to_num(values, nan=0.0), group), group)


def group_mean(values: Float[Tensor, "N"], group: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Mean of the non-NaN values in each row's group; 0 where a group has none."""
    return group_sum(values, group) / group_count(values, group).clamp(min=1)


def group_std(values: Float[Tensor, "N"], group: Int[Tensor, "N"], *, ddof: int = 1) -> Float[Tensor, "N"]:
    """Standard deviation of the non-NaN values in each row's group; 0 for groups of at most `ddof` values."""
    centred = torch.where(torch.isnan(values), 0.0, values - group_mean(values, group))
    return (group_sum(centred**2, group) / (group_count(values, group) - ddof).clamp(min=1)).sqrt()


def leave_one_out_mean(values: Float[Tensor, "N"], group: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Mean of the other rows of the group; 0 for a row alone in its group."""
    others = group_count(values, group) - (~torch.isnan(values)).to(values.dtype)
    return (group_sum(values, group) - torch.nan_to_num(values, nan=0.0)) / others.clamp(min=1)


def group_logmeanexp(values: Float[Tensor, "N"], group: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
    """log(mean(exp)) over the non-NaN values in each row's group, without overflow; 0 where a group has none."""
    there, count = ~torch.isnan(values), group_count(values, group)
    top = group_max(values.detach(), group)
    total = group_sum(torch.where(there, torch.where(there, values - top, 0.0).exp(), 0.0), group)
    return top + torch.where(count > 0, total / count.clamp(min=1), 1.0).log()


def group_max(values: Float[Tensor, "N"], group: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
    """The greatest non-NaN value in each row's group; 0 where a group has none."""
    ids = dense(group)
    lowest = values.new_full((int(ids.max()) + 1 if len(ids) else 0,), -torch.inf)
    found = lowest.scatter_reduce(0, ids, torch.nan_to_num(values, nan=-torch.inf), "amax")
    return torch.nan_to_num(found, neginf=0.0)[ids]


def batch_mean(values: Float[Tensor, "N"]) -> Float[Tensor, ""]:
    """Mean over all non-NaN rows; 0 if there is none."""
    return group_mean(values, torch.zeros(len(values), dtype=torch.long))[0] if len(values) else values.new_zeros(())


def batch_std(values: Float[Tensor, "N"]) -> Float[Tensor, ""]:
    """Sample standard deviation over all non-NaN rows; 0 for fewer than two."""
    return group_std(values, torch.zeros(len(values), dtype=torch.long))[0] if len(values) else values.new_zeros(())


def _scatter(values: Tensor, group: Tensor) -> Tensor:
    ids = dense(group)
    return values.new_zeros(int(ids.max()) + 1 if len(ids) else 0).index_add(0, ids, values)


def _spread(per_group: Tensor, group: Tensor) -> Tensor:
    return per_group[dense(group)]
