"""What an environment is to a rollout: it opens an episode for a task, and the episode answers what the policy says.

Whoever has tools writes neither: a class with `reset` and typed methods becomes an environment through `tools.Tools`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rlpost.models.encode import Encoder
from rlpost.types import Media, Stop, Task

Message = Mapping[str, Any]
# What an environment says never trains; its tokens have this source.
SOURCE = "environment"


@dataclass(frozen=True)
class Observation:
    """What follows an utterance: `messages` with their `media`, in order; without messages the episode is over.

    `stop` says why it is over where that is not the policy's own end. `until` cuts the utterance after that many
    characters, and the end of turn is written behind them. `instead` is what the history says in place of the
    utterance; the row of the utterance keeps its own tokens.
    """

    messages: Sequence[Message] = ()
    media: Sequence[Media] = ()
    stop: Stop | None = None
    until: int | None = None
    instead: str | None = None


class Episode(Protocol):
    """One conversation. `task` is what the policy is asked first; `info` joins `Rollout.info` of its rows."""

    task: Task
    info: dict[str, Any]

    def step(self, said: str, stop: Stop) -> Observation:
        """The answer to an utterance, which ended for the reason `stop` ("eos" or "length")."""
        ...

    def finish(self) -> None:
        """The last utterance is over, for whatever reason: settle `info`, free what the episode holds."""
        ...


class Environment(Protocol):
    """Opens episodes. `tools` are JSON schemas of the functions that the policy may call, for the chat template."""

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]: ...

    def reset(self, task: Task, encoder: Encoder) -> Episode:
        """A fresh episode of a task. Episodes of one step may run at the same time, each in a thread of its own."""
        ...
