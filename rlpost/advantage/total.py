"""Reward columns as one number per row. Imported by estimators, keep rules and shaping; not an option of its own."""

import torch

from rlpost.types import NK, K, N


def weighted_sum(rewards: NK, weights: K) -> N:
    """sum_k w_k r_k over the rewards that apply to a row; NaN for a row to which none applies (as in TRL)."""
    total = torch.nansum(rewards * weights, dim=-1)
    return torch.where(torch.isnan(rewards).all(-1), torch.nan, total)


def add_to_total(rewards: NK, weights: K, amount: N) -> NK:
    """Add the same number to each reward that applies to a row, so that `weighted_sum` grows by `amount`."""
    applied = (~torch.isnan(rewards)).to(rewards.dtype) @ weights.to(rewards.dtype)
    if bool((applied == 0).logical_and(~torch.isnan(rewards).all(-1)).any()):
        raise ValueError(
            f"The reward weights {weights.tolist()} that apply to a row sum to 0, so a penalty cannot be spread; "
            "give the rewards weights with a non-zero sum."
        )
    return rewards + (amount / applied).unsqueeze(-1)
