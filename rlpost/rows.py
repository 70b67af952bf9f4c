"""Rollouts as tables, and how the groups that stay are dealt to ranks, optimizer steps and micro-batches."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from rlpost import spans
from rlpost.models.encode import completion_mask
from rlpost.stack import RewardStack
from rlpost.step import Credit, counts, take, total_reward
from rlpost.types import Counts, Outcome, Prompt, Rollout, Scored


def scored(rollouts: Sequence[Rollout], stack: RewardStack, *, version: int = 0) -> Scored:
    """The table of all rollouts of a step; `version` is the current policy's, from which ages follow."""
    completions = [r.tokens for r in rollouts]
    width = max((len(tokens) for tokens in completions), default=0)
    return Scored(
        rewards=stack.table(rollouts),
        weights=stack.weights,
        reward_names=stack.names,
        group=_numbers([r.group for r in rollouts]),
        length=torch.tensor([len(r.tokens) for r in rollouts], dtype=torch.long),
        role=tuple(r.role for r in rollouts),
        stop=tuple(r.stop for r in rollouts),
        age=torch.tensor([version - r.version for r in rollouts], dtype=torch.long),
        mask=completion_mask(completions, [r.trains for r in rollouts]),
        tokens=padded(completions, 0),
        span=padded([spans.numbers(r) if stack.scores_spans(r) else r.span for r in rollouts], -1, width=width),
        span_rewards=stack.span_table(rollouts),
        source=tuple(tuple(r.source) for r in rollouts),
        gen_logp=padded([r.gen_logp for r in rollouts], 0.0, width=width),
        pair_rewards=stack.pairs(rollouts),
        **{name: torch.tensor([getattr(r, name) for r in rollouts], dtype=torch.long) for name in _IDS},
    )


_IDS = ("parent", "fork", "trajectory", "index", "turn")


def padded(rows: Sequence[Sequence[Any]], fill: float, *, width: int = 0) -> Tensor:
    """Rows of unequal length as one table (N,T), `width` or wider, filled on the right; integers stay integers."""
    width = max([width, *(len(row) for row in rows)])
    kind = torch.float32 if isinstance(fill, float) else torch.long
    table = torch.full((len(rows), width), fill, dtype=kind)
    for i, row in enumerate(rows):
        table[i, : len(row)] = torch.as_tensor(list(row), dtype=kind)
    return table


def light(rollout: Rollout) -> Rollout:
    """The rollout without visual tensors and media: what other ranks need to know of it."""
    return replace(rollout, prompt=Prompt([]), task=replace(rollout.task, media=()))


Draw = tuple[list[Rollout], list[list[Rollout]]]


def joined(draws: Sequence[Draw]) -> Draw:
    """Several draws as one: this rank's own rollouts, and the light ones of each rank, both in order."""
    return [r for own, _ in draws for r in own], [
        [r for part in parts for r in part] for parts in zip(*(ranks for _, ranks in draws), strict=True)
    ]


@dataclass
class MicroBatch:
    """Whole groups of one rank with the counts of the optimizer step they belong to, and what was scored beforehand."""

    rollouts: list[Rollout]
    scored: Scored
    counts: Counts
    logps: dict[str, Tensor] = field(default_factory=dict)
    aux: dict[str, Any] = field(default_factory=dict)  # rows of auxiliary streams by name, dealt anew for every step


# Row indices by [rank][optimizer step][micro-batch].
Dealt = list[list[list[list[int]]]]


def deal(kept: Scored, rank_of: Sequence[int], ranks: int, steps: int, micro: int) -> Dealt:
    """Row indices by [rank][optimizer step][micro-batch]: a rank deals its own groups, in order, as even as can be."""
    table = []
    for rank in range(ranks):
        groups: dict[int, list[int]] = {}
        for row, group in enumerate(kept.group.tolist()):
            if rank_of[row] == rank:
                groups.setdefault(group, []).append(row)
        parts = _split(list(groups.values()), steps * micro)
        table.append([parts[s * micro : (s + 1) * micro] for s in range(steps)])
    return table


def without(kept: Scored, dealt: Dealt, silent: Tensor) -> Dealt:
    """The same steps without the silent rows, their groups dealt anew over the micro-batches of the rank and step."""
    if not silent.any():
        return dealt

    def thinned(parts: list[list[int]]) -> list[list[int]]:
        groups: dict[int, list[int]] = {}
        for row in (row for part in parts for row in part if not silent[row]):
            groups.setdefault(int(kept.group[row]), []).append(row)
        return _split(list(groups.values()), len(parts))

    return [[thinned(parts) for parts in rank] for rank in dealt]


def step_counts(kept: Scored, dealt: Dealt, step: int, *, trained: Dealt | None = None) -> Counts:
    """Counts of one optimizer step over all ranks; parts without rows are no micro-batches.

    `trained` is what is left of `dealt` to train on: rows and tokens are those of `dealt`, micro-batches its own.
    """
    rows = torch.tensor([row for rank in dealt for part in rank[step] for row in part], dtype=torch.long)
    filled = sum(bool(part) for rank in trained or dealt for part in rank[step])
    return counts(take(kept, rows), micro_batches=filled)


def narrow(table: Scored, rows: Sequence[int]) -> Scored:
    """The table of some rows, cut to the longest of them."""
    part = take(table, torch.tensor(list(rows), dtype=torch.long))
    width = int(part.length.max()) if len(rows) else 0
    full = table.mask.shape[1]
    cut = {
        name: value[:, :width]
        for name, value in vars(part).items()
        if isinstance(value, Tensor)
        and value.dim() == 2
        and value.shape[1] == full
        and name not in ("rewards", "pair_rewards")
    }
    return replace(part, **cut)


def outcomes(table: Scored, credit: Credit, rollouts: Sequence[Rollout], step: int) -> list[Outcome]:
    """What the curriculum learns: one outcome per group of the policy's rows, also where `keep` removed them.

    Rewards are the shaped ones; a row that did not stay has advantage 0, for it teaches nothing.
    """
    rows_of: dict[int, list[int]] = {}
    for row, group in enumerate(table.group.tolist()):
        if table.role[row] == "policy":
            rows_of.setdefault(group, []).append(row)
    kept = credit.scored
    row_advantage = torch.zeros(len(rollouts))
    row_advantage[credit.keep] = (kept.advantage * kept.mask).sum(-1) / kept.mask.sum(-1).clamp(min=1)
    total = total_reward(credit.shaped, table.weights)
    found = []
    for rows in rows_of.values():
        rewards = total[rows].double()
        task = rollouts[rows[0]].task
        angles = [rollouts[row].info["angle"] for row in rows if "angle" in rollouts[row].info]
        found.append(
            Outcome(
                task_id=task.id,
                n=len(rows),
                mean=float(rewards.mean()),
                std=float(rewards.std()) if len(rows) > 1 else 0.0,
                best=float(rewards.max()),
                tokens=int(table.mask[rows].sum()),
                step=step,
                advantages=tuple(float(row_advantage[row]) for row in rows),
                tags=task.tags,
                angle=sum(angles) / len(angles) if angles else None,
            )
        )
    return found


def _numbers(names: Sequence[str]) -> Tensor:
    seen = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([seen[name] for name in names], dtype=torch.long)


def _split(groups: list[list[int]], parts: int) -> list[list[int]]:
    bounds = [round(i * len(groups) / parts) for i in range(parts + 1)]
    return [[row for group in groups[a:b] for row in group] for a, b in itertools.pairwise(bounds)]
