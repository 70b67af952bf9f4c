"""Early exits: one chain of thought, cut at several places where the policy is told to answer."""

import bisect
from collections.abc import Sequence

from rlpost.errors import ConfigError
from rlpost.rollout.context import Context
from rlpost.types import Rollout, Task

STOP = "Time is limited, stop thinking and start answering.\n</think>\n\n"


def s_grpo(
    tasks: Sequence[Task],
    ctx: Context,
    *,
    marker: str = "</think>",
    stop: str = STOP,
    answer_tokens: int = 1024,
    train_thinking: bool = True,
) -> list[Rollout]:
    """One completion of each task, and G - 1 answers that leave its chain of thought early: a serial group.

    Equation:
        y = (t_1 .. t_n, marker, answer) ~ pi(. | x);  positions p_1 < .. < p_(G-1) out of 1 .. n, uniform
        y_i = (t_1 .. t_(p_i), stop, a_i) with a_i ~ pi(. | x, t_1 .. t_(p_i), stop)
        index 0 .. G - 2 in the order of positions, the whole completion last

    Reduces to:
        one completion of each task at num_generations 1.

    Edge cases:
        The tokens of `stop` are the environment's and do not train. The kept thoughts train in every row that has them,
        each time with that row's advantage; with train_thinking false only what a row wrote itself does. Without
        `marker` all of the completion but its stop token counts as thought. Fewer thoughts than exits: positions
        repeat; none: every exit is at 0. `answer_tokens` bounds what follows an exit. An exit has the role "exit", so
        that metrics and curriculum see the whole completions.

    Paper:
        S-GRPO: Early Exit via Reinforcement Learning in Reasoning Models, arXiv 2505.07686; stop text, G 8.
        Assumed: thoughts train in every row, where the alternative is train_thinking false; there is no official code.
    """
    if answer_tokens < 1:
        raise ConfigError(f"rollout s_grpo has answer_tokens={answer_tokens}; an answer needs 1 or more")
    whole = ctx.generate(tasks, 1)
    parents, at = [], []
    for row in whole:
        row.index = ctx.num_generations - 1
        positions = _positions(_thoughts(row, marker, ctx), ctx.num_generations - 1, ctx)
        parents += [row] * len(positions)
        at += positions
    exits = ctx.branch(parents, at, insert=ctx.tokens(stop), trains=train_thinking, max_tokens=answer_tokens)
    for i, row in enumerate(exits):
        row.index, row.role = i % (ctx.num_generations - 1), "exit"
    return whole + exits


def _thoughts(row: Rollout, marker: str, ctx: Context) -> int:
    """How many tokens of the row come before the marker."""
    written = len(row.tokens) - (row.stop == "eos")
    end = row.text.find(marker) if marker else -1
    if end < 0:
        return written
    # The longest beginning whose text does not reach into the marker.
    return bisect.bisect_right(range(written + 1), end, key=lambda n: len(ctx.encoder.decode(row.tokens[:n]))) - 1


def _positions(thoughts: int, exits: int, ctx: Context) -> list[int]:
    if thoughts == 0:
        return [0] * exits
    places = range(1, thoughts + 1)
    drawn = ctx.rng.sample(places, exits) if exits <= thoughts else ctx.rng.choices(places, k=exits)
    return sorted(drawn)
