"""Sums with a solution, right or wrong, to be checked: what a verifier can be measured on."""

from collections.abc import Sequence
from dataclasses import replace

from rlpost.dataset.arithmetic import WORDING, arithmetic_pairs
from rlpost.errors import ConfigError
from rlpost.reward.judge import fence_of
from rlpost.reward.verifier import COUNT, FENCE, question
from rlpost.types import Prompt, Rollout, Task


def verdicts(
    split: str,
    *,
    train_size: int = 256,
    validation_size: int = 0,
    test_size: int = 100,
    largest: int = 20,
    wrong_every: int = 2,
    wording: str = WORDING,
    template: str | None = None,
    seed: int = 0,
) -> Sequence[Task]:
    """Questions of a verifier about sums of two numbers: every `wrong_every`-th solution is a near miss.

    The answer is 1 for a right solution and 0 for a wrong one, as for tasks that build=verification makes.
    """
    if wrong_every < 1:
        raise ConfigError(f"dataset.wrong_every={wrong_every}: choose 1 or more, 2 for half of the solutions")
    tasks = arithmetic_pairs(
        split,
        train_size=train_size,
        validation_size=validation_size,
        test_size=test_size,
        largest=largest,
        wording=wording,
        rejected="wrong",
        seed=seed,
    )
    return [_asked(task, wrong=i % wrong_every == wrong_every - 1, template=template) for i, task in enumerate(tasks)]


def _asked(task: Task, *, wrong: bool, template: str | None) -> Task:
    text = str(task.columns["rejected" if wrong else "chosen"])
    solution = Rollout(task, "", Prompt([]), [], [], [], text, "eos")
    fence = fence_of(solution)
    return replace(
        task,
        prompt=({"role": "user", "content": question(solution, [text], fence, template)},),
        answer=str(int(not wrong)),
        columns={"expression": task.columns["expression"], FENCE: fence, COUNT: 1},
        tags=("wrong" if wrong else "right",),
    )
