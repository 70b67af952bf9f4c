"""A class with typed tools as an environment: the class that TRL's `environment_factory` takes, unchanged."""

import functools
import inspect
import threading
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rlpost import allow, ledger
from rlpost.environment.calls import Call, calls, schemas
from rlpost.environment.dialogue import Dialogue, dialogue
from rlpost.environment.nursery import CallFailed, CallLost, Child, Nursery
from rlpost.environment.protocol import Observation
from rlpost.environment.worker import load
from rlpost.errors import ConfigError, DataError, RewardError
from rlpost.foreign import whole
from rlpost.models.encode import Encoder
from rlpost.types import Stop, Task

OWN = ("reset", "get_reward")  # public methods that are no tools
_COUNTING = threading.Lock()  # episodes run in threads, the ledger is one


class Tools:
    """Episodes with an instance of a user's class, which runs in a process of its own.

    `path` is `package.module.Class` or `file.py:Class`. The class has `reset(**columns)`, which is given the columns of
    the task with its `prompt` and `answer` and returns None or a text that joins the last user message; every other
    public method with annotations and a Google docstring is a tool. `get_reward()`, where there is one, is asked at the
    end (reward=[environment]). A call that takes longer than `timeout_s` is killed, and the episode ends with stop
    "error"; `memory_mb` bounds the address space of an instance. After `max_calls` calls (None: any number) the next
    one ends the episode with stop "tool"; a result longer than `max_characters` is cut.

    Edge cases: a call that raises, names no tool, or is no JSON is answered with {'error': ...}; all of these, and
    killed calls, are counted in the ledger. A process of its own is no cage: a tool
    that runs what a model wrote does so through rlpost.sandbox.
    """

    def __init__(
        self,
        *,
        path: str,
        timeout_s: float = 5.0,
        reset_s: float = 60.0,
        memory_mb: int = 4096,
        max_calls: int | None = None,
        max_characters: int = 2000,
    ):
        if timeout_s <= 0 or reset_s <= 0 or memory_mb < 1 or max_characters < 1:
            raise ConfigError(
                f"environment {path} has timeout_s={timeout_s}, reset_s={reset_s}, memory_mb={memory_mb} and "
                f"max_characters={max_characters}; all of them must be above 0"
            )
        allow.require(path, "rollout.environment.path")
        self.path, self.timeout_s, self.reset_s = path, timeout_s, reset_s
        self.max_calls, self.max_characters = max_calls, max_characters
        self.nursery = Nursery(path, memory_mb=memory_mb)

    @functools.cached_property
    def kind(self) -> Any:
        """The user's class; here it is only looked at, never made."""
        try:
            kind = load(self.path)
        except Exception as error:
            raise ConfigError(f"the environment class {self.path!r} cannot be imported: {error}") from error
        if not inspect.isclass(kind) or not callable(getattr(kind, "reset", None)):
            raise ConfigError(f"the environment {self.path!r} must be a class with a method reset(**columns)")
        return kind

    @functools.cached_property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """Schemas of the public methods, in alphabetic order as in TRL."""
        members = inspect.getmembers(self.kind, predicate=inspect.isfunction)
        methods = [m for name, m in members if not name.startswith("_") and name not in OWN]
        return schemas([types.MethodType(method, self) for method in methods])

    def reset(self, task: Task, encoder: Encoder) -> "ToolEpisode":
        """An instance of the class, told the task. Raises DataError where its `reset` raises or hangs."""
        child = self.nursery.child()
        columns = {**task.columns, "prompt": [dict(message) for message in task.prompt], "answer": task.answer}
        try:
            told = child.call("reset", columns, timeout_s=self.reset_s)
        except (CallFailed, CallLost) as error:
            child.close()
            raise DataError(f"task {task.id}: reset of the environment {self.path} failed: {error}") from error
        return ToolEpisode(_with(task, told), self, child, encoder, dialogue(encoder, self.tools))


@dataclass
class ToolEpisode:
    """One conversation with tools."""

    task: Task
    environment: Tools
    child: Child
    encoder: Encoder
    dialogue: Dialogue
    info: dict[str, Any] = field(default_factory=lambda: {"tool_calls": 0, "tool_failures": 0})
    lost: bool = False

    def step(self, said: str, stop: Stop) -> Observation:
        """The results of the calls in an utterance; nothing follows one without a call or one that was cut off."""
        found = calls(said, self.environment.tools, self.encoder) if stop == "eos" else []
        results = []
        for call in found:
            if self.environment.max_calls is not None and self.info["tool_calls"] >= self.environment.max_calls:
                return Observation(stop="tool")
            self.info["tool_calls"] += 1
            content = self._answer(call)
            if self.lost:
                return Observation(stop="error")
            results.append((call.name, content))
        return Observation(self.dialogue.results(results))

    def finish(self) -> None:
        """Ask for the environment's own reward and end its process."""
        if hasattr(self.environment.kind, "get_reward"):
            self.info["environment_reward"] = None if self.lost else self._reward()
        self.child.close()

    def _answer(self, call: Call) -> str:
        names = [tool["function"]["name"] for tool in self.environment.tools]
        if call.problem or call.name not in names:
            cause = "a malformed tool call" if call.problem else "a call of a tool that is not there"
            known = f"there is no tool {call.name!r}; the tools are {', '.join(names)}"
            return self._failed(cause, call.problem or known)
        limit = self.environment.max_characters
        try:
            value = self.child.call(call.name, call.arguments, timeout_s=self.environment.timeout_s, most=limit)
        except CallFailed as error:
            return self._failed(f"the tool {call.name} raised {error.kind}", str(error))
        except CallLost as error:
            self.lost = True
            return self._failed(f"the tool {call.name} {error}", "")
        text = str(value)
        lost = self.child.lost + max(0, len(text) - limit)
        if lost:
            cause = f"a result of the tool {call.name} longer than {limit} characters"
            with _COUNTING:
                ledger.current().cut(cause, self.task.id, lost=lost, unit="characters")
        return text[:limit]

    def _failed(self, cause: str, text: str) -> str:
        self.info["tool_failures"] += 1
        with _COUNTING:
            ledger.current().fail(cause, self.task.id)
        return str({"error": text[: self.environment.max_characters]})

    def _reward(self) -> float | None:
        try:
            return float(self.child.call("get_reward", {}, timeout_s=self.environment.reset_s))
        except CallLost as error:
            self._failed(f"get_reward {error}", "")
            return None
        except (CallFailed, TypeError, ValueError) as error:
            raise RewardError(f"task {self.task.id}: get_reward of {self.environment.path} failed: {error}") from error


def _with(task: Task, told: Any) -> Task:
    """The task with what `reset` returned at the end of its last message."""
    if not isinstance(told, str):
        return task
    told = whole(told)
    messages = [dict(message) for message in task.prompt]
    content = messages[-1]["content"]
    messages[-1]["content"] = content + told if isinstance(content, str) else [*content, {"type": "text", "text": told}]
    return replace(task, prompt=tuple(messages))
