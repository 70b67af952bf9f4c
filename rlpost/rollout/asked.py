"""A task as it is asked a second time: with a remark on the question, or after an attempt and what was said of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlpost.types import Task


def with_remark(task: Task, remark: str) -> Task:
    """The task with a remark after its last user message; a task without one gets it as a user message."""
    messages = [dict(message) for message in task.prompt]
    for message in reversed(messages):
        if message["role"] == "user":
            message["content"] = _longer(message["content"], remark)
            return replace(task, prompt=tuple(messages))
    return replace(task, prompt=(*messages, {"role": "user", "content": remark}))


def with_opening(task: Task, opening: str) -> Task:
    """The task with an opening before the text of its first user message; its media stay in front."""
    messages = [dict(message) for message in task.prompt]
    for message in messages:
        if message["role"] == "user":
            message["content"] = _opened(message["content"], opening)
            return replace(task, prompt=tuple(messages))
    return replace(task, prompt=({"role": "user", "content": opening}, *messages))


def _opened(content: str | Sequence[Mapping[str, Any]], opening: str) -> Any:
    if isinstance(content, str):
        return f"{opening}\n\n{content}"
    first = next((i for i, part in enumerate(content) if part.get("type") == "text"), len(content))
    return [*content[:first], {"type": "text", "text": f"{opening}\n\n"}, *content[first:]]


def after_attempt(task: Task, attempt: str, said: str) -> Task:
    """The task followed by an attempt of the assistant and by what the user says of it."""
    parts = any(not isinstance(message["content"], str) for message in task.prompt)

    def content(text: str) -> Any:
        return [{"type": "text", "text": text}] if parts else text

    said_of_it = ({"role": "assistant", "content": content(attempt)}, {"role": "user", "content": content(said)})
    return replace(task, prompt=(*task.prompt, *said_of_it))


def _longer(content: str | Sequence[Mapping[str, Any]], remark: str) -> Any:
    if isinstance(content, str):
        return f"{content}\n\n{remark}"
    return [*content, {"type": "text", "text": remark}]
