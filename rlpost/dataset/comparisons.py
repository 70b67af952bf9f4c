"""Preferences as questions of a judge that compares two answers: what it is trained and measured on."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rlpost.dataset.arithmetic import arithmetic_pairs
from rlpost.errors import ConfigError, DataError
from rlpost.reward.comparison import FENCE, LEVELS
from rlpost.reward.judge import fence_of
from rlpost.reward.pair_judge import COMPARE, CRITERIA, question
from rlpost.types import Prompt, Rollout, Task


def comparisons(
    split: str,
    *,
    pairs: Callable[[str], Sequence[Task]] | None = None,
    levels: int = 6,
    grade: str = "grade",
    criteria: str = CRITERIA,
    template: str | None = None,
) -> Sequence[Task]:
    """Each preference pair as the question of reward `pair_judge`; the chosen answer is A and B by turns.

    The answer is D of (A, B), which reward `comparison` reads: positive where A is the chosen one, of a size that the
    column `grade` holds, from 1 to levels/2, and levels/2 without that column. `pairs` is a dataset with the columns
    chosen and rejected, by default sums; `levels`, `criteria` and `template` are those of the judge.

    Raises DataError for a row without a pair of texts, or with another grade.
    """
    if levels < 2 or levels % 2:
        raise ConfigError(f"dataset.levels={levels} must be even: 6 for grades of 1 to 3 on both sides, 2 for A or B")
    if pairs is not None and not callable(pairs):
        raise ConfigError(
            f"dataset.pairs={pairs!r} is no dataset; write "
            "dataset.pairs='{_target_: rlpost.dataset.files.files, path: ...}'"
        )
    tasks = (pairs or _sums)(split)
    return [_asked(task, i % 2 == 0, levels, grade, criteria, template or COMPARE) for i, task in enumerate(tasks)]


def _sums(split: str) -> Sequence[Task]:
    return arithmetic_pairs(split, rejected="wrong")


def _asked(task: Task, first: bool, levels: int, grade: str, criteria: str, template: str) -> Task:
    chosen, rejected = (task.columns.get(name) for name in ("chosen", "rejected"))
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        raise DataError(f"task {task.id}: a comparison needs two texts in the columns chosen and rejected")
    size = _size(task, task.columns.get(grade, levels // 2), levels // 2)
    a, b = (_said(task, text) for text in ((chosen, rejected) if first else (rejected, chosen)))
    fence = fence_of(a, b)
    content = question(a, b, fence, levels=levels, criteria=criteria, template=template)
    return replace(
        task,
        prompt=({"role": "user", "content": content},),
        answer=str(size if first else -size),
        media=(),
        columns={FENCE: fence, LEVELS: levels},
        demonstration=None,
        tags=(*task.tags, "first" if first else "second"),
    )


def _said(task: Task, text: str) -> Rollout:
    return Rollout(task, "", Prompt([]), [], [], [], text, "eos")


def _size(task: Task, grade: Any, most: int) -> int:
    if not isinstance(grade, int) or not 1 <= grade <= most:
        raise DataError(f"task {task.id}: the grade {grade!r} of its preference is no whole number from 1 to {most}")
    return grade
