"""Completions that grow as a tree: written segment by segment, and continued several times from shared beginnings."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rlpost.errors import ConfigError
from rlpost.rollout.context import Context
from rlpost.rollout.start import Start
from rlpost.types import Rollout, Task

Allocation = Literal["fixed_avg", "logprob_weighted", "inverse"]
Fallback = Literal["random", "min_logprob_token", "block"]


@dataclass
class _Tree:
    """The leaves of one task that are finished, and how many trajectories it has so far."""

    task: Task
    group: str
    finished: list[Rollout] = field(default_factory=list)
    made: int = 0

    def new(self) -> int:
        self.made += 1
        return self.made - 1


@dataclass
class _Branch:
    """What is written next: the first `at` tokens of a row (None: nothing) and one segment more."""

    tree: _Tree
    trajectory: int
    row: Rollout | None = None
    at: int = 0
    parent: int = -1
    fork: int = 0


def treepo(
    tasks: Sequence[Task],
    ctx: Context,
    *,
    segment: int = 512,
    first_low: int = 2,
    first_high: int = 8,
    split: int = 2,
    allocation: Allocation = "fixed_avg",
    sharpness: float = 1.0,
    fallback: Fallback = "random",
    block: int = 128,
    repeat_chars: int = 32,
    repeat_times: int = 8,
) -> list[Rollout]:
    """G leaves of a tree for each task: branches share what was written before they parted (TreePO).

    Equation:
        the root splits into k ~ Uniform{first_low .. first_high} paths; each path writes `segment` tokens at a time
        budget = G - finished leaves; of a open paths min(budget, split * a) branches are written next, 1 or more each:
            fixed_avg         as many for every path, what is left over for the last
            logprob_weighted  the rest in proportion to softmax(-mean logp / sharpness), by largest remainders
            inverse           the same with softmax(+mean logp / sharpness)
        budget without an open path: a finished leaf is cut where `fallback` says and grows anew, up to `split` times

    Reduces to:
        rollout sample in distribution where first_low = first_high = G: nothing is shared and nothing left to split.

    Edge cases:
        Rows of a group carry the tree: `trajectory` numbers them from 0, a row has its first `fork` tokens from the row
        `parent` (-1: none) of its group, and `span` numbers its segments. Shared tokens train in every leaf that has
        them. The limit is rollout.max_tokens, so a path has up to max_tokens / segment segments. A path in whose last
        segment some `repeat_chars` characters stand `repeat_times` times ends there, with stop "length" and
        `info["repeats"]`. Cuts: random at the start of one of the leaf's segments; min_logprob_token before its least
        likely token; block before one of its runs of `block` tokens, drawn by softmax of their mean logp.

    Paper:
        TreePO, arXiv 2508.17445: segments of 512, 14 deep, G 16, first split 2 to 8, then 2, fixed_avg, random.
        Assumed: the leaf that falls back is drawn at random, where the released code goes through them by how they
        ended; `min_logprob_token` and `block` cut inside a segment, whose beginning counts as shared.
    """
    _judge(segment, first_low, first_high, split, sharpness, block, repeat_chars, repeat_times)
    n = ctx.num_generations
    trees = [_Tree(task, group) for task, group in zip(tasks, ctx.new_groups(len(tasks)), strict=True)]
    branches = [
        _Branch(tree, tree.new()) for tree in trees for _ in range(min(n, ctx.rng.randint(first_low, first_high)))
    ]
    while branches:
        open_: list[tuple[_Tree, Rollout]] = []
        for branch, row in zip(branches, _written(branches, ctx, segment), strict=True):
            kept = branch.at
            if repeats(ctx.encoder.decode(row.tokens[kept:]), repeat_chars, repeat_times) and row.stop == "length":
                row.info["repeats"] = True
            ended = row.stop != "length" or len(row.tokens) >= ctx.sampling.max_tokens or "repeats" in row.info
            if ended:
                branch.tree.finished.append(row)
            else:
                open_.append((branch.tree, row))
        branches = []
        for tree in trees:
            rows = [row for owner, row in open_ if owner is tree]
            budget = n - len(tree.finished)
            if rows:
                branches += _deeper(tree, rows, allocate(rows, min(budget, split * len(rows)), allocation, sharpness))
            elif budget > 0:
                branches += _regrown(tree, budget, split, fallback, block, ctx)
    return [_marked(row, ctx) for tree in trees for row in sorted(tree.finished, key=lambda row: row.trajectory)]


def allocate(rows: Sequence[Rollout], total: int, how: Allocation, sharpness: float) -> list[int]:
    """How many of `total` branches each path gets, 1 or more each."""
    if how == "fixed_avg":
        each, rest = divmod(total, len(rows))
        return [max(1, each)] * (len(rows) - 1) + [max(1, each + rest)]
    sign = -1.0 if how == "logprob_weighted" else 1.0
    weights = softmax([sign * _mean(row.gen_logp) / sharpness for row in rows])
    shares = [weight * (total - len(rows)) for weight in weights]
    whole = [math.floor(share) for share in shares]
    left = total - len(rows) - sum(whole)
    for i in sorted(range(len(rows)), key=lambda i: whole[i] - shares[i])[:left]:
        whole[i] += 1
    return [1 + more for more in whole]


def repeats(text: str, chars: int, times: int) -> bool:
    """Whether some stretch of `chars` characters stands `times` times in a text, overlapping or not."""
    stretches = Counter(text[i : i + chars] for i in range(len(text) - chars + 1))
    return max(stretches.values(), default=0) >= times


def softmax(values: Sequence[float]) -> list[float]:
    """exp(v) / sum of exp(v), without overflow."""
    top = max(values)
    powers = [math.exp(value - top) for value in values]
    return [power / sum(powers) for power in powers]


def _written(branches: Sequence[_Branch], ctx: Context, segment: int) -> list[Rollout]:
    """Every branch with one segment more; those near the limit have less room, and are asked for apart."""
    rooms = [min(segment, ctx.sampling.max_tokens - branch.at) for branch in branches]
    rows: dict[int, Rollout] = {}
    for room in sorted(set(rooms), reverse=True):
        places = [i for i, other in enumerate(rooms) if other == room]
        part = [branches[i] for i in places]
        starts = [Start.of(branch.row, branch.at) if branch.row else Start() for branch in part]
        found = ctx.generate(
            [branch.tree.task for branch in part],
            1,
            group=[branch.tree.group for branch in part],
            prefixes=starts,
            max_tokens=room,
        )
        rows |= dict(zip(places, found, strict=True))
    for i, branch in enumerate(branches):
        row = rows[i]
        row.trajectory, row.parent, row.fork = branch.trajectory, branch.parent, branch.fork
        kept = branch.row.span[: branch.at] if branch.row else []
        row.span = [*kept, *[max(kept, default=-1) + 1] * (len(row.tokens) - branch.at)]
    return [rows[i] for i in range(len(branches))]


def _deeper(tree: _Tree, rows: Sequence[Rollout], shares: Sequence[int]) -> list[_Branch]:
    """The first branch of a path is the path itself, the others part from it here."""
    found = []
    for row, share in zip(rows, shares, strict=True):
        at = len(row.tokens)
        found.append(_Branch(tree, row.trajectory, row, at, row.parent, row.fork))
        found += [_Branch(tree, tree.new(), row, at, row.trajectory, at) for _ in range(share - 1)]
    return found


def _regrown(tree: _Tree, budget: int, split: int, fallback: Fallback, block: int, ctx: Context) -> list[_Branch]:
    """Branches of finished leaves, taken in random order, until the budget is used or each leaf has had its turn."""
    found: list[_Branch] = []
    for row in ctx.rng.sample(tree.finished, len(tree.finished)):
        at = _cut(row, fallback, block, ctx)
        for _ in range(min(split, budget - len(found))):
            found.append(_Branch(tree, tree.new(), row, at, row.trajectory, at))
    return found


def _cut(row: Rollout, fallback: Fallback, block: int, ctx: Context) -> int:
    if fallback == "random":
        starts = [t for t in range(len(row.tokens)) if t == 0 or row.span[t] != row.span[t - 1]]
        return ctx.rng.choice(starts)
    if fallback == "min_logprob_token":
        return min(range(len(row.tokens)), key=lambda t: row.gen_logp[t])
    starts = list(range(0, len(row.tokens), block))
    weights = softmax([_mean(row.gen_logp[t : t + block]) for t in starts])
    return ctx.rng.choices(starts, weights)[0]


def _marked(row: Rollout, ctx: Context) -> Rollout:
    places = [[t for t, span in enumerate(row.span) if span == s] for s in range(max(row.span, default=-1) + 1)]
    row.info["spans"] = [ctx.encoder.decode(row.tokens[own[0] : own[-1] + 1]) for own in places]
    return row


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _judge(segment: int, low: int, high: int, split: int, sharpness: float, block: int, chars: int, times: int) -> None:
    """Raise ConfigError for knobs that no tree can have."""
    if min(segment, low, split, block, chars) < 1 or high < low or sharpness <= 0 or times < 2:
        raise ConfigError(
            f"rollout treepo has segment={segment}, first_low={low}, first_high={high}, split={split}, block={block}, "
            f"repeat_chars={chars}, repeat_times={times}, sharpness={sharpness:g}; they need 1 or more, first_high at "
            "least first_low, repeat_times 2 or more and a sharpness above 0"
        )
