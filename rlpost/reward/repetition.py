"""A penalty for text that says the same again."""

from rlpost.errors import ConfigError
from rlpost.lift import per_rollout
from rlpost.types import Rollout


@per_rollout
def repetition(rollout: Rollout, *, n: int = 3, penalty: float = -1.0) -> float:
    """`penalty` times the share of a completion's n-grams of words that stood in it before.

    Equation:
        score = penalty (1 - |{n-grams}| / number of n-grams), over words in lower case

    Edge cases: 0 for a text of fewer than `n` words, which repeats nothing.

    Paper:
        Demystifying Long Chain-of-Thought Reasoning in LLMs, arXiv 2502.03373, appendix C.2. RAIF, arXiv 2506.01413,
        has an optional penalty of this kind, whose form it does not give.
    """
    if n < 1 or penalty > 0:
        raise ConfigError(f"reward repetition: n={n} must be 1 or more, penalty={penalty:g} 0 or less")
    return penalty * repeated_share(rollout.text.lower(), n)


def repeated_share(text: str, n: int) -> float:
    """Share of the n-grams of words that occurred before; 0 in a text of fewer words."""
    words = text.split()
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
