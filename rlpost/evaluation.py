"""Held-out accuracy of a model: answers to tasks, scored by the run's own rewards, with an interval over tasks."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rlpost.errors import DataError
from rlpost.ledger import current
from rlpost.models.encode import Bundle
from rlpost.now import now
from rlpost.rollout.context import Context
from rlpost.rollout.engine import Sampling, sample
from rlpost.run.tables import interval
from rlpost.stack import RewardStack, row_score
from rlpost.types import Rollout, Task
from rlpost.usable import MAX_BAD, Usable, context_of, note_cut


@dataclass(frozen=True)
class Accuracy:
    """Mean over tasks of the share of right completions, its 95% bootstrap interval, and the share per task."""

    mean: float
    low: float
    high: float
    per_task: Mapping[str, float]


def answer(
    bundle: Bundle,
    tasks: Sequence[Task],
    stack: RewardStack,
    sampling: Sampling,
    *,
    n: int = 1,
    seed: int = 0,
    rows: int = 64,
    done: Callable[[int], Any] | None = None,
    collect: Callable[[Sequence[Task], Context], list[Rollout]] | None = None,
    share: float = MAX_BAD,
) -> list[Rollout]:
    """`n` scored completions of each task, about `rows` at a time; `done` hears how many tasks are finished.

    `collect` is a rollout option that decides itself what to generate; by default plain completions. A task that cannot
    be asked is counted in the ledger and has none. Raises DataError where more than one task and more than the `share`
    cannot be asked, or all.
    """
    generator = torch.Generator(device=next(bundle.model.parameters()).device).manual_seed(seed)

    def engine(prompts: Any, count: int, how: Sampling) -> list[Any]:
        return sample(bundle.model, bundle.encoder, prompts, count, how, generator)

    ctx = Context(engine, bundle.encoder, stack, sampling, n, random.Random(seed))
    found: list[Rollout] = []
    usable = Usable(len(tasks), share, context=context_of(bundle.model))
    each = max(1, rows // n)
    for start in range(0, len(tasks), each):
        part = tasks[start : start + each]
        with now.phase("encode"):
            part = usable.left(part, [usable.fault(task, bundle.encoder, ctx.encoded) for task in part])
        with now.phase("generate"):
            found += collect(part, ctx) if collect else ctx.generate(part, n)
        ctx.encoded.clear()
        if done:
            done(min(start + each, len(tasks)))
    note_cut(found, sampling.max_tokens)
    current().asked += len(found)
    if not found and tasks:
        raise DataError(f"none of the {len(tasks)} tasks can be asked:\n{current().table()}")
    with now.phase("reward"):
        ctx.score(found)
    return found


def accuracy(rollouts: Sequence[Rollout], scores: Sequence[str], *, threshold: float = 1.0) -> Accuracy:
    """Share of completions whose score reaches `threshold`, by task; the first applicable of `scores` counts.

    Raises ValueError where none of the scores applies to any rollout.
    """
    by_task: dict[str, list[float]] = {}
    for rollout in rollouts:
        found = (row_score(rollout.scores.get(s)) for s in scores)
        score = next((one for one in found if one is not None), None)
        if score is not None:
            by_task.setdefault(rollout.task.id, []).append(float(score >= threshold))
    if not by_task:
        raise ValueError(f"none of the scores {list(scores)} applies to any of {len(rollouts)} completions")
    shares = {task: sum(v) / len(v) for task, v in by_task.items()}
    mean, low, high, _ = interval(list(shares.values()))
    return Accuracy(mean, low, high, shares)
