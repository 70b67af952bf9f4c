"""Corrections for the gap between the engine that sampled and the model that trains."""

from rlpost.objective.ratio import ratio
from rlpost.types import NT


def tis(gen_logp: NT, old_logp: NT, *, cap: float = 2.0) -> NT:
    """Truncated importance sampling: weight tokens by how much likelier the trainer finds them than the sampler did.

    Equation:
        M = min(exp(old_logp - gen_logp), cap), no gradient

    Reduces to:
        1 when the sampler and the trainer agree.

    Edge cases:
        Weights below 1 are kept, only large ones are cut.

    Paper:
        Your Efficient RL Framework Secretly Brings You Off-Policy RL Training (Yao et al. 2025), no arXiv id; cap 2.
    """
    return ratio(old_logp, gen_logp).detach().clamp(max=cap)
