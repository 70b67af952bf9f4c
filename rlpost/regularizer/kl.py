"""Per-token estimates of KL(policy || reference) as terms of the loss."""

import torch

from rlpost.objective.ratio import LIMIT
from rlpost.types import NT, Loss


def kl_k1(logp: NT, ref_logp: NT) -> Loss:
    """The log-ratio itself: unbiased as an estimate of the divergence, but useless as a loss.

    Equation:
        value = logp - ref_logp

    Edge cases:
        Its gradient is that of logp alone, whose mean under the policy is 0: it adds noise and no pull towards the
        reference. It belongs into the reward (shaping kl_penalty); as a term it serves comparisons.

    Paper:
        Schulman, Approximating KL Divergence (2020), no arXiv id: k1.
    """
    value = logp - ref_logp
    return Loss(value, {"kl": value.detach()})


def kl_k2(logp: NT, ref_logp: NT) -> Loss:
    """Half the squared log-ratio: its gradient is, on policy, the gradient of KL(policy || reference).

    Equation:
        value = (logp - ref_logp)^2 / 2

    Edge cases:
        The value is a biased estimate of the divergence; the gradient is not.

    Paper:
        Schulman, Approximating KL Divergence (2020), no arXiv id: k2.
    """
    value = (logp - ref_logp) ** 2 / 2
    return Loss(value, {"kl": value.detach()})


def kl_k3(logp: NT, ref_logp: NT, *, clamp: float | None = None) -> Loss:
    """The low-variance estimate that GRPO uses: never negative, unbiased under the policy.

    Equation:
        x = clip(ref_logp - logp, -clamp, clamp)
        value = exp(x) - x - 1

    Reduces to:
        kl_k2 to second order when the models are close.

    Edge cases:
        clamp=None bounds x at +-20 nats so that exp stays finite; Video-R1 uses 10. The gradient is zero beyond.

    Paper:
        Schulman, Approximating KL Divergence (2020), k3; DeepSeekMath, arXiv 2402.03300, eq. 4.
    """
    bound = LIMIT if clamp is None else clamp
    x = (ref_logp - logp).clamp(-bound, bound)
    value = torch.expm1(x) - x
    return Loss(value, {"kl": value.detach()})
