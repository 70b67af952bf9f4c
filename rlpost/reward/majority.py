"""A reward without labels: agreement with the group's majority, as a pseudo-label."""

from collections import Counter
from collections.abc import Sequence

from rlpost.lift import per_group
from rlpost.reward.cluster import Extract, Kind, answer_id
from rlpost.types import Rollout


@per_group
def majority_vote(
    rollouts: Sequence[Rollout], *, kind: Kind = "number", extract: Extract = "final", max_numbers: int = 8
) -> list[float]:
    """1 for the answer that most completions of the group give, 0 for others: the gold answer is not read (MM-UPT).

    Equation:
        y = the most frequent final answer of the group, the first seen among equals;  r_i = 1[y_i = y]
    Edge cases:
        "No answer" is a value that can be the most frequent; then every reward is 0. All answers different: the first
        one is the majority. The mean of this reward is the majority's share: at 1 nothing is left to learn, and it says
        nothing of what is right. Images of a task are not looked at here. `kind`, `extract` and `max_numbers` are those
        of reward `answer_cluster`.

    Paper:
        Unsupervised Post-Training for Multi-Modal LLM Reasoning via GRPO (MM-UPT), arXiv 2505.22453.
        Assumed: no reward where most completions have no answer, which the released code would reward.
    """
    answers = [answer_id(rollout, kind=kind, extract=extract, max_numbers=max_numbers) for rollout in rollouts]
    most = Counter(answers).most_common(1)[0][0]
    return [float(answer is not None and answer == most) for answer in answers]
