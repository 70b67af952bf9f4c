"""Lifters: a reward written for one rollout, or for one group, becomes a reward over all rollouts of a step."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from rlpost.now import looking_at
from rlpost.types import Rollout


def per_rollout(reward: Callable[..., Any]) -> Callable[..., list[Any]]:
    """Lift `f(rollout, *, knobs) -> score` to `f(rollouts, *, knobs) -> [score, ...]`."""

    def one(rollout: Rollout, knobs: dict[str, Any]) -> Any:
        looking_at(rollout)
        return reward(rollout, **knobs)

    @functools.wraps(reward)
    def lifted(rollouts: Sequence[Rollout], **knobs: Any) -> list[Any]:
        return [one(rollout, knobs) for rollout in rollouts]

    setattr(lifted, "by_rollout", True)  # noqa: B010 (functions have no such attribute for a type checker)
    return lifted


def is_by_rollout(reward: Callable[..., Any]) -> bool:
    """Whether a reward, or a partial of one, looks at each completion alone."""
    return bool(getattr(reward.func if isinstance(reward, functools.partial) else reward, "by_rollout", False))


def per_group(reward: Callable[..., Sequence[Any]]) -> Callable[..., list[Any]]:
    """Lift `f(rows of one group, *, knobs) -> scores` to all rollouts, keeping their order."""

    @functools.wraps(reward)
    def lifted(rollouts: Sequence[Rollout], **knobs: Any) -> list[Any]:
        scores: list[Any] = [None] * len(rollouts)
        for rows in group_rows(rollouts).values():
            looking_at(rollouts[rows[0]])
            found = list(reward([rollouts[i] for i in rows], **knobs))
            if len(found) != len(rows):
                raise ValueError(f"{reward.__name__} returned {len(found)} scores for a group of {len(rows)} rollouts")
            for i, score in zip(rows, found, strict=True):
                scores[i] = score
        return scores

    return lifted


def pairwise(reward: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a reward whose score of a rollout is a list: one number against each member of its group, in their order.

    Its lists become the field `pair_rewards`; in the table of rewards their mean stands for them.
    """
    setattr(reward, "is_pairwise", True)  # noqa: B010 (functions have no such attribute for a type checker)
    return reward


def is_pairwise(reward: Callable[..., Any]) -> bool:
    """Whether a reward, or a partial of one, is marked as pairwise."""
    return bool(getattr(reward.func if isinstance(reward, functools.partial) else reward, "is_pairwise", False))


def group_rows(rollouts: Sequence[Rollout]) -> dict[str, list[int]]:
    """Row indices of each group, in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for i, rollout in enumerate(rollouts):
        groups.setdefault(rollout.group, []).append(i)
    return groups
