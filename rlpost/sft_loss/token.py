"""Supervised losses per token of the demonstration."""

import math

from rlpost.types import NT, Loss


def nll(logp: NT) -> Loss:
    """Negative log-likelihood of the demonstration.

    Equation:
        value = -logp

    Edge cases:
        With the aggregate token_mean it is TRL's SFT loss over all trained tokens of the step.

    Paper:
        None; TRL 1.16 loss_type nll.
    """
    return Loss(-logp)


def dft(logp: NT) -> Loss:
    """Negative log-likelihood weighted by the token's own probability, so that odd tokens do not dominate.

    Equation:
        value = -stopgrad(exp(logp)) * logp

    Gradient:
        -exp(logp) with respect to logp; the weight is detached.

    Reduces to:
        nll when the probability is 1.

    Edge cases:
        A token of probability 1e-3 has a gradient 1000 times smaller than under nll, and an unseen one almost none.

    Paper:
        On the Generalization of SFT (Dynamic Fine-Tuning), arXiv 2508.05629; TRL 1.16 loss_type dft.
    """
    p = logp.detach().exp()
    return Loss(-p * logp, {"probability": p})


def phi(logp: NT, *, cutoff: float | None = None) -> Loss:
    """Negative log-likelihood of what the policy is unsure of: neither what it knows nor what it would never say.

    Equation:
        value = -stopgrad(p * (1 - p)) * logp, with p = exp(logp)

    Gradient:
        -p * (1 - p) with respect to logp; the weight is detached. With a cutoff it is 0 where p exceeds it.

    Reduces to:
        dft without the factor 1 - p; that one is the importance-sampling weight of the same paper.

    Edge cases:
        The weight is at most 1/4, at p = 1/2, and vanishes for sure tokens and for tokens of no probability: what the
        policy never says is not learnt.

    Paper:
        CHORD, arXiv 2508.11408: the weight phi; the cutoff is that of its published code, which clamps logp.
    """
    p = logp.detach().exp()
    bound = logp if cutoff is None else logp.clamp(max=math.log(cutoff))
    return Loss(-p * (1 - p) * bound, {"probability": p})


def asft(logp: NT, ref_divergence: NT, *, anchor: float = 0.05) -> Loss:
    """DFT anchored to the base model by the full-vocabulary divergence to it (ASFT).

    Equation:
        value = -stopgrad(exp(logp)) * logp + anchor * ref_divergence, with KL(reference || policy) by default

    Gradient:
        -exp(logp) with respect to logp plus anchor times the divergence's own; the weight is detached.

    Reduces to:
        dft when anchor is 0.

    Edge cases:
        The divergence is not weighted by the probability: the anchor holds where DFT barely learns.

    Paper:
        Anchored Supervised Fine-Tuning, arXiv 2509.23753. Assumed: anchor 0.05 (its README; its code has 0.1).
    """
    weighted = dft(logp)
    return Loss(weighted.value + anchor * ref_divergence, {**weighted.metrics, "kl": ref_divergence.detach()})
