"""Kernels below the objectives. `eager` holds plain twins of the same signature, which the tests compare them with."""

from rlpost.kernels.budget import logits_budget
from rlpost.kernels.linear_divergence import linear_divergence
from rlpost.kernels.linear_logp import linear_logp

__all__ = ["linear_divergence", "linear_logp", "logits_budget"]
