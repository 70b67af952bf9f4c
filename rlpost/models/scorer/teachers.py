"""Teachers that depend on the task: several of which each task names its own, and one that is told the solution."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rlpost.errors import ConfigError, DataError
from rlpost.models.scorer.base import Cached, Chat, Scorer, Text, messages
from rlpost.nodes import build
from rlpost.types import Task

TOLD = """{question}

For you alone, here is a correct solution:

{solution}

Answer the question as you would without having seen it, in words of your own."""


class Routed(Cached):
    """Several teachers: a task is taught by the one that its column names, and by no other.

    `teachers` are scorers by name, such as scorer=own with another model. One that no task names is never loaded.

    Edge cases: a task without the column, or with a name that is not there, ends the run with DataError.
    Paper: G-OPD, arXiv:2602.12125: multi-teacher distillation, each sample with its own teacher's log-probabilities.
    """

    kind = "a set of teachers"

    def __init__(self, *, teachers: dict[str, Any], column: str = "teacher") -> None:
        super().__init__(cache=False, cache_mb=1.0, slice_size=1)
        wrong = [name for name, node in teachers.items() if not isinstance(node, Mapping) or "_target_" not in node]
        if not teachers or wrong:
            raise ConfigError(
                "models.teacher.teachers must hold scorers by name, such as teachers.math={_target_: "
                f"rlpost.models.scorer.local.Local, model: ...}}; {', '.join(wrong) or 'it'} is none"
            )
        self.column, self._nodes = column, dict(teachers)
        self._built: dict[str, Scorer] = {}

    @property
    def identity(self) -> str:
        return f"teachers by {self.column}: {', '.join(self._nodes)}"

    def of(self, task: Task) -> Scorer:
        """The teacher of a task."""
        name = task.columns.get(self.column)
        if name not in self._nodes:
            raise DataError(
                f"task {task.id} has {name!r} in the column {self.column!r}, which names its teacher; there are "
                f"{', '.join(self._nodes)}"
            )
        if name not in self._built:
            found: Any = build(dict(self._nodes[name]))
            self._built[name] = found
        return self._built[name]


class Told(Cached):
    """A teacher that sees the gold solution in its prompt: what it has, the policy has not (context distillation).

    `scorer` scores; `template` takes the place of the task's last message, with {question}, its text, and {solution},
    the task's demonstration or the column that `column` names.

    Edge cases: a task without a solution ends the run with DataError: its teacher would know nothing more.
    Paper: G-OPD, arXiv:2602.12125: the initial student with the reference solution as the teacher, at lambda 1.
    Assumed: the words around the solution, which the source leaves open.
    """

    kind = "a teacher that is told the solution"

    def __init__(self, *, scorer: Any, column: str = "", template: str = TOLD) -> None:
        super().__init__(cache=False, cache_mb=1.0, slice_size=1)
        if "{question}" not in template or "{solution}" not in template:
            raise ConfigError("models.teacher.template needs {question} and {solution}")
        self.scorer, self.column, self.template = scorer, column, template

    @property
    def identity(self) -> str:
        return f"told: {self.scorer.identity}"

    def prompt(self, task: Task) -> Chat:
        """The task's messages, the last one with the solution."""
        solution = task.columns.get(self.column) if self.column else task.demonstration
        where = f"in the column {self.column!r}" if self.column else "as its demonstration"
        if not isinstance(solution, str) or not solution.strip():
            raise DataError(
                f"task {task.id} has no solution {where} that its teacher could be told; pick a dataset with "
                "demonstrations, or name a column in models.teacher.column"
            )
        *before, last = messages(task.prompt)
        if not isinstance(last["content"], str):
            raise DataError(
                f"task {task.id} has a last message that is no text, which a teacher cannot be told more in"
            )
        inner = {"question": last["content"], "solution": solution}
        text = re.sub(r"\{(question|solution)\}", lambda match: inner[match[1]], self.template)
        return [*before, {**last, "content": text}]

    def logp(self, prompts: Sequence[Chat], completions: Sequence[Text]) -> list[list[float]]:
        return self.scorer.logp(prompts, completions)
