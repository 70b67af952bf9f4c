"""Rewards for following instructions that can be checked: the column `constraints` lists what an answer must be.

A constraint is `{kind, value}`, of a kind in `CHECKS`; a kind with two values has them in a list, as in
`{kind: word_at_least, value: [blue, 2]}`. They are the rules of IFEval (arXiv 2311.07911) but for the language. The
answer is what stands in answer tags behind thoughts.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlpost import foreign
from rlpost.errors import RewardError
from rlpost.lift import per_rollout
from rlpost.reward.format import THINK_ANSWER
from rlpost.types import Rollout

JUDGED = "judged"  # the kind that reward `constraints_judged` asks a second model about
FORM = re.compile(THINK_ANSWER, re.DOTALL)
ANSWER = re.compile(r"<answer>(.*)</answer>", re.DOTALL)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text)


def _count(text: str, word: Any) -> int:
    return len(re.findall(rf"(?<!\w){re.escape(str(word))}(?!\w)", text, re.IGNORECASE))


def _paragraphs(text: str) -> list[str]:
    return [part for part in re.split(r"\n\s*\n", text) if part.strip()]


def _sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])[\"'”’)]*(?:\s+|$)", text) if _words(part)]


def _is_json(text: str) -> bool:
    """An object or a list, alone or in a fence of code."""
    inner = re.fullmatch(r"```(?:json)?\s*\n(.*)\n\s*```", text.strip(), re.DOTALL)
    try:
        return isinstance(foreign.parsed(inner.group(1) if inner else text), dict | list)
    except ValueError:
        return False


CHECKS: dict[str, Callable[[str, Any], bool]] = {
    "words_at_least": lambda text, n: len(_words(text)) >= int(n),
    "words_at_most": lambda text, n: 0 < len(_words(text)) <= int(n),
    "includes": lambda text, word: _count(text, word) > 0,
    "excludes": lambda text, word: bool(text.strip()) and _count(text, word) == 0,
    "starts_with": lambda text, start: text.strip().startswith(str(start)),
    "ends_with": lambda text, end: text.strip().endswith(str(end)),
    "lower_case": lambda text, _: text.islower(),
    "upper_case": lambda text, _: text.isupper(),
    "lines": lambda text, n: len([line for line in text.splitlines() if line.strip()]) == int(n),
    "paragraphs": lambda text, n: len(_paragraphs(text)) == int(n),
    "paragraph_starts_with": lambda text, of: (
        len(_paragraphs(text)) >= int(of[0]) and _words(_paragraphs(text)[int(of[0]) - 1])[:1] == [str(of[1])]
    ),
    "sentences_at_least": lambda text, n: len(_sentences(text)) >= int(n),
    "sentences_at_most": lambda text, n: 0 < len(_sentences(text)) <= int(n),
    "word_at_least": lambda text, of: _count(text, of[0]) >= int(of[1]),
    "word_at_most": lambda text, of: bool(text.strip()) and _count(text, of[0]) <= int(of[1]),
    "letter_at_least": lambda text, of: text.lower().count(str(of[0]).lower()) >= int(of[1]),
    "capital_words_at_least": lambda text, n: sum(word.isupper() for word in _words(text)) >= int(n),
    "capital_words_at_most": lambda text, n: bool(text.strip()) and sum(w.isupper() for w in _words(text)) <= int(n),
    "bullets": lambda text, n: len(re.findall(r"^\s*(?:[-*•]|\d+[.)])\s+\S", text, re.MULTILINE)) == int(n),
    "placeholders_at_least": lambda text, n: len(re.findall(r"\[[^\[\]\n]+\]", text)) >= int(n),
    "highlights_at_least": lambda text, n: len(re.findall(r"(?<!\*)\*{1,2}[^*\s][^*\n]*\*{1,2}(?!\*)", text)) >= int(n),
    "title": lambda text, _: re.search(r"<<[^<>\n]+>>", text) is not None,
    "quoted": lambda text, _: len(text.strip()) > 2 and text.strip()[0] == text.strip()[-1] == '"',
    "no_comma": lambda text, _: bool(text.strip()) and "," not in text,
    "postscript": lambda text, mark: re.search(rf"^\s*{re.escape(str(mark))}\s*\S", text, re.MULTILINE) is not None,
    "one_of": lambda text, choices: text.strip() in {str(choice) for choice in choices},
    "json": lambda text, _: _is_json(text),
}


def satisfied(text: str, constraints: Sequence[Mapping[str, Any]]) -> int:
    """How many of the constraints a text meets. Raises ValueError for an unknown kind."""
    unknown = [one.get("kind") for one in constraints if one.get("kind") not in CHECKS]
    if JUDGED in unknown:
        raise ValueError(
            "a constraint of the kind 'judged' needs a judge: 'reward=[constraints_judged,thought_form,"
            "constraint_gain_judged]' with scorer@models.judge=..."
        )
    if unknown:
        raise ValueError(f"unknown constraint {unknown[0]!r}; there are {', '.join(CHECKS)}")
    return sum(CHECKS[one["kind"]](text, one.get("value")) for one in constraints)


def wanted(rollout: Rollout) -> list[Mapping[str, Any]]:
    """The constraints of a rollout's task. Raises RewardError where the column holds anything but `{kind, value}`s.

    It is read whatever the completion is, so that wrong data are told at the first step.
    """
    found = rollout.task.columns.get("constraints") or []
    if isinstance(found, str | Mapping) or not all(isinstance(one, Mapping) and "kind" in one for one in found):
        raise RewardError(
            f"task {rollout.task.id}: the column constraints is a list of {{kind, value}}, not {str(found)[:80]!r}"
        )
    strange = [one["kind"] for one in found if one["kind"] != JUDGED and one["kind"] not in CHECKS]
    if strange:
        raise RewardError(
            f"task {rollout.task.id}: unknown constraint {strange[0]!r}; there are {', '.join((*CHECKS, JUDGED))}"
        )
    return list(found)


def answer_of(text: str) -> str | None:
    """What stands in answer tags, None where the completion is not thoughts and then one answer."""
    found = ANSWER.search(text) if FORM.fullmatch(text) else None
    return found.group(1).strip() if found else None


@per_rollout
def constraints(rollout: Rollout, *, every: float = 2.0, none: float = -2.0) -> float | None:
    """The share of a task's constraints that an answer meets, with a bonus for all and a penalty for none.

    Equation:
        every where all are met; none where none is, or where there is no answer in the right form; else met / all

    Edge cases: None where the task has no constraints. An empty answer meets no bound on length and excludes nothing.

    Paper:
        RAIF, arXiv 2506.01413: its rule-based reward.
    """
    asked = wanted(rollout)
    if not asked:
        return None
    answer = answer_of(rollout.text)
    met = 0 if answer is None else satisfied(answer, asked)
    return every if met == len(asked) else none if met == 0 else met / len(asked)


@per_rollout
def thought_form(rollout: Rollout) -> float:
    """1 where a completion is thoughts in think tags and then one answer in answer tags, else -1.

    Edge cases: nothing may stand before, between but spaces, or after.

    Paper:
        RAIF, arXiv 2506.01413: its format reward.
    """
    return 1.0 if answer_of(rollout.text) is not None else -1.0


@per_rollout
def constraint_gain(rollout: Rollout, *, baseline: str = "baseline_satisfied") -> float | None:
    """How many more constraints an answer meets than the model's answer without thoughts, a column of the data.

    Weight 0: it informs the advantage `superior_zscore`, which leaves answers alone that thinking made worse.

    Edge cases: None where the task has no constraints or no such column, and where the form is wrong.

    Paper:
        RAIF, arXiv 2506.01413: its filter for superior reasoning.
    """
    asked, before = wanted(rollout), rollout.task.columns.get(baseline)
    answer = answer_of(rollout.text)
    return None if not asked or before is None or answer is None else float(satisfied(answer, asked) - before)
