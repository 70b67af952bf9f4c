"""Rollouts for tests of rewards."""

from typing import Any

from rlpost.types import Prompt, Rollout, Task


def rollout(
    text: str, answer: Any = None, *, question: str = "Calculate 7 + 12.", group: str = "a", **columns: Any
) -> Rollout:
    """One completion of a task with this gold answer."""
    task = Task("t1", ({"role": "user", "content": question},), answer=answer, columns=columns)
    tokens = list(range(len(text)))
    return Rollout(task, group, Prompt([1]), tokens, [True] * len(tokens), [-1.0] * len(tokens), text, "eos")
