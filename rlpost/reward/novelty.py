"""Exploration by final answers: bonuses for answers that a prompt has seldom had. An advantage adds them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rlpost.lift import group_rows
from rlpost.reward.correct import final_answer, number, plain
from rlpost.types import Rollout

Extract = Literal["only", "final", "marked"]


class AnswerCounts:
    """How often each final answer of each task was seen over the run."""

    def __init__(self, extract: str, max_numbers: int) -> None:
        self.extract, self.max_numbers = extract, max_numbers
        self.seen: dict[str, dict[str, int]] = {}

    def bonus(self, rollout: Rollout) -> float | None:
        """min(1, 1/sqrt(count)), 1 for a new answer; None where the completion has none."""
        answer = answer_of(rollout, extract=self.extract, max_numbers=self.max_numbers)
        if answer is None:
            return None
        count = self.seen.get(rollout.task.id, {}).get(answer, 0)
        return 1.0 if count == 0 else count**-0.5

    def add(self, rollouts: Sequence[Rollout]) -> None:
        """Count the answers of a step."""
        for rollout in rollouts:
            answer = answer_of(rollout, extract=self.extract, max_numbers=self.max_numbers)
            if answer is not None:
                counts = self.seen.setdefault(rollout.task.id, {})
                counts[answer] = counts.get(answer, 0) + 1

    def state_dict(self) -> dict[str, Any]:
        """The counts, as plain data."""
        return {"seen": {task: dict(counts) for task, counts in self.seen.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.seen = {task: dict(counts) for task, counts in state["seen"].items()}


class AnswerUcb:
    """A bonus for final answers seldom seen on the prompt, less a constant (UCB; with the constant UCB-Con).

    Equation:
        N(x, a) = times that answer a was drawn on prompt x in earlier steps of the run
        b_i = min(1, 1 / sqrt(N(x, a_i))) - baseline, b = 1 - baseline for N = 0
    Reduces to:
        the paper's plain UCB at baseline 0.
    Edge cases:
        At baseline 0.5 an answer seen more than 4 times has a negative bonus. A completion without a final answer has
        bonus 0 and is not counted. Answers are told apart as `correct` compares them: as numbers where the gold answer
        is one. Completions of one step do not count for each other. Counts survive checkpoints.

    Paper:
        Outcome-based Exploration for LLM Reasoning, arXiv 2509.06941: baseline 0.5.
        Assumed: no bonus for completions without an answer, which could be a category of their own.
    """

    def __init__(self, *, baseline: float = 0.5, extract: Extract = "final", max_numbers: int = 8) -> None:
        self.baseline, self.counts = baseline, AnswerCounts(extract, max_numbers)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float]:
        found = [self.counts.bonus(rollout) for rollout in rollouts]
        return [0.0 if bonus is None else bonus - self.baseline for bonus in found]

    def observe(self, rollouts: Sequence[Rollout]) -> None:
        """Count the answers of a step."""
        self.counts.add(rollouts)

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return self.counts.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.counts.load_state_dict(state)


class AnswerUcbMean:
    """A bonus for final answers seldom seen on the prompt, less the mean bonus of the group's others (UCB-Mean).

    Equation:
        b_i = min(1, 1 / sqrt(N(x, a_i))), 1 for N = 0; N counts earlier steps
        bonus_i = b_i - mean of b_j over j != i in the group
    Edge cases:
        A completion without a final answer has bonus 0, is not counted and is in no mean. A completion whose group has
        no other answer: 0. Counts survive checkpoints.

    Paper:
        Outcome-based Exploration for LLM Reasoning, arXiv 2509.06941.
        Assumed: no bonus for completions without an answer, which could be a category of their own.
    """

    def __init__(self, *, extract: Extract = "final", max_numbers: int = 8) -> None:
        self.counts = AnswerCounts(extract, max_numbers)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float]:
        found = [self.counts.bonus(rollout) for rollout in rollouts]
        bonuses = [0.0] * len(rollouts)
        for rows in group_rows(rollouts).values():
            there = {i: bonus for i in rows if (bonus := found[i]) is not None}
            for i, bonus in there.items():
                others = len(there) - 1
                bonuses[i] = bonus - (sum(there.values()) - bonus) / others if others else 0.0
        return bonuses

    def observe(self, rollouts: Sequence[Rollout]) -> None:
        """Count the answers of a step."""
        self.counts.add(rollouts)

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return self.counts.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.counts.load_state_dict(state)


def answer_repeats(rollouts: Sequence[Rollout], *, extract: Extract = "final", max_numbers: int = 8) -> list[float]:
    """A penalty for final answers that others of the group have too: diversity within the batch.

    Equation:
        bonus_i = -(1/G) * number of j != i in the group with a_j = a_i
    Edge cases:
        All distinct: 0. All equal: -(G - 1)/G. A completion without a final answer: 0, and it repeats nobody.

    Paper:
        Outcome-based Exploration for LLM Reasoning, arXiv 2509.06941 (Batch).
    """
    answers = [answer_of(rollout, extract=extract, max_numbers=max_numbers) for rollout in rollouts]
    bonuses = [0.0] * len(rollouts)
    for rows in group_rows(rollouts).values():
        for i in rows:
            if answers[i] is not None:
                bonuses[i] = -sum(answers[j] == answers[i] for j in rows if j != i) / len(rows)
    return bonuses


def answer_of(rollout: Rollout, *, extract: str, max_numbers: int) -> str | None:
    """The final answer in a form that is equal for answers that count as equal; None where there is none."""
    numeric = rollout.task.answer is not None and number(str(rollout.task.answer)) is not None
    found = final_answer(rollout.text, extract=extract, max_numbers=max_numbers, numeric=numeric)
    if found is None:
        return None
    value = number(found) if numeric else None
    if numeric:
        return None if value is None else f"{value.normalize():f}"
    return plain(found) or None
