"""Which rollouts are how a policy is used, so that evaluation answers with them too, and not with plain completions."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from rlpost.types import Rollout


def evaluated(rollout: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a rollout whose rows answer the task as they would in use, such as a conversation with tools."""
    setattr(rollout, "is_evaluated", True)  # noqa: B010 (functions have no such attribute for a type checker)
    return rollout


def in_evaluation(rollout: Callable[..., Any]) -> Callable[..., Any] | None:
    """The rollout for evaluation: itself where it is marked, with the rows that stand for an answer; else None."""
    bare = rollout.func if isinstance(rollout, functools.partial) else rollout
    if not getattr(bare, "is_evaluated", False):
        return None

    def answers(*args: Any) -> list[Rollout]:
        rows: Sequence[Rollout] = rollout(*args)
        return [row for row in rows if row.role == "policy"]

    return answers
