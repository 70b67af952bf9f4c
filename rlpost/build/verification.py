"""Solutions that one policy wrote as questions to another one that checks them."""

import re
from collections.abc import Sequence
from dataclasses import replace

from rlpost.build.rows import groups, score
from rlpost.errors import ConfigError
from rlpost.reward.judge import fence_of
from rlpost.reward.verifier import COUNT, FENCE, question
from rlpost.rollout.steps import cut
from rlpost.types import Rollout, Task


def verification(
    rollouts: Sequence[Rollout], *, name: str = "correct", right: float = 1.0, end: str = r"\n\n+",
    template: str | None = None,
) -> list[Task]:  # fmt: skip
    """Every completion as a task for a verifier, whose answer is 1 where its outcome is right and 0 where it is not.

    Equation:
        answer = 1 where the score of reward `name` is at least `right`, otherwise 0

    Edge cases:
        Steps end where `end` matches, as in rollout=steps; the columns `verdict_fence` and `verdict_steps` are what
        reward=verdict_right and verdict_form read. A completion without text or without that score is left out.

    Paper:
        RL Tango, arXiv 2505.15034.
    """
    try:
        pattern = re.compile(end)
    except re.error as error:
        raise ConfigError(f"build.end={end!r} is no regular expression: {error}") from error
    found = []
    for rollout in (one for group in groups(rollouts) for one in group):
        outcome = score(rollout, name)
        if outcome is None or not rollout.text.strip():
            continue
        steps, fence = cut(list(rollout.text), pattern)[1], fence_of(rollout)
        found.append(
            replace(
                rollout.task,
                prompt=({"role": "user", "content": question(rollout, steps, fence, template)},),
                answer=str(int(outcome >= right)),
                media=(),
                demonstration=None,
                columns={**rollout.task.columns, FENCE: fence, COUNT: len(steps)},
                tags=(),
            )
        )
    return found
