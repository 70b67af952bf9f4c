"""How long prompts, answers and media are in tokens, from samples of the dataset through the run's own encoder."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rlpost.batches import Row, demonstration, pair
from rlpost.checks.trainer import _table
from rlpost.errors import DataError
from rlpost.models.encode import Encoder
from rlpost.types import Prompt, Task

SAMPLES = 64


@dataclass(frozen=True)
class Length:
    """Tokens of one task: its prompt, those of them that stand for media, and each of its answers."""

    place: int
    prompt: int
    visual: int
    answers: tuple[int, ...] = ()

    @property
    def whole(self) -> int:
        """Tokens of the longest sequence of the task that the dataset holds."""
        return self.prompt + max(self.answers, default=0)


@dataclass
class Lengths:
    """The lengths of the sampled tasks, and why others could not be encoded."""

    found: list[Length]
    tasks: int
    unusable: dict[str, int] = field(default_factory=dict)

    @property
    def seen(self) -> int:
        """Tasks that were looked at."""
        return len(self.found) + sum(self.unusable.values())

    def longest(self, n: int) -> list[int]:
        """Positions of the `n` longest sampled tasks, longest first; ties keep the order of the dataset."""
        ranked = sorted(self.found, key=lambda one: (-one.whole, one.place))
        return [one.place for one in ranked[:n]]


def sampled(tasks: Sequence[Task], n: int, seed: int) -> list[int]:
    """Positions of `n` tasks (all where there are fewer), drawn without replacement, in order."""
    return sorted(random.Random(f"plan/{seed}").sample(range(len(tasks)), min(n, len(tasks))))


def measure(command: str, tasks: Sequence[Task], encoder: Encoder, places: Sequence[int]) -> Lengths:
    """Encode the tasks at `places` as the run of `command` would. What raises DataError is counted by its sentence."""
    lengths = Lengths([], len(tasks))
    for place in places:
        task = tasks[place]
        try:
            prompt, answers = _encoded(command, task, encoder)
        except DataError as error:
            cause = str(error).replace(task.id, "<id>")
            lengths.unusable[cause] = lengths.unusable.get(cause, 0) + 1
            continue
        visual = sum(kind != 0 for kind in prompt.kinds)
        lengths.found.append(Length(place, len(prompt.ids), visual, answers))
    return lengths


def _encoded(command: str, task: Task, encoder: Encoder) -> tuple[Prompt, tuple[int, ...]]:
    """The prompt, and the tokens of each answer: a pair, a demonstration, or in grpo the answer that is known."""
    if command in ("dpo", "reward"):
        return _of_row(pair(encoder, task))
    if command == "sft":
        return _of_row(demonstration(encoder, task))
    known = task.demonstration or (None if task.answer is None else str(task.answer))
    answers = () if known is None else (len(encoder.completion(task, known).tokens),)
    return encoder.prompt(task), answers


def _of_row(row: Row) -> tuple[Prompt, tuple[int, ...]]:
    return row.prompt, tuple(len(answer.tokens) for answer in row.answers)


def limits(command: str, tree: Mapping[str, Any]) -> tuple[str, int | None]:
    """The key that bounds a sequence, and its value: a completion in grpo, a whole row elsewhere (TRL's default)."""
    if command == "grpo":
        return "rollout.max_tokens", int(tree["rollout"]["max_tokens"])
    default = _table()[command]["max_length"]["default"]
    return "trainer.max_length", (tree.get("trainer") or {}).get("max_length", default)


def spread(values: Sequence[int], limit: int | None = None) -> dict[str, Any]:
    """Minimum, median and maximum of `values`, and the share above `limit`; None throughout without a value."""
    if not values:
        return {"minimum": None, "median": None, "maximum": None, "limit": limit, "over": None}
    over = None if limit is None else sum(value > limit for value in values) / len(values)
    middle = median(values)
    return {
        "minimum": min(values),
        "median": int(middle) if middle == int(middle) else middle,
        "maximum": max(values),
        "limit": limit,
        "over": over,
    }


def facts(command: str, tree: Mapping[str, Any], lengths: Lengths, context: int | None) -> dict[str, Any]:
    """One spread per kind of token. `context`: positions that the model knows.

    In grpo the longest possible row is prompt + max_tokens, held against the context; the answer that is known is held
    against max_tokens: a policy whose answers are as long would be cut there.
    """
    key, limit = limits(command, tree)
    found = lengths.found
    grpo = command == "grpo"
    room = None if context is None else max(0, context - (limit or 0)) if grpo else context
    answers = [n for one in found for n in one.answers]
    rows = {
        "prompt": spread([one.prompt for one in found], room),
        "of which visual": spread([one.visual for one in found]) if any(one.visual for one in found) else None,
        "known answer" if grpo else "answer": spread(answers, limit if grpo else None),
        "whole row": spread([one.whole for one in found], limit) if not grpo else None,
    }
    return {
        "samples": lengths.seen,
        "tasks": lengths.tasks,
        "limit of": key,
        "context": context,
        "rows": {name: row for name, row in rows.items() if row is not None},
        "unusable": lengths.unusable,
    }


def warnings(command: str, facts: Mapping[str, Any]) -> list[str]:
    """Sentences on lengths that the run survives."""
    told = []
    context = facts["context"]
    for name, row in facts["rows"].items():
        if not row["over"]:
            continue
        share = f"{row['over']:.0%} of the sampled tasks"
        if name == "prompt" and command == "grpo":
            told.append(f"{share} leave no room for {facts['limit of']} in the model's context of {context} tokens")
        elif name == "prompt":
            told.append(f"the prompts of {share} are longer than the model's context of {context} tokens")
        elif command == "grpo":
            told.append(f"the known answers of {share} are longer than {facts['limit of']}={row['limit']}")
        else:
            told.append(f"{share} are longer than {facts['limit of']}={row['limit']} and would be left out")
    return told


def faults(command: str, facts: Mapping[str, Any], max_bad: float) -> list[str]:
    """Why the run would stop over its data: too large a share of tasks that cannot be used.

    Rows that are unusable or too long are left out, up to the share `max_bad`; one row alone never counts.
    """
    causes = [f"{count} of {facts['samples']} sampled tasks: {cause}" for cause, count in facts["unusable"].items()]
    over = 0.0 if command == "grpo" else facts["rows"]["whole row"]["over"] or 0
    long = round(over * (facts["samples"] - sum(facts["unusable"].values())))
    bad = long + sum(facts["unusable"].values())
    if bad <= max(1, max_bad * facts["samples"]) and bad < facts["samples"]:
        return []
    why = [
        *causes,
        *([f"{long} are longer than {facts['limit of']}={facts['rows']['whole row']['limit']}"] if long else []),
    ]
    return [
        f"{bad} of {facts['samples']} sampled tasks cannot be used, more than the allowed share {max_bad:g} "
        f"({'; '.join(why)}); mend them or raise dataset.max_bad"
    ]
