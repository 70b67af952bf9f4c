"""DUMP: a bandit over data sources that samples where completions still differ."""

import math
import random
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from rlpost.curriculum.order import Shuffle
from rlpost.errors import DataError
from rlpost.types import Outcome, Task


class Dump:
    """Sample data sources by an upper confidence bound on the mean |advantage| of their completions.

    Equation:
        mu_j = mean |a| over the last `window` completions of source j, 0 if there are none
        UCB_j = mu_j + exploration * sqrt(2 ln(N + 1) / (n_j + 1)), with n_j completions seen of source j, N of all
        P = softmax(UCB / tau); within a source, tasks are dealt without replacement

    Reduces to:
        uniform sampling of sources before anything is observed, or when tau is large.

    Edge cases:
        by="tags" takes a task's tags as its source; any other value names a column. A source whose completions are all
        equal sinks to its exploration term.

    Paper:
        DUMP, arXiv 2504.09710. Assumed: advantages are absolute before the mean over the window, as in its code.
    """

    def __init__(self, *, window: int = 300, tau: float = 0.1, exploration: float = 1.0, by: str = "tags") -> None:
        self.window, self.tau, self.exploration, self.by = window, tau, exploration, by
        self.names: list[str] = []
        self.members: list[list[int]] = []
        self.decks: list[Shuffle] = []
        self.recent: list[deque[float]] = []
        self.seen: list[int] = []
        self.source_of: dict[str, int] = {}

    def start(self, tasks: Sequence[Task]) -> None:
        """Sort the tasks into their sources."""
        if not tasks:
            raise DataError("The curriculum dump got no tasks; the dataset's training split is empty.")
        sources = [_source(task, self.by) for task in tasks]
        self.names = sorted(set(sources))
        number = {name: j for j, name in enumerate(self.names)}
        self.members = [[] for _ in self.names]
        for i, source in enumerate(sources):
            self.members[number[source]].append(i)
        self.source_of = {task.id: number[source] for task, source in zip(tasks, sources, strict=True)}
        self.decks = [Shuffle() for _ in self.names]
        for deck, members in zip(self.decks, self.members, strict=True):
            deck.start([tasks[i] for i in members])
        self.recent = [deque(maxlen=self.window) for _ in self.names]
        self.seen = [0] * len(self.names)

    def bounds(self) -> list[float]:
        """UCB_j per source, in the order of `names`."""
        log_total = math.log(sum(self.seen) + 1)
        return [
            (sum(recent) / len(recent) if recent else 0.0) + self.exploration * math.sqrt(2 * log_total / (n + 1))
            for recent, n in zip(self.recent, self.seen, strict=True)
        ]

    def probabilities(self) -> list[float]:
        """P_j per source, in the order of `names`."""
        bounds = self.bounds()
        weights = [math.exp((b - max(bounds)) / self.tau) for b in bounds]
        return [w / sum(weights) for w in weights]

    def pick(self, n: int, rng: random.Random) -> list[int]:
        """A source per item, then the next task of that source."""
        sources = rng.choices(range(len(self.names)), weights=self.probabilities(), k=n)
        return [self.members[j][self.decks[j].pick(1, rng)[0]] for j in sources]

    def observe(self, outcomes: Sequence[Outcome], metrics: Mapping[str, float]) -> None:
        """Take in the advantages of a step's completions."""
        for outcome in outcomes:
            j = self.source_of[outcome.task_id]
            self.recent[j].extend(abs(a) for a in outcome.advantages)
            self.seen[j] += len(outcome.advantages)

    def state_dict(self) -> dict[str, Any]:
        """Everything that was observed, and where each source's order stands."""
        return {
            "names": list(self.names),
            "recent": [list(recent) for recent in self.recent],
            "seen": list(self.seen),
            "decks": [deck.state_dict() for deck in self.decks],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        if list(state["names"]) != self.names:
            raise DataError(
                f"The checkpoint's curriculum has the sources {state['names']}, the dataset {self.names}; "
                "resume with the same data."
            )
        self.recent = [deque(recent, maxlen=self.window) for recent in state["recent"]]
        self.seen = list(state["seen"])
        for deck, saved in zip(self.decks, state["decks"], strict=True):
            deck.load_state_dict(saved)


def _source(task: Task, by: str) -> str:
    if by == "tags":
        return "/".join(task.tags)
    if by not in task.columns:
        raise DataError(
            f"curriculum dump groups by the column {by!r}, which task {task.id!r} lacks; "
            f"its columns are {sorted(task.columns)}, or set curriculum.by=tags."
        )
    return str(task.columns[by])
