"""Importance ratios that stay finite. Imported by objectives and regularizers; not an option of its own."""

import torch
from torch import Tensor

LIMIT = 20.0


def bounded(log_ratio: Tensor) -> Tensor:
    """`log_ratio` clamped to +-20 nats: a factor of 5e8 serves no estimate, and exp overflows float32 at 88."""
    return log_ratio.clamp(-LIMIT, LIMIT)


def ratio(logp: Tensor, other: Tensor) -> Tensor:
    """exp(logp - other), bounded; the gradient is zero where the bound is active."""
    return torch.exp(bounded(logp - other))
