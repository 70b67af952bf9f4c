"""Tasks sorted into categories: what curricula draw from that choose a kind of task first, then a task of it."""

import random
from collections.abc import Sequence

from rlpost.errors import DataError
from rlpost.types import Task


class Categories:
    """The categories of a data set in the order of their names, and which tasks are in each.

    by="tags" takes all tags of a task together as its category; any other value names a column. Raises DataError where
    there is no task, or where a task lacks the column. `curriculum` is the name that messages use.
    """

    def __init__(self, tasks: Sequence[Task], by: str, curriculum: str) -> None:
        if not tasks:
            raise DataError(f"The curriculum {curriculum} got no tasks; the dataset's training split is empty.")
        self.curriculum = curriculum
        found = [_category(task, by, curriculum) for task in tasks]
        self.names = sorted(set(found))
        number = {name: c for c, name in enumerate(self.names)}
        self.members: list[list[int]] = [[] for _ in self.names]
        for i, name in enumerate(found):
            self.members[number[name]].append(i)
        self.of = {task.id: number[name] for task, name in zip(tasks, found, strict=True)}

    def draw(self, weights: Sequence[float], n: int, rng: random.Random) -> list[int]:
        """`n` tasks: a category in proportion to its weight, then any task of it, both with replacement."""
        chosen = rng.choices(range(len(self.names)), weights=weights, k=n)
        return [rng.choice(self.members[c]) for c in chosen]

    def same(self, names: Sequence[str]) -> None:
        """Raise DataError unless a checkpoint knows the same categories."""
        if list(names) != self.names:
            raise DataError(
                f"The checkpoint's curriculum {self.curriculum} has the categories {list(names)}, the dataset "
                f"{self.names}; resume with the same data."
            )


def _category(task: Task, by: str, curriculum: str) -> str:
    if by == "tags":
        return "/".join(task.tags)
    if by not in task.columns:
        raise DataError(
            f"The curriculum {curriculum} sorts by the column {by!r}, which task {task.id!r} lacks; "
            f"its columns are {sorted(task.columns)}, or set curriculum.by=tags."
        )
    return str(task.columns[by])
