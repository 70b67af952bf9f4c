"""Regularizers on the entropy of the policy."""

from rlpost.types import NT, Loss


def entropy_bonus(entropy: NT) -> Loss:
    """Minus the entropy of each token's distribution: a positive coef rewards exploration.

    Equation:
        value = -entropy

    Edge cases:
        TRL averages its bonus per micro-batch; with the aggregate token_mean ours is the same mean over the whole step.

    Paper:
        Asynchronous Methods for Deep Reinforcement Learning, arXiv 1602.01783, section 4.
    """
    return Loss(-entropy, {"entropy": entropy.detach()})
