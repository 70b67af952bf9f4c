"""Kernels below the objectives: every one has an eager twin of the same signature."""

from rlpost.kernels.eager import linear_divergence, linear_logp

__all__ = ["linear_divergence", "linear_logp"]
