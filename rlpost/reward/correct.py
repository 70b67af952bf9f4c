"""The verifiable reward of the default run: is the completion's final answer the gold answer?"""

import re
from decimal import Decimal, InvalidOperation
from typing import Literal

from rlpost.lift import per_rollout
from rlpost.types import Rollout

_DIGITS = r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w]|\.\d)"
NUMBER = re.compile(r"(?<![\w.,])" + _DIGITS)
BARE = re.compile(r"[\s$€£*`'\"]*" + _DIGITS + r"[\s.*`'\"]*")
# A number beside a variable or a bracket is a part of an expression, and no answer that is a number.
OPERAND = re.compile(r"(?<![A-Za-z'’])[A-Za-z)]\s*[-+*/^×÷−]\s*(?=[-+−]?\d)|\d\s*[-+*/^×÷−]\s*[A-Za-z(](?![A-Za-z])")
# Braces within braces within a box, as in a fraction of powers.
BOX = re.compile(r"\\boxed\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
MARKED = (
    re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE),
    BOX,
    re.compile(r"\banswer\s*(?:is|:|=)\s*([^\n]+?)(?:\.\s|\.?\n|\.?\Z)", re.IGNORECASE),
)


@per_rollout
def correct(
    rollout: Rollout,
    *,
    extract: Literal["only", "final", "marked"] = "final",
    max_numbers: int = 8,
    tolerance: float = 0.0,
) -> float | None:
    """1 where the completion's final answer equals the gold answer, else 0.

    `only` takes the whole completion as the answer, `final` the answer that is marked (answer tags, boxed, "is")
    or else the last number, `marked` the marked one alone. Numbers compare as numbers (1,000 = 1000.0), others as
    text without case, outer punctuation and repeated spaces.

    Edge cases: None where the task has no answer. A completion that lists more than `max_numbers` numbers without
    marking one has no final answer: it is a list of guesses. Two marked answers that differ are none. An empty
    completion scores 0.
    """
    gold = rollout.task.answer
    if gold is None:
        return None
    found = final_answer(rollout.text, extract=extract, max_numbers=max_numbers, numeric=number(str(gold)) is not None)
    return float(found is not None and same(found, str(gold), tolerance=tolerance))


@per_rollout
def boxed(rollout: Rollout, *, right: float = 2.0, wrong: float = -1.5, missing: float = -2.0) -> float | None:
    """A number for each of three cases: the boxed answer is the gold one, it is another, there is none in a box.

    Equation:
        right where the content of the last box equals the gold answer, as in `correct`; wrong where it does not;
        missing where nothing is boxed

    Edge cases: None where the task has no answer. Boxes that differ state no answer: wrong.

    Paper:
        RAIF, arXiv 2506.01413: its reward for mathematics.
    """
    gold = rollout.task.answer
    if gold is None:
        return None
    found = [content.strip() for content in BOX.findall(rollout.text)]
    if not found:
        return missing
    one = len({plain(content) for content in found}) == 1
    return right if one and same(found[-1], str(gold)) else wrong


def final_answer(text: str, *, extract: str, max_numbers: int, numeric: bool) -> str | None:
    """The answer that a completion settles on, or None where it settles on none."""
    if extract == "only":
        return text if not numeric or BARE.fullmatch(text) else None
    marked = _marked(text)
    if numeric:
        marked = [answer.rpartition("=")[2] for answer in marked]
    if marked:
        return marked[-1] if len({plain(answer) for answer in marked}) == 1 else None
    if extract == "marked":
        return None
    if not numeric:
        lines = [line for line in text.strip().splitlines() if line.strip()]
        return lines[-1] if lines else None
    numbers = NUMBER.findall(text)
    return numbers[-1] if numbers and len(numbers) <= max_numbers else None


def same(found: str, gold: str, *, tolerance: float = 0.0) -> bool:
    """Equal as numbers where the gold answer is one (within a relative tolerance), else as normalised text."""
    target, value = number(gold), number(found)
    if target is None:
        return plain(found) == plain(gold)
    return value is not None and abs(value - target) <= Decimal(str(tolerance)) * abs(target)


def number(text: str) -> Decimal | None:
    """The one number that a short text states, or None: "$1,000.00" is 1000, "3 or 4" and "x + 1" are None."""
    if OPERAND.search(text):
        return None
    found = NUMBER.findall(re.sub(r"(?<=[=≈~$€£(])(?=[-+−\d])", " ", text))
    if len(found) != 1:
        return None
    try:
        return Decimal(found[0].replace(",", "").replace("−", "-"))
    except InvalidOperation:
        return None


def _marked(text: str) -> list[str]:
    """What the strongest kind of marker in the text holds: answer tags before boxed before the words."""
    for pattern in MARKED:
        found = [match.strip() for match in pattern.findall(text)]
        if found:
            return found
    return []


def plain(text: str) -> str:
    """Text without case, outer punctuation and repeated spaces."""
    return re.sub(r"\s+", " ", text).strip(" \t\n.,;:!?\"'`*()").casefold()
