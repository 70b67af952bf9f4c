"""What this process is doing: its phase, inside it the reward and the sample. The watchdog reads it at the end."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

PHASES = ("generate", "reward", "score", "backward", "sync", "save")


@dataclass
class Now:
    """The open phases, outermost first, with when each began (seconds of the monotonic clock)."""

    phases: list[tuple[str, float]] = field(default_factory=list)
    reward: str | None = None
    sample: str | None = None

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """The block is a phase; one inside another is the inner one until it ends."""
        self.phases.append((name, time.monotonic()))
        try:
            yield
        finally:
            self.phases.pop()

    @contextlib.contextmanager
    def scoring(self, reward: str, rollouts: Sequence[Any]) -> Iterator[None]:
        """The block asks one reward about these completions."""
        before = self.reward, self.sample
        self.reward, self.sample = reward, f"{len(rollouts)} completions, the first of {described(rollouts[0])}"
        try:
            yield
        finally:
            self.reward, self.sample = before

    def late(self, limits: dict[str, float]) -> tuple[str, float] | None:
        """The innermost phase that is older than its limit, with its age in seconds."""
        moment = time.monotonic()
        ages = [(name, moment - begun) for name, begun in reversed(self.phases)]
        return next(((name, age) for name, age in ages if age > limits.get(name, float("inf"))), None)


now = Now()


def described(rollout: Any) -> str:
    """A completion in a sentence."""
    return f"task {rollout.task.id}, completion {rollout.text[:120]!r}"


def looking_at(rollout: Any) -> None:
    """Name the completion that a reward is reading."""
    now.sample = described(rollout)
