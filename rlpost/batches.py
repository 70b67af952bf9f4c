"""Supervised data as steps: a seeded order per epoch, rows encoded when due, unusable ones counted and left out."""

import functools
import math
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rlpost.errors import DataError
from rlpost.ledger import Ledger, current
from rlpost.models.encode import Answer, Encoder
from rlpost.types import Prompt, Task
from rlpost.usable import MAX_BAD, fault_of

# Columns with a number per pair, besides its margin.
PAIR_FACTS = ("chosen_reward", "rejected_reward", "chosen_win", "rejected_win", "consistency")


@dataclass(frozen=True)
class Row:
    """A prompt and what follows it: one demonstration, or a chosen and a rejected answer with what is said of them."""

    prompt: Prompt
    answers: tuple[Answer, ...]
    margin: float | None = None
    facts: Mapping[str, float] = field(default_factory=dict)  # other numbers of the pair, by name

    @property
    def length(self) -> int:
        """Tokens of the longest sequence of this row."""
        return len(self.prompt.ids) + max(len(answer.tokens) for answer in self.answers)

    @property
    def trained(self) -> int:
        """Tokens that train."""
        return sum(sum(answer.trains) for answer in self.answers)

    @property
    def size(self) -> int:
        """Bytes that keeping this row costs, roughly."""
        visual = sum(tensor.nbytes for tensor in self.prompt.features.values())
        return visual + 40 * (len(self.prompt.ids) + sum(len(answer.tokens) for answer in self.answers))


def demonstration(encoder: Encoder, task: Task) -> Row:
    """The row of a task with a demonstration."""
    return Row(encoder.prompt(task), (encoder.completion(task, task.demonstration),))


def pair(encoder: Encoder, task: Task) -> Row:
    """The row of a task with a chosen and a rejected answer."""
    margin = _number(task, "margin")
    answers = tuple(encoder.completion(task, task.columns[name]) for name in ("chosen", "rejected"))
    facts = {name: value for name in PAIR_FACTS if (value := _number(task, name)) is not None}
    return Row(encoder.prompt(task), answers, margin, facts)


def without(tasks: Sequence[Task], columns: Iterable[str]) -> str | None:
    """A sentence for the first task that lacks one of these columns, None where all have all."""
    for task in tasks:
        for name in columns:
            if task.columns.get(name) is None:
                return f"task {task.id} has no column {name!r}"
    return None


def demonstrated(tasks: Sequence[Task]) -> list[Task]:
    """The tasks that have a demonstration; the others go to the ledger. Raises DataError where none is left."""
    good = _having(tasks, "labelled as a bad answer", lambda task: task.columns.get("label") is False)
    found = _having(good, "no demonstration", lambda task: not task.demonstration)
    if not found:
        raise DataError(
            f"none of the {len(tasks)} tasks has a demonstration to learn from; pick a dataset with answers, such as "
            "dataset=arithmetic_sft, or name the column that holds them"
        )
    return found


def paired(tasks: Sequence[Task]) -> list[Task]:
    """The tasks with both answers of a pair; the others go to the ledger. Raises DataError where none is left."""
    found = _having(
        tasks,
        "no chosen and rejected answer",
        lambda task: not task.columns.get("chosen") or not task.columns.get("rejected"),
    )
    if not found:
        raise DataError(
            f"none of the {len(tasks)} tasks has a chosen and a rejected answer; pick a dataset of pairs, such as "
            "dataset=arithmetic_pairs, or name the columns that hold them"
        )
    return found


def picks(tasks: int, per_step: int, step: int, seed: int) -> list[int]:
    """Positions of the tasks of an optimizer step: epochs one after another, each in a seeded order of its own.

    The step number is the whole state, so a run that continues from a checkpoint sees the tasks it would have seen.
    """
    places = (divmod(place, tasks) for place in range(step * per_step, (step + 1) * per_step))
    return [_order(tasks, epoch, seed)[at] for epoch, at in places]


class Encoded:
    """The rows of tasks, encoded when first asked for; the latest are kept up to `cache_bytes`.

    A row that is too long, or whose media cannot be read, is None and counted once in the ledger; nothing is ever cut.
    `knob` is what the configuration calls `max_length`. Raises DataError past the share `max_bad` of such rows.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        encode: Callable[[Task], Row],
        *,
        max_length: int | None = None,
        max_bad: float = MAX_BAD,
        cache_bytes: int = 1 << 30,
        knob: str = "trainer.max_length",
    ):
        self.tasks, self.encode = tasks, encode
        self.max_length, self.max_bad, self.cache_bytes, self.knob = max_length, max_bad, cache_bytes, knob
        self._kept: OrderedDict[int, Row] = OrderedDict()
        self._bytes = 0
        self._bad: set[int] = set()
        self._ledger = Ledger()

    def __len__(self) -> int:
        return len(self.tasks)

    def rows(self, places: Sequence[int]) -> list[Row]:
        """The rows at these places, without those that cannot be used."""
        found = [self._row(place) for place in places]
        return [row for row in found if row is not None]

    def _row(self, place: int) -> Row | None:
        if place in self._bad:
            return None
        if place in self._kept:
            self._kept.move_to_end(place)
            return self._kept[place]
        try:
            row = self.encode(self.tasks[place])
        except DataError as error:
            return self._drop(place, *fault_of(error, self.tasks[place]))
        if self.max_length is not None and row.length > self.max_length:
            return self._drop(place, f"longer than {self.knob}={self.max_length} tokens", self.tasks[place].id)
        if not row.trained:
            return self._drop(place, "no token of the answer trains", self.tasks[place].id)
        self._keep(place, row)
        return row

    def _keep(self, place: int, row: Row) -> None:
        self._kept[place] = row
        self._bytes += row.size
        while self._bytes > self.cache_bytes and self._kept:
            self._bytes -= self._kept.popitem(last=False)[1].size

    def _drop(self, place: int, cause: str, where: str) -> None:
        self._bad.add(place)
        self._ledger.drop(cause, where)
        current().drop(cause, where, once=True)
        self._ledger.check(len(self.tasks), self.max_bad)


def _number(task: Task, name: str) -> float | None:
    """A column that holds a number; None where a row has none."""
    value = task.columns.get(name)
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"column {name!r} holds {value!r:.40}, not a number")
    return number


def _having(tasks: Sequence[Task], cause: str, lacks: Callable[[Task], bool]) -> list[Task]:
    for task in tasks:
        if lacks(task):
            current().drop(cause, task.id)
    return [task for task in tasks if not lacks(task)]


@functools.lru_cache(maxsize=4)
def _order(tasks: int, epoch: int, seed: int) -> tuple[int, ...]:
    order = list(range(tasks))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return tuple(order)
