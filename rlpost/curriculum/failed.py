"""The order of a stream that teaches what the policy cannot do: questions whose whole group failed, newest first."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from rlpost.errors import DataError
from rlpost.types import Outcome, Task


class Failed:
    """A buffer of questions that no completion of their group solved; it is dealt when it holds enough of them.

    Equation:
        a group with max reward <= fail puts its task on top of the buffer
        a pick of n: nothing while the buffer holds fewer than n, else the n newest, which leave it

    Edge cases:
        A question is in the buffer once; failing again moves it to the top. Tasks that the stream does not have (no
        demonstration) are passed over. For auxiliary streams: as the order of rollouts it would never begin.

    Paper:
        ReLIFT, arXiv 2506.07527: its buffer of hardest questions; n is its S.
    """

    def __init__(self, *, fail: float = 0.0):
        self.fail = fail
        self.places: dict[str, int] = {}
        self.buffer: list[int] = []

    def start(self, tasks: Sequence[Task]) -> None:
        """Learn which tasks there are."""
        self.places = {task.id: place for place, task in enumerate(tasks)}
        self.buffer = []

    def pick(self, n: int, rng: random.Random) -> list[int]:
        """The n newest, or none."""
        if len(self.buffer) < n:
            return []
        picked = self.buffer[-n:][::-1]
        self.buffer = self.buffer[:-n]
        return picked

    def observe(self, outcomes: Sequence[Outcome], metrics: Mapping[str, float]) -> None:
        """Put the failed groups' tasks on top."""
        for outcome in outcomes:
            place = self.places.get(outcome.task_id)
            if place is not None and outcome.best <= self.fail:
                self.buffer = [other for other in self.buffer if other != place] + [place]

    def state_dict(self) -> dict[str, Any]:
        """The buffer."""
        return {"buffer": list(self.buffer), "size": len(self.places)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken. Raises DataError for other data."""
        if state["size"] != len(self.places):
            raise DataError(
                f"the checkpoint's buffer is of {state['size']} tasks, the dataset has {len(self.places)}; resume with "
                "the same data"
            )
        self.buffer = list(state["buffer"])
