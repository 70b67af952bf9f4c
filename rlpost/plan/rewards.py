"""What each reward says of answers whose worth is known: gold, nothing, the prompt again, and a gold answer mutated."""

import functools
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

from rlpost.errors import RlpostError
from rlpost.fields import reads
from rlpost.lift import is_pairwise
from rlpost.models.encode import Encoder
from rlpost.source import TargetMissing, signature, source_of
from rlpost.stack import RewardStack, row_score
from rlpost.types import Prompt, Rollout, Task

# How a gold answer may have to be written for a reward to find it, the plainest first.
FORMS = {
    "as it is": "{}",
    "in answer tags": "<answer>{}</answer>",
    "with thoughts": "<think>So it is.</think>\n<answer>{}</answer>",
    "boxed": "\\boxed{{{}}}",
}
DEMONSTRATION = "the demonstration"
VARIANTS: tuple[str, ...] = ("gold", "empty", "echo", "mutated")
TINY = 1e-6


@dataclass(frozen=True)
class Tried:
    """One reward: the mean score of each kind of text (None: it does not apply), or why it was not asked."""

    name: str
    means: Mapping[str, float | None]
    samples: int
    form: str = ""
    highest: float | None = None
    why_not: str = ""
    error: RlpostError | None = None

    def plain(self) -> dict[str, Any]:
        """For tables and JSON."""
        told = {"samples": self.samples, "gold is written": self.form, "highest seen": self.highest}
        return {"reward": self.name, **self.means, **told, "not asked": self.why_not}


def tried(stack: RewardStack, nodes: Mapping[str, Any], tasks: Sequence[Task], encoder: Encoder) -> list[Tried]:
    """Every reward on the tasks with a gold answer. What a reward raises is kept in `error`: the run would meet it."""
    known = [task for task in tasks if gold_texts(task)]
    return [_one(stack, name, nodes[name], known, encoder) for name in stack.names]


def warnings(found: Sequence[Tried]) -> list[str]:
    """Sentences on rewards that gold does not satisfy best, or that an empty text or an echo satisfies as well."""
    told = []
    for one in found:
        gold = one.means.get("gold")
        if gold is None or one.highest is None:
            continue
        if gold < one.highest - TINY:
            told.append(
                f"reward {one.name}: gold answers get {gold:.3g} on average, not the {one.highest:.3g} that it gave "
                "elsewhere; look at how the dataset writes its answers"
            )
        for cheap, words in (("empty", "an empty text"), ("echo", "the prompt again")):
            got = one.means.get(cheap)
            if got is not None and got >= gold - TINY:
                told.append(f"reward {one.name}: {words} gets {got:.3g}, as much as a gold answer")
    asked = [one for one in found if one.means.get("gold") is not None]
    if asked and len(asked) == len(found) and not any(_tells(one) for one in asked):
        told.append("no reward tells a gold answer from a mutated one, so nothing rewards being right")
    return told


def _tells(one: Tried) -> bool:
    gold, other = one.means.get("gold"), one.means.get("mutated")
    return gold is not None and other is not None and gold > other + TINY


def gold_texts(task: Task) -> dict[str, str]:
    """What a perfect completion of the task may look like, by the form it is written in; nothing without an answer."""
    found = {}
    shown = _spoken(task.demonstration) or _spoken(task.columns.get("chosen"))
    if shown:
        found[DEMONSTRATION] = shown
    if task.answer is not None:
        found |= {name: form.format(str(task.answer)) for name, form in FORMS.items()}
    return found


def mutated(text: str) -> str:
    """The text with its last answer changed: the last number one larger, else the last option letter or word replaced.

    What stands around the answer stays, so that only its content is wrong.
    """
    numbers = list(re.finditer(r"\d+", text))
    if numbers:
        last = numbers[-1]
        return text[: last.start()] + str(int(last.group()) + 1) + text[last.end() :]
    inside = re.search(r"(?:<answer>|\\boxed\{)\s*(.*?)\s*(?:</answer>|\})", text, re.DOTALL)
    start, end = inside.span(1) if inside else (0, len(text))
    words = list(re.finditer(r"\w+", text[start:end]))
    if not words:
        return text + " not"
    last = words[-1]
    word = last.group()
    other = chr((ord(word) - ord("A") + 1) % 26 + ord("A")) if re.fullmatch("[A-Z]", word) else f"no{word}"
    return text[: start + last.start()] + other + text[start + last.end() :]


def _one(stack: RewardStack, name: str, node: Mapping[str, Any], tasks: Sequence[Task], encoder: Encoder) -> Tried:
    nothing: dict[str, float | None] = dict.fromkeys(VARIANTS)
    if why := _why_not(stack, name, node):
        return Tried(name, nothing, 0, why_not=why)
    if not tasks:
        return Tried(name, nothing, 0, why_not="no sampled task has a gold answer or a demonstration")
    ask = functools.partial(_scores, stack, name, encoder)
    try:
        forms = dict.fromkeys(form for task in tasks for form in gold_texts(task))
        by_form = {form: ask([(t, gold_texts(t)[form]) for t in tasks if form in gold_texts(t)]) for form in forms}
        form = max(by_form, key=lambda one: (_mean(by_form[one]) or 0.0, -list(by_form).index(one)))
        own = [(task, gold_texts(task)[form]) for task in tasks if form in gold_texts(task)]
        scores = {
            "gold": by_form[form],
            "empty": ask([(task, "") for task, _ in own]),
            "echo": ask([(task, echo(task)) for task, _ in own]),
            "mutated": ask([(task, mutated(text)) for task, text in own]),
        }
    except RlpostError as error:
        return Tried(name, nothing, 0, why_not="it failed, see below", error=error)
    seen = [score for values in (*by_form.values(), *scores.values()) for score in values if score is not None]
    applied = sum(score is not None for score in scores["gold"])
    if not applied:
        return Tried(name, nothing, 0, why_not="it applies to no sampled task")
    return Tried(name, {kind: _mean(values) for kind, values in scores.items()}, applied, form, max(seen))


def _why_not(stack: RewardStack, name: str, node: Mapping[str, Any]) -> str:
    reward = stack.rewards[name].score
    if "models" in reads(reward):
        return f"it asks a second model, models.{node.get('role')}"
    if is_pairwise(reward):
        return "it compares the completions of a group"
    if hasattr(reward, "observe"):
        return "it judges by what it saw before"
    return "it runs code in the sandbox" if _uses_sandbox(str(node["_target_"])) else ""


def _uses_sandbox(target: str) -> bool:
    try:
        text = source_of(signature(target).target.rpartition(".")[0]).read_text(encoding="utf-8")
        return "from rlpost.sandbox" in text or "from rlpost import sandbox" in text
    except (TargetMissing, OSError):
        return False


def _scores(stack: RewardStack, name: str, encoder: Encoder, texts: Sequence[tuple[Task, str]]) -> list[float | None]:
    alone = RewardStack({name: stack.rewards[name]}, stack.models).at(0, 0.0)
    rows = [rollout(encoder, task, text, group=str(i)) for i, (task, text) in enumerate(texts)]
    alone.score(rows, {"rng": random.Random(0), "step": 0, "progress": 0.0})
    return [row_score(row.scores[name]) for row in rows]


def rollout(encoder: Encoder, task: Task, text: str, *, group: str) -> Rollout:
    """A text as the completion of a task, alone in its group; it was not sampled, so its log-probabilities are 0."""
    tokens = [*encoder.tokenizer(text, add_special_tokens=False)["input_ids"], encoder.stop_ids[0]]
    row = Rollout(task, group, Prompt([]), tokens, [True] * len(tokens), [0.0] * len(tokens), text, "eos")
    return replace(row, span=[-1] * len(tokens), source=["policy"] * len(tokens))


def echo(task: Task) -> str:
    """The last user turn of the prompt as text."""
    turns = [message for message in task.prompt if message.get("role") == "user"]
    return _text(turns[-1].get("content")) if turns else ""


def _spoken(answer: Any) -> str:
    """A demonstration's last assistant turn as text."""
    if isinstance(answer, str):
        return answer
    turns = [m for m in answer or () if isinstance(m, Mapping) and m.get("role") == "assistant"]
    return _text(turns[-1].get("content")) if turns else ""


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(str(part.get("text", "")) for part in content or () if part.get("type") == "text")


def _mean(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return mean(known) if known else None
