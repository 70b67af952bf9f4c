"""Domains sampled so that their shares of what is completed stay on target."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from rlpost.curriculum.categories import Categories
from rlpost.errors import ConfigError
from rlpost.types import Outcome, Task


class DomainShare:
    """Sample domains by weight, corrected by how far each is from its target share of completions (Apriel-Reasoner).

    Equation:
        q_d = w_d / sum w, s_d = c_d / sum c, with c_d completions of domain d that have come back
        adj_d = clip(q_d / s_d, min_adjustment, max_adjustment), max_adjustment where s_d = 0
        P_d = w_d adj_d / sum, or q_d before min_completions have come back; a task of a domain is drawn uniformly

    Reduces to:
        sampling by the weights alone when min_adjustment = max_adjustment = 1, or min_completions is never reached.

    Edge cases:
        `weights` None means equal weights; a weight of 0 leaves a domain out; every domain needs a weight, and every
        weight a domain. Where all completions of a step come back with it, only the noise of the draw is corrected.
        Where a share k_d of the completions of domain d comes back, s_d settles in proportion to q_d sqrt(k_d), not to
        q_d: the correction halves the error in logarithms. by="tags" takes a task's tags as its domain.

    Paper:
        Apriel-Reasoner, arXiv 2604.02007; the rule is that of its published code (PipelineRL).
        Assumed: equal weights; the paper's mix is the option domain_share_apriel.
    """

    def __init__(
        self,
        *,
        weights: dict[str, float] | None = None,
        min_completions: int = 50,
        min_adjustment: float = 0.1,
        max_adjustment: float = 10.0,
        by: str = "tags",
    ) -> None:
        if weights is not None and (min(weights.values(), default=0) < 0 or sum(weights.values()) <= 0):
            raise ConfigError(f"curriculum.weights={weights}: weights of 0 or more are needed, and one above 0")
        if not 0 < min_adjustment <= max_adjustment:
            raise ConfigError(
                f"curriculum domain_share needs 0 < min_adjustment <= max_adjustment; they are {min_adjustment} and "
                f"{max_adjustment}"
            )
        self.weights, self.min_completions, self.by = weights, min_completions, by
        self.min_adjustment, self.max_adjustment = min_adjustment, max_adjustment
        self.completed: list[int] = []

    def start(self, tasks: Sequence[Task]) -> None:
        """Sort the tasks into their domains and give each its target share."""
        self.domains = Categories(tasks, self.by, "domain_share")
        weights = self.weights or dict.fromkeys(self.domains.names, 1.0)
        if set(weights) != set(self.domains.names):
            raise ConfigError(
                f"curriculum.weights names the domains {sorted(weights)}, the dataset has {self.domains.names}; "
                "give each of them a weight, 0 to leave it out"
            )
        total = sum(weights.values())
        self.target = [weights[name] / total for name in self.domains.names]
        self.completed = [0] * len(self.target)

    def probabilities(self) -> list[float]:
        """P_d per domain, in the order of `domains.names`."""
        total = sum(self.completed)
        if total < self.min_completions:
            return list(self.target)
        pull = [q * self._adjustment(q, c / total) for q, c in zip(self.target, self.completed, strict=True)]
        return [p / sum(pull) for p in pull]

    def pick(self, n: int, rng: random.Random) -> list[int]:
        """A domain per item, then a task of it."""
        return self.domains.draw(self.probabilities(), n, rng)

    def observe(self, outcomes: Sequence[Outcome], metrics: Mapping[str, float]) -> None:
        """Count the completions that have come back."""
        for outcome in outcomes:
            self.completed[self.domains.of[outcome.task_id]] += outcome.n

    def state_dict(self) -> dict[str, Any]:
        """How much of each domain is completed."""
        return {"names": list(self.domains.names), "completed": list(self.completed)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.domains.same(state["names"])
        self.completed = list(state["completed"])

    def _adjustment(self, target: float, share: float) -> float:
        if share == 0:
            return self.max_adjustment
        return min(max(target / share, self.min_adjustment), self.max_adjustment)
