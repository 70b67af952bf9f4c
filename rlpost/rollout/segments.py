"""Completions cut where the policy was unsure, with the value of each cut from fresh continuations."""

import math
from collections.abc import Sequence

from rlpost.errors import ConfigError
from rlpost.rollout.context import Context
from rlpost.step import total_reward
from rlpost.types import Rollout, Task


def segments(
    tasks: Sequence[Task],
    ctx: Context,
    *,
    threshold: float = 0.9,
    interval: int = 5,
    continuations: int = 9,
    rows_at_once: int = 256,
) -> list[Rollout]:
    """Completions whose spans start at unsure tokens, each start valued by continuations from there (SPO-chain).

    Equation:
        unsure tokens: exp(gen_logp_t) < threshold; every interval-th of them, the first included, starts a span
        value of a start = mean total reward of `continuations` completions that go on from the tokens before it

    Reduces to:
        rollout sample where every token is at least as likely as the threshold: no span, no value.

    Edge cases:
        Tokens before the first start are in no span. Values are in `info["values"]`, one per span, for the reward
        prefix_value. The continuations are scored by the run's own rewards and thrown away; each may have max_tokens
        tokens of its own. `rows_at_once` bounds how many of them are generated together. Cost: a completion with c
        starts takes c * continuations more.

    Paper:
        Segment Policy Optimization (SPO-chain), arXiv 2505.23564.
    """
    if interval < 1 or continuations < 1:
        raise ConfigError(f"rollout.interval={interval} and continuations={continuations} must be 1 or more")
    rows = ctx.generate(tasks, ctx.num_generations)
    starts: list[tuple[Rollout, int]] = []
    for row in rows:
        own = unsure(row, threshold)[::interval]
        row.span = [sum(start <= place for start in own) - 1 for place in range(len(row.tokens))]
        row.info["spans"] = [ctx.encoder.decode(row.tokens[a:b]) for a, b in zip(own, [*own[1:], None], strict=False)]
        starts += [(row, start) for start in own]
    values = _values(starts, ctx, continuations, max(1, rows_at_once // continuations))
    for row in rows:
        row.info["values"] = [value for (owner, _), value in zip(starts, values, strict=True) if owner is row]
    return rows


def unsure(row: Rollout, threshold: float) -> list[int]:
    """Places of the trained tokens that the sampler gave less than `threshold`."""
    limit = math.log(threshold)
    return [place for place, logp in enumerate(row.gen_logp) if row.trains[place] and logp < limit]


def _values(starts: Sequence[tuple[Rollout, int]], ctx: Context, n: int, at_once: int) -> list[float]:
    """The mean total reward of `n` continuations from each start. Starts from equal tokens are valued on their own."""
    found: list[float] = []
    for first in range(0, len(starts), at_once):
        part = starts[first : first + at_once]
        rows = ctx.generate(
            [row.task for row, _ in part], n, prefixes=[row.tokens[:start] for row, start in part], role="value"
        )
        ctx.score(rows)
        totals = total_reward(ctx.stack.table(rows), ctx.stack.weights).reshape(len(part), n)
        found += totals.mean(1).tolist()
    return found
