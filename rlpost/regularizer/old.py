"""Per-token estimates of KL(old policy || policy), on tokens that the old policy drew: how far a batch has moved it."""

import torch

from rlpost.objective.ratio import LIMIT
from rlpost.types import NT, Loss


def kl_old(logp: NT, old_logp: NT) -> Loss:
    """The plain log-ratio: unbiased in value and gradient, since the old policy drew the tokens.

    Equation:
        value = old_logp - logp

    Edge cases:
        Single values may be negative; its mean over a step is what a trust region bounds (coefficient hinge).

    Paper:
        DisCO, arXiv 2505.12366: its constraint; `kl` in the published code.
    """
    value = old_logp - logp
    return Loss(value, {"kl_old": value.detach()})


def kl_old_k3(logp: NT, old_logp: NT) -> Loss:
    """The low-variance estimate of the same divergence: never negative.

    Equation:
        x = logp - old_logp
        value = exp(x) - x - 1

    Reduces to:
        half the squared log-ratio when the policies are close.

    Edge cases:
        x is bounded at +-20 nats; the gradient is zero beyond.

    Paper:
        DisCO, arXiv 2505.12366: `low_var_kl` in the published code.
    """
    x = (logp - old_logp).clamp(-LIMIT, LIMIT)
    value = torch.expm1(x) - x
    return Loss(value, {"kl_old": value.detach()})
