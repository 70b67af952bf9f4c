"""What an export must say and end as in training: the chat template's round trip, think tags, and the stop token."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from rlpost.batches import demonstrated, paired
from rlpost.config import build
from rlpost.errors import DataError
from rlpost.export.source import Source
from rlpost.export.verify import Check, Sample
from rlpost.models.encode import Bundle
from rlpost.types import Prompt

OPEN, CLOSE = "<think>", "</think>"
EXAMPLES = 4
LOOKED_AT = 64  # demonstrations whose end is looked at


class Ending(NamedTuple):
    """A prompt and an answer of which the last token is a stop token."""

    prompt: Prompt
    answer: list[int]


def round_trip(asked: Sequence[Sample], found: Sequence[Mapping[str, Any]], bundle: Bundle) -> Check:
    """The exported template writes what training saw, and tokens survive being text."""
    name, tokenizer = "the chat template round-trips", bundle.encoder.tokenizer
    for sample, answer in zip(asked, found, strict=True):
        ours = tokenizer.apply_chat_template(list(sample.task.prompt), tokenize=False, add_generation_prompt=True)
        ids = tokenizer(ours, add_special_tokens=False)["input_ids"]
        if answer["template"] != ours or answer["template_ids"] != ids:
            return Check(
                name, False, f"the exported template writes {answer['template']!r}, in training it was {ours!r}"
            )
        again = tokenizer(tokenizer.decode(ids), add_special_tokens=False)["input_ids"]
        if again != ids:
            return Check(
                name, False, f"{len(ids)} tokens of task {sample.task.id} are {len(again)} others when written and read"
            )
    return Check(name, True, f"{len(asked)} prompts, tokens to text to the same tokens")


def think_tags(source: Source, bundle: Bundle, asked: Sequence[Sample]) -> Check:
    """A thought is opened once: by the template or by the answer, and never by both."""
    name, tokenizer = "one think tag", bundle.encoder.tokenizer
    prompt = list(asked[0].task.prompt)

    def render(messages: list[Any], *, generation: bool) -> str:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)

    plain, ready = render(prompt, generation=False), render(prompt, generation=True)
    thought = [*prompt, {"role": "assistant", "content": f"{OPEN} so {CLOSE} then"}]
    kept = render(thought, generation=False).count(OPEN) - plain.count(OPEN)
    if kept > 1:
        return Check(name, False, f"the template writes {kept} {OPEN} around an answer that has one")
    opened = ready.count(OPEN) - plain.count(OPEN)
    answers = _answers(source)
    again = sum(text.lstrip().startswith(OPEN) for text in answers)
    if opened and again > len(answers) / 2:
        return Check(
            name,
            False,
            f"the template opens {OPEN}, and so do {again} of {len(answers)} answers: the tag is there twice",
        )
    who = "the template opens it" if opened else f"{again} of {len(answers)} answers open it"
    return Check(name, True, who)


def ends(source: Source, bundle: Bundle) -> Check:
    """The stop token was trained: the labels of demonstrations end with it, or sampled rows do."""
    name = "the stop token was trained"
    if source.verb == "grpo":
        rows = _last_rows(source)
        ended = sum(row.get("stop") == "eos" for row in rows)
        limit = source.tree["rollout"].get("max_tokens")
        said = f"{ended} of {len(rows)} completions of the last steps ended with it"
        if not ended:
            said += f": they were cut at rollout.max_tokens={limit}, so that the model was never taught to stop"
        return Check(name, bool(ended), said)
    answers = [bundle.encoder.completion(task, text) for task, text in _taught(source)[:LOOKED_AT]]
    good = sum(a.tokens[-1] in bundle.encoder.stop_ids and a.trains[-1] for a in answers)
    return Check(name, good == len(answers), f"{good} of {len(answers)} answers end with it, and it has a loss there")


def endings(source: Source, bundle: Bundle) -> list[Ending]:
    """A few answers that ended by themselves: demonstrations, or the last completions that did."""
    if source.verb != "grpo":
        taken = _taught(source)[:EXAMPLES]
    else:
        tasks = {task.id: task for task in build(source.tree["dataset"])("train")}
        done = [row for row in _last_rows(source) if row.get("stop") == "eos" and row["task"] in tasks]
        taken = [(tasks[row["task"]], row["text"]) for row in done[-EXAMPLES:]]
    return [Ending(bundle.encoder.prompt(task), bundle.encoder.completion(task, text).tokens) for task, text in taken]


@torch.no_grad()
def stop_probability(model: Any, bundle: Bundle, examples: Sequence[Ending]) -> float | None:
    """Mean probability of a stop token where the examples have theirs; None without examples."""
    found, device = [], next(model.parameters()).device
    for one in examples:
        inputs = bundle.encoder.collate([one.prompt], [one.answer])
        last = model(**{k: v.to(device) for k, v in inputs.items()}, use_cache=False).logits[0, -2].float()
        found.append(float(last.softmax(-1)[bundle.encoder.stop_ids].sum()))
    return sum(found) / len(found) if found else None


def _taught(source: Source) -> list[tuple[Any, Any]]:
    tasks = build(source.tree["dataset"])("train")
    if source.verb == "dpo":
        return [(task, task.columns["chosen"]) for task in paired(tasks)]
    return [(task, task.demonstration) for task in demonstrated(tasks)]


def _answers(source: Source) -> list[str]:
    """Texts that the model gave or was taught."""
    if source.verb == "grpo":
        return [row["text"] for row in _last_rows(source)]
    try:
        taught = _taught(source)[:LOOKED_AT]
    except DataError:
        return []
    return [text if isinstance(text, str) else str(text[-1].get("content", "")) for _, text in taught]


def _last_rows(source: Source) -> list[dict[str, Any]]:
    """The policy's rows in the last quarter of the steps; the file is read line by line."""
    rows: list[dict[str, Any]] = []
    place = source.run / "rollouts.jsonl"
    if not place.is_file():
        return rows
    with place.open(encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            if row.get("role", "policy") == "policy":
                rows.append({name: row.get(name) for name in ("step", "task", "text", "stop")})
    last = max((row["step"] or 0 for row in rows), default=0)
    return [row for row in rows if (row["step"] or 0) > 0.75 * last]
