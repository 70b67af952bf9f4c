"""How many different answers a policy gives, on prompts that it solves and on others."""

from collections.abc import Sequence
from statistics import fmean

from rlpost.errors import RewardError
from rlpost.reward.novelty import Extract, answer_of
from rlpost.stack import row_score
from rlpost.types import Rollout


def distinct_answers(
    rollouts: Sequence[Rollout],
    *,
    score: str = "correct",
    threshold: float = 1.0,
    extract: Extract = "final",
    max_numbers: int = 8,
) -> dict[str, float]:
    """The number of different final answers to a prompt, over all prompts, the solved and the unsolved ones.

    Equation:
        distinct_answers = mean over prompts of |{a_1 .. a_n}|; solved: prompts with a completion of score >= threshold

    Edge cases:
        Completions without an answer count as one answer together. Rows to which `score` does not apply solve nothing.
        Without a solved, or without an unsolved prompt, that number is missing.

    Paper:
        Outcome-based Exploration for LLM Reasoning, arXiv 2509.06941: its metrics of diversity.
    """
    groups: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        if rollout.role == "policy":
            groups.setdefault(rollout.task.id, []).append(rollout)
    if not groups:
        raise RewardError("metric distinct_answers: there are no completions of the policy")
    found: dict[str, list[int]] = {"distinct_answers": []}
    for rows in groups.values():
        count = len({answer_of(row, extract=extract, max_numbers=max_numbers) for row in rows})
        values = [row_score(row.scores.get(score)) for row in rows]
        solved = any(value is not None and value >= threshold for value in values)
        found["distinct_answers"].append(count)
        found.setdefault(f"distinct_answers_{'solved' if solved else 'unsolved'}", []).append(count)
    return {name: fmean(counts) for name, counts in found.items()}
