"""An expert's trajectory played again: the policy acts step by step, and its mistakes may be patched in the history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlpost.environment import gui_action
from rlpost.environment.protocol import Observation
from rlpost.errors import ConfigError, DataError
from rlpost.models.encode import Encoder
from rlpost.types import Stop, Task


class ExpertTrajectory:
    """The screens that an expert saw, one after the other, whatever the policy does (semi-online).

    The task's `column` holds the steps: {screen, action, box, thought}; the prompt shows the first screen. While the
    policy's action is the expert's, its own words stay in the history. Otherwise, as long as fewer than `patches` (-1:
    any number) were made, the history is given the expert's action in their place, with the expert's thought where
    `thoughts`, and goes on; then it ends.
    """

    tools: Sequence[Mapping[str, Any]] = ()

    def __init__(self, *, patches: int = 2, thoughts: bool = True, column: str = "steps"):
        if patches < -1:
            raise ConfigError(f"environment.patches={patches}: choose 0 or more, or -1 for any number")
        self.patches, self.thoughts, self.column = patches, thoughts, column

    def reset(self, task: Task, encoder: Encoder) -> "Replay":
        """The task from its first step. Raises DataError where it has no steps."""
        steps = task.columns.get(self.column)
        if not steps:
            raise DataError(f"task {task.id} has no expert steps in the column {self.column!r}; use dataset=gui")
        return Replay(task, self, steps)

    def matches(self, said: str, step: Mapping[str, Any]) -> bool:
        """Whether an utterance does what the expert did at a step."""
        return gui_action.matches(said, step)

    def patch(self, step: Mapping[str, Any]) -> str:
        """What the history says in place of a mistake."""
        return gui_action.written(step.get("thought", "") if self.thoughts else "", step["action"])


@dataclass
class Replay:
    """One trajectory, played once."""

    task: Task
    environment: ExpertTrajectory
    steps: Sequence[Mapping[str, Any]]
    info: dict[str, Any] = field(default_factory=lambda: {"patched": 0})
    at: int = 0

    def step(self, said: str, stop: Stop) -> Observation:
        """The expert's next screen; nothing at the end, and after a mistake that is not patched."""
        done, self.at = self.steps[self.at], self.at + 1
        good = self.environment.matches(said, done)
        may = self.environment.patches < 0 or self.info["patched"] < self.environment.patches
        if self.at == len(self.steps) or not (good or may):
            return Observation()
        self.info["patched"] += not good
        message = {"role": "user", "content": self.steps[self.at]["screen"]}
        return Observation([message], instead=None if good else self.environment.patch(done))

    def finish(self) -> None:
        """Nothing is held."""
