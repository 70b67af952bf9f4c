"""A person's answer against the model's own."""

from collections.abc import Sequence
from dataclasses import replace

from rlpost.build.rows import groups
from rlpost.errors import DataError
from rlpost.types import Rollout, Task


def human_against_own(rollouts: Sequence[Rollout]) -> list[Task]:
    """Every demonstration against each answer that the model itself gave: no reward and no preference is asked for.

    Equation:
        chosen = the demonstration of the task, rejected = y' ~ the policy

    Edge cases:
        An answer that is the demonstration teaches nothing and is dropped, and so is an empty one. Completions of
        several rounds may be given (built_from). Raises DataError for a task without a demonstration.

    Paper:
        Self-Play Fine-Tuning (SPIN), arXiv 2401.01335, algorithm 1.
    """
    found = []
    for rollout in (one for group in groups(rollouts) for one in group):
        task = rollout.task
        if not task.demonstration:
            raise DataError(
                f"build: task {task.id} has no demonstration to hold against the model's own answer; sample from a "
                "dataset with answers, such as dataset=arithmetic_sft"
            )
        said = rollout.text.strip()
        if said and said != _text(task.demonstration).strip():
            texts = {"chosen": task.demonstration, "rejected": rollout.text}
            found.append(replace(task, columns={**task.columns, **texts}))
    return found


def _text(demonstration: object) -> str:
    """The last message of a demonstration, or the text that it is."""
    return demonstration if isinstance(demonstration, str) else str(list(demonstration)[-1].get("content"))  # type: ignore[call-overload]
