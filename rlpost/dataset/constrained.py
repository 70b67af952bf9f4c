"""Made-up instructions whose constraints can be checked, with demonstrations that think and then answer."""

import random
from collections.abc import Sequence

from rlpost.types import Task

THINGS = ("the sea", "a bus stop", "winter", "a cat", "bread", "the moon", "a library", "rain")
WORDS = ("blue", "quiet", "seven", "almost", "warm", "tall", "early", "green")
ASK = (
    "Describe {thing} in at most {limit} words. Use the word {word}. {case}"
    "Write <think>thoughts</think> and then <answer>the text</answer>."
)


def constrained(split: str, *, train_size: int = 256, test_size: int = 100, seed: int = 0) -> Sequence[Task]:
    """Short texts with a limit of words, a word that must occur, and, for every other one, lower case throughout.

    The column `constraints` is what reward `constraints` checks; the demonstration meets all of them.

    Edge cases: splits are drawn apart from each other; other splits than train and test are empty.
    """
    size = {"train": train_size, "test": test_size}.get(split, 0)
    rng = random.Random(f"{seed}/{split}")
    return [_task(split, i, rng) for i in range(size)]


def _task(split: str, i: int, rng: random.Random) -> Task:
    thing, word, limit, lower = rng.choice(THINGS), rng.choice(WORDS), rng.randint(5, 9), i % 2 == 0
    wanted = [{"kind": "words_at_most", "value": limit}, {"kind": "includes", "value": word}]
    text = f"{thing} is {word}"
    if lower:
        wanted.append({"kind": "lower_case", "value": None})
    else:
        text = text[0].upper() + text[1:]
    ask = ASK.format(thing=thing, limit=limit, word=word, case="Use lower case only. " if lower else "")
    thoughts = f"at most {limit} words, with {word}{', lower case' if lower else ''}"
    return Task(
        id=f"constrained-{split}-{i}",
        prompt=({"role": "user", "content": ask},),
        columns={"constraints": wanted},
        demonstration=f"<think>{thoughts}</think><answer>{text}</answer>",
        tags=("lower",) if lower else ("any_case",),
    )
