"""The plain rollout: a group of independent completions of each task."""

from collections.abc import Sequence

from rlpost.rollout.context import Context
from rlpost.types import Rollout, Task


def sample(tasks: Sequence[Task], ctx: Context) -> list[Rollout]:
    """Draw `num_generations` independent completions of each task.

    Equation:
        y_1 .. y_G ~ pi(. | x) for every task x
    Reduces to:
        one completion per prompt at num_generations 1
    Edge cases:
        a completion that reaches max_tokens has stop "length"
    Paper: DeepSeekMath, arXiv:2402.03300
    """
    return ctx.generate(tasks, ctx.num_generations)
