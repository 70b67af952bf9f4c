"""What a reward stack is asked about: batches of completions, grouped and stepped as training would hand them over."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rlpost import built, ledger
from rlpost.dataset.files import files as dataset_files
from rlpost.errors import ConfigError, DataError
from rlpost.models.encode import Encoder
from rlpost.plan.rewards import DEMONSTRATION, gold_texts, rollout
from rlpost.rollout.context import Context
from rlpost.rollout.engine import Completion, Sampling
from rlpost.run import files
from rlpost.stack import RewardStack
from rlpost.trainers.records import prompt_text
from rlpost.types import Prompt, Rollout, Task


@dataclass(frozen=True)
class Text:
    """A completion of a task. `probe` says what a made-up one is; `recorded` are the scores a run wrote down for it."""

    task: Task
    group: str
    text: str
    probe: str = ""
    role: str = "policy"
    stop: str = "eos"
    info: Mapping[str, Any] = field(default_factory=dict)
    recorded: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Batch:
    """What one call of the stack sees: whole groups of one step, with what schedules read of it."""

    texts: Sequence[Text]
    step: int = 0
    progress: float = 0.0


def dealt(texts: Sequence[Text], groups: int) -> list[Batch]:
    """Batches of as many groups as a step of the run holds; a group is never cut."""
    by_group: dict[str, list[Text]] = {}
    for text in texts:
        by_group.setdefault(text.group, []).append(text)
    whole = list(by_group.values())
    size = max(1, groups)
    return [Batch([text for group in whole[i : i + size] for text in group]) for i in range(0, len(whole), size)]


def of_run(run: Path, limit: int | None, groups: int, max_steps: int) -> list[Batch]:
    """The completions that a run wrote, one batch per step, or as `dealt` where it trained nothing.

    `limit` groups, spread evenly over the run. Raises ConfigError for a folder without completions, DataError where the
    run's dataset no longer asks what it asked.
    """
    lines = files.read_lines(run / "rollouts.jsonl")
    if not lines:
        raise ConfigError(
            f"--run {run} holds no completions (rollouts.jsonl); name the folder of a grpo, sample or eval"
        )
    texts: dict[int | None, list[Text]] = {}
    for line, row in zip(lines, built.completions(run), strict=True):
        if prompt_text(row.task) != line["prompt"]:
            ledger.current().drop("the dataset asks something else under this id than the run did", row.task.id)
            continue
        step = line["step"]
        one = Text(row.task, f"{step}/{row.group}", row.text, "", row.role, row.stop, dict(line["info"]), row.scores)
        texts.setdefault(step, []).append(one)
    if not texts:
        raise DataError(f"--run {run}: its dataset asks something else under every id, so no completion can be scored")
    chosen = _spread([text.group for one in texts.values() for text in one], limit)
    batches: list[Batch] = []
    for step, found in texts.items():
        kept = [text for text in found if text.group in chosen]
        if step is None:
            batches += dealt(kept, groups)
        elif kept:  # a step that is written as n is the n-1 that schedules saw
            batches.append(Batch(kept, step - 1, (step - 1) / max(1, max_steps)))
    return batches


def of_file(path: Path, limit: int | None, groups: int) -> list[Batch]:
    """Rows of a file with prompt and completion, in any format that a dataset may have; equal questions are a group.

    Raises DataError for a file that is not there or has no completions.
    """
    if not path.is_file():
        raise DataError(f"--rows {path}: there is no such file")
    tasks = dataset_files("train", path=str(path), test_share=0.0)
    texts = []
    for task in tasks:
        said = gold_texts(task).get(DEMONSTRATION)
        if said is None and task.demonstration is None:
            ledger.current().drop("the row has no completion", task.id)
            continue
        bare = replace(task, demonstration=None)  # what is scored is no gold answer
        texts.append(Text(bare, f"{prompt_text(task)}\0{task.answer}", said or ""))
    if not texts:
        raise DataError(f"--rows {path}: no row has a completion; a row needs `prompt` and `completion`")
    names = {group: str(n) for n, group in enumerate(dict.fromkeys(text.group for text in texts))}
    texts = [replace(text, group=names[text.group]) for text in texts]
    chosen = _spread([text.group for text in texts], limit)
    return dealt([text for text in texts if text.group in chosen], groups)


def _spread(groups: Sequence[str], limit: int | None) -> set[str]:
    """`limit` of the groups (all by default), evenly spread over their order."""
    names = list(dict.fromkeys(groups))
    if limit is None or limit >= len(names):
        return set(names)
    return {names[i * len(names) // limit] for i in range(limit)}


class NotPlain(Exception):
    """The rollout asks for more than one completion of each prompt at a time: written texts cannot stand for it."""


class Marker:
    """Marks the spans of given texts as the run's rollout function would: it is run with them as its completions.

    A function that asks the model more than once (a contrast, a tree, tools) cannot be run so: `failed` says that, and
    texts are then one span each.
    """

    def __init__(self, node: Mapping[str, Any], encoder: Encoder, sampling: Sampling):
        from rlpost.nodes import build

        self.plain = str(node.get("_target_")) == "rlpost.rollout.sample.sample"
        self.collect = None if self.plain else build(dict(node))
        self.encoder = _Unread(encoder.tokenizer, None, encoder.stop_ids, encoder.template_kwargs)
        self.sampling, self.failed = sampling, ""

    def rows(self, texts: Sequence[Text]) -> list[Rollout]:
        """The rollouts of texts, in order, whole groups."""
        rows = [_row(self.encoder, text) for text in texts]
        groups: dict[str, list[Rollout]] = {}
        for row in rows:
            if row.role == "policy":
                groups.setdefault(row.group, []).append(row)
        for group in groups.values():
            if self.collect is not None and not self.failed:
                self._mark(group)
        return rows

    def _mark(self, group: Sequence[Rollout]) -> None:
        given = [Completion(row.tokens, row.gen_logp, row.stop) for row in group]

        def engine(prompts: Sequence[Prompt], n: int, _: Sampling) -> list[Completion]:
            if not given or len(prompts) * n != len(group):
                raise NotPlain("it asks the model more than once")
            found = list(given)
            given.clear()
            return found

        context = Context(engine, self.encoder, RewardStack({}), self.sampling, len(group), random.Random(0))
        try:
            made = self.collect([group[0].task], context) if self.collect else []
        except Exception as error:  # any option's function may need what only a model writes
            self.failed = " ".join(str(error).split()) or type(error).__name__
            return
        if [row.tokens for row in made] != [row.tokens for row in group]:
            self.failed = "it gives other completions than the given ones"
            return
        for row, marked in zip(group, made, strict=True):
            row.span = list(marked.span)
            row.info.update(marked.info)


class _Unread(Encoder):
    """An encoder whose prompts nobody reads: media are not decoded for them."""

    def prompt(self, task: Task) -> Prompt:
        return Prompt([])


def _row(encoder: Encoder, text: Text) -> Rollout:
    row = rollout(encoder, text.task, text.text, group=text.group)
    stop: Any = text.stop
    if stop != "eos":  # a completion that was cut has no stop token
        for values in (row.tokens, row.trains, row.gen_logp, row.span, row.source):
            values.pop()
    return replace(row, role=text.role, stop=stop, info=dict(text.info))
