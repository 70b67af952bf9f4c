"""Which rows of a group are right, wrong or neither. Imported by objectives; not an option of its own."""

import torch
from jaxtyping import Bool
from torch import Tensor

from rlpost.types import Mask, N


def rated(reward: N, mask: Mask) -> Bool[Tensor, "N"]:
    """Rows to which a reward applies and of which a token trains; the others stay out of every group statistic."""
    return ~torch.isnan(reward) & mask.any(-1)


def labels(reward: N, mask: Mask, threshold: float) -> N:
    """1 for a right row (reward > threshold), 0 for a wrong one, NaN for a row that is not rated."""
    return torch.where(rated(reward, mask), (reward > threshold).to(reward.dtype), torch.nan)
