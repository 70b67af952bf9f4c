"""How often a listener and the reasoner whose thoughts it read settle on different choices."""

from collections.abc import Sequence

from rlpost.errors import RewardError
from rlpost.reward.listener import answered
from rlpost.types import Rollout


def disagreement(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """The share of completions whose thoughts lead the listener to another choice than their own answer.

    Equation:
        mean of 1[argmax of the listener != answer] over completions that parse; the same over those that are right
    Edge cases:
        A completion that the listener did not hear counts nowhere; an answer that is no choice disagrees. Without a
        right one there is no second value.
    Paper: Listener-Rewarded Thinking in VLMs for Image Preferences, arXiv 2506.22832.
    """
    heard = [r for r in rollouts if "listener_choice" in r.info]
    if not heard:
        raise RewardError("no completion was heard by a listener: metric disagreement needs reward=[...,listener]")
    apart = [float(r.info["listener_choice"] != answered(r.text)) for r in heard]
    right = [a for a, r in zip(apart, heard, strict=True) if answered(r.text) == str(r.task.answer)]
    found = {"disagreement": sum(apart) / len(apart)}
    return found | ({"disagreement_of_right": sum(right) / len(right)} if right else {})
