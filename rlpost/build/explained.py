"""A model's explanation of a known answer against its own attempt without it."""

from collections.abc import Sequence
from typing import Literal

from rlpost.build.rows import pair, score
from rlpost.types import Rollout, Task


def explained_pairs(
    rollouts: Sequence[Rollout],
    *,
    rejected: Literal["wrong", "any"] = "wrong",
    reward: str = "",
    threshold: float = 1.0,
) -> list[Task]:
    """The explanation that rollout expo wrote is chosen, a completion of the same prompt rejected: one pair a prompt.

    Equation:
        chosen = (c, a*) with c ~ pi(. | x, a*);  rejected = the first y ~ pi(. | x) with r(x, y) < threshold
        any: the first y whatever it earns

    Edge cases:
        A prompt without an explanation, or whose completions are all right, gives no pair (any: all to which a reward
        applies count). Equal texts and empty ones are no pair. `reward` names one, "" is the weighted total.

    Paper:
        ExPO: Unlocking Hard Reasoning with Self-Explanation-Guided RL, arXiv 2507.02834: the pairs of ExP-DPO.
    """
    found: dict[str, tuple[list[Rollout], list[Rollout]]] = {}
    for rollout in rollouts:
        explanations, attempts = found.setdefault(rollout.group, ([], []))
        if rollout.role == "explanation":
            explanations.append(rollout)
        elif rollout.role == "policy":
            attempts.append(rollout)
    pairs = []
    for explanations, attempts in found.values():
        for chosen in explanations[:1]:
            losing = [
                one
                for one in attempts
                if (value := score(one, reward)) is not None and (rejected == "any" or value < threshold)
            ]
            other = next((one for one in losing if one.text.strip() and one.text != chosen.text), None)
            if other is not None:
                pairs.append(pair(chosen, other))
    return pairs
