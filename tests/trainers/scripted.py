"""A rollout whose completions follow from the task alone, so that runs cut differently train on the same rows."""

import random
from collections.abc import Sequence

from rlpost.rollout.context import Context
from rlpost.types import Rollout, Task


def collect(tasks: Sequence[Task], ctx: Context) -> list[Rollout]:
    """`num_generations` completions of uneven length per task, drawn from the task's id."""
    stop = ctx.encoder.stop_ids[0]
    rows = []
    for task, group in zip(tasks, ctx.new_groups(len(tasks)), strict=True):
        for k in range(ctx.num_generations):
            rng = random.Random(f"{task.id}/{k}")
            tokens = [rng.randrange(10, 200) for _ in range(rng.randint(1, 7))] + [stop]
            rows.append(
                Rollout(
                    task=task,
                    group=group,
                    prompt=ctx.encoder.prompt(task),
                    tokens=tokens,
                    trains=[True] * len(tokens),
                    gen_logp=[-1.0] * len(tokens),
                    text=ctx.encoder.decode(tokens),
                    stop="eos",
                    span=[-1] * len(tokens),
                    source=["policy"] * len(tokens),
                )
            )
    return rows


def uneven(rollouts: Sequence[Rollout]) -> list[float]:
    """A reward that differs within most groups: it follows from the tokens."""
    return [float(sum(r.tokens) * 7 % 5) + 0.3 * len(r.tokens) for r in rollouts]


def forced(tasks: Sequence[Task], ctx: Context) -> list[Rollout]:
    """`collect`, where the first two tokens of a row are given and do not train; a row of two or less stays."""
    rows = collect(tasks, ctx)
    for row in rows:
        given = 2 if len(row.tokens) > 2 else 0
        row.trains = [t >= given for t in range(len(row.tokens))]
        row.source = ["expert"] * given + row.source[given:]
    return rows
