"""Video-R1's rewards: five accuracy types, one per kind of question, and the format.

`when: {problem_type: ...}` routes each row to its own type; the published code takes that of a batch's first row for
all of them. The answer is what stands between the first pair of answer tags.
"""

import re
from functools import cache
from typing import Any

from rlpost.errors import ConfigError
from rlpost.lift import per_rollout
from rlpost.types import Rollout

ANSWER = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)
LAYOUT = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)


def answer_of(text: str) -> str:
    """What stands between the first answer tags, or nothing."""
    found = ANSWER.search(text)
    return found.group(1) if found else ""


def gold_of(rollout: Rollout) -> str:
    """The task's answer; a dataset may keep its answer tags around it."""
    gold = str(rollout.task.answer)
    return answer_of(gold) if ANSWER.search(gold) else gold.strip()


@per_rollout
def multiple_choice(rollout: Rollout) -> float | None:
    """1 when the answer is the option's letter exactly, else 0.

    Equation:
        r = 1[answer = gold]

    Edge cases:
        "B." or "B up" is not "B". None where the task has no answer.

    Paper:
        Video-R1, arXiv 2503.21776.
    """
    if rollout.task.answer is None:
        return None
    return float(answer_of(rollout.text) == gold_of(rollout))


@per_rollout
def numerical(rollout: Rollout, *, decimals: int = 2, same_form: bool = True) -> float | None:
    """1 when the two numbers are equal after rounding, else 0.

    Equation:
        r = 1[round(answer, decimals) = round(gold, decimals)]

    Edge cases:
        same_form: when one of the two has a point or a comma and the other has not, the score is 0 (as published, so
        3.0 is not 3). Commas separate thousands. Text that is no number scores 0.

    Paper:
        Video-R1, arXiv 2503.21776; `same_form` is from its code.
    """
    if rollout.task.answer is None:
        return None
    answer, gold = answer_of(rollout.text), gold_of(rollout)
    if same_form and any(mark in answer for mark in ".,") != any(mark in gold for mark in ".,"):
        return 0.0
    value, target = number(answer), number(gold)
    if value is None or target is None:
        return 0.0
    return float(round(value, decimals) == round(target, decimals))


@per_rollout
def ocr(rollout: Rollout) -> float | None:
    """One minus the word error rate against the gold transcription.

    Equation:
        r = clip(1 - edits(answer words, gold words) / max(1, gold words), 0, 1)

    Edge cases:
        edits counts insertions, deletions and substitutions of words. An empty answer scores 0 unless gold is empty.

    Paper:
        Video-R1, arXiv 2503.21776.
    """
    if rollout.task.answer is None:
        return None
    words, gold = answer_of(rollout.text).split(), gold_of(rollout).split()
    return max(0.0, 1.0 - edits(words, gold) / max(1, len(gold)))


@per_rollout
def free_form(rollout: Rollout, *, stemmer: bool = True) -> float | None:
    """The mean of ROUGE-1, ROUGE-2 and ROUGE-L (F-measures) against the gold text.

    Equation:
        r = (rouge1 + rouge2 + rougeL) / 3

    Edge cases:
        A gold text of a single word can reach 2/3 at most: it has no word pairs. Needs the extra `text`.

    Paper:
        Video-R1, arXiv 2503.21776; ROUGE as in the package rouge-score.
    """
    if rollout.task.answer is None:
        return None
    scores = _rouge(stemmer).score(gold_of(rollout), answer_of(rollout.text))
    return sum(score.fmeasure for score in scores.values()) / len(scores)


@per_rollout
def regression(rollout: Rollout) -> float | None:
    """One minus the relative error, never below 0.

    Equation:
        r = 1 - min(1, (|answer - gold| + 1e-9) / (|gold| + 1e-9))

    Edge cases:
        A gold answer of 0 gives its full score only to 0 itself. Text that is no number scores 0.

    Paper:
        Video-R1, arXiv 2503.21776.
    """
    if rollout.task.answer is None:
        return None
    value, target = number(answer_of(rollout.text)), number(gold_of(rollout))
    if value is None or target is None:
        return 0.0
    if value == target:
        return 1.0
    return 1.0 - min(1.0, (abs(value - target) + 1e-9) / (abs(target) + 1e-9))


@per_rollout
def think_answer_format(rollout: Rollout) -> float:
    """1 when the whole completion is a rationale in think tags, then an answer in answer tags.

    Equation:
        r = 1[completion matches <think>.*</think> <answer>.*</answer>]

    Edge cases:
        White space around and between the blocks is allowed, other text is not. As published, a block may hold tags.

    Paper:
        Video-R1, arXiv 2503.21776.
    """
    return float(LAYOUT.fullmatch(rollout.text.strip()) is not None)


def number(text: str) -> float | None:
    """The number that a text is, commas taken as thousands; None when it is none or not finite."""
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def edits(words: list[str], gold: list[str]) -> int:
    """The least number of insertions, deletions and substitutions that turn one list of words into the other."""
    row = list(range(len(words) + 1))
    for i, target in enumerate(gold, 1):
        above, row = row, [i]
        for j, word in enumerate(words, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (word != target)))
    return row[-1]


@cache
def _rouge(stemmer: bool) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise ConfigError(
            "the reward free_form needs the package rouge-score: install the extra `text` (pip install 'rlpost[text]')"
        ) from error
    return RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=stemmer)
