"""SEC: a bandit over categories whose value follows the advantage that each yields."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from rlpost.curriculum.categories import Categories
from rlpost.errors import ConfigError
from rlpost.types import Outcome, Task


class Sec:
    """Sample categories by a softmax over values that track the mean |advantage| of their completions.

    Equation:
        r_c = mean |a| over this step's completions of category c
        Q_c <- alpha r_c + (1 - alpha) Q_c where category c was seen, from Q_c = 0
        P = softmax(Q / tau); within a category every task is equally likely, with replacement

    Reduces to:
        uniform sampling of categories when tau is large; alpha 1 remembers the last step alone.

    Edge cases:
        Categories that a step does not hold keep their value. Rows that `keep` removed count with advantage 0, as do
        groups whose completions are all equal. With 0/1 rewards divided by their standard deviation, the mean |a| of
        success p tends to 2 sqrt(p (1 - p)) in large groups: categories solved half of the time win. by="tags" takes a
        task's tags as its category; any other value names a column.

    Paper:
        Self-Evolving Curriculum for LLM Reasoning, arXiv 2505.14970.
        Assumed: tau 1.0, which the paper's countdown runs have; its mathematics has 0.4, its two-task puzzles 0.2.
    """

    def __init__(self, *, alpha: float = 0.5, tau: float = 1.0, by: str = "tags") -> None:
        if not 0 < alpha <= 1 or tau <= 0:
            raise ConfigError(
                f"curriculum sec needs 0 < alpha <= 1 and tau > 0; they are alpha={alpha}, tau={tau}; "
                "the paper has alpha=0.5 and tau from 0.2 to 1"
            )
        self.alpha, self.tau, self.by = alpha, tau, by
        self.value: list[float] = []

    def start(self, tasks: Sequence[Task]) -> None:
        """Sort the tasks into their categories."""
        self.categories = Categories(tasks, self.by, "sec")
        self.value = [0.0] * len(self.categories.names)

    def probabilities(self) -> list[float]:
        """P_c per category, in the order of `categories.names`."""
        weights = [math.exp((q - max(self.value)) / self.tau) for q in self.value]
        return [w / sum(weights) for w in weights]

    def pick(self, n: int, rng: random.Random) -> list[int]:
        """A category per item, then a task of it."""
        return self.categories.draw(self.probabilities(), n, rng)

    def observe(self, outcomes: Sequence[Outcome], metrics: Mapping[str, float]) -> None:
        """Move the values of the categories seen towards the mean |advantage| of this step."""
        seen: dict[int, list[float]] = {}
        for outcome in outcomes:
            seen.setdefault(self.categories.of[outcome.task_id], []).extend(abs(a) for a in outcome.advantages)
        for c, sizes in seen.items():
            if sizes:
                self.value[c] += self.alpha * (sum(sizes) / len(sizes) - self.value[c])

    def state_dict(self) -> dict[str, Any]:
        """The value of each category."""
        return {"names": list(self.categories.names), "value": list(self.value)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.categories.same(state["names"])
        self.value = list(state["value"])
