"""Curricula that only fix an order: each task once per epoch."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from rlpost.errors import DataError
from rlpost.types import Outcome, Task


class Deck:
    """Indices dealt without replacement; `pick` may run over the end of an epoch into the next."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self.position = 0
        self.size = 0

    def start(self, tasks: Sequence[Task]) -> None:
        """Learn how many tasks there are."""
        if not tasks:
            raise DataError("The curriculum got no tasks; the dataset's training split is empty.")
        self.size = len(tasks)
        self.order, self.position = [], 0

    def pick(self, n: int, rng: random.Random) -> list[int]:
        """The next n indices."""
        picked = []
        for _ in range(n):
            if self.position >= len(self.order):
                self.order, self.position = self._epoch(rng), 0
            picked.append(self.order[self.position])
            self.position += 1
        return picked

    def observe(self, outcomes: Sequence[Outcome], metrics: Mapping[str, float]) -> None:
        """Nothing to learn from results."""

    def state_dict(self) -> dict[str, Any]:
        """The rest of this epoch's order."""
        return {"order": list(self.order), "position": self.position, "size": self.size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        if state["size"] != self.size:
            raise DataError(
                f"The checkpoint's curriculum knows {state['size']} tasks, the dataset has {self.size}; "
                "resume with the same data."
            )
        self.order, self.position = list(state["order"]), state["position"]

    def _epoch(self, rng: random.Random) -> list[int]:
        raise NotImplementedError


class Shuffle(Deck):
    """Every task once per epoch, in a new random order each epoch.

    Equation:
        a permutation of all tasks per epoch, dealt without replacement

    Edge cases:
        A step that crosses the end of an epoch may hold a task twice.
    """

    def _epoch(self, rng: random.Random) -> list[int]:
        return rng.sample(range(self.size), self.size)


class Sequential(Deck):
    """Every task once per epoch, in the order of the dataset.

    Equation:
        0, 1, ..., n - 1, and again

    Edge cases:
        With more tasks per step than the dataset holds, a step has a task more than once.
    """

    def _epoch(self, rng: random.Random) -> list[int]:
        return list(range(self.size))
