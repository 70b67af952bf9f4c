"""Weights by how sure the sampler was of a token."""

from rlpost.types import NT


def probability_mask(gen_logp: NT, *, threshold: float = 0.9) -> NT:
    """Train only on tokens of which the sampler was unsure: the others chose nothing (SPO).

    Equation:
        weight_t = 1 where exp(gen_logp_t) < threshold, otherwise 0

    Edge cases:
        With `renormalise: true`, as in its option, the tokens at 0 leave mask and counts: token_mean is then the
        paper's mean over the tokens that are left.

    Paper:
        Segment Policy Optimization, arXiv 2505.23564.
    """
    return (gen_logp.exp() < threshold).to(gen_logp.dtype)
