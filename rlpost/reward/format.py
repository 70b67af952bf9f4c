"""Rewards for the form of a completion."""

import functools
import re
from typing import Literal

from rlpost.lift import per_rollout
from rlpost.types import Rollout

# Text between tags may hold any character but no further tag, so repeated or nested blocks do not match.
THINK_ANSWER = r"\s*<think>(?:(?!</?(?:think|answer)>).)*</think>\s*<answer>(?:(?!</?(?:think|answer)>).)+</answer>\s*"


@per_rollout
def matches(rollout: Rollout, *, pattern: str = THINK_ANSWER, where: Literal["whole", "anywhere"] = "whole") -> float:
    """1 where the completion has the form of a regular expression, else 0.

    The default asks for thoughts in think tags, then an answer in answer tags, each once.

    Edge cases: `.` matches line breaks. `whole` asks that nothing stands before or after.
    """
    found = _compiled(pattern)
    return float(bool(found.fullmatch(rollout.text) if where == "whole" else found.search(rollout.text)))


@functools.lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise ValueError(f"the pattern {pattern!r} is no regular expression ({error})") from error
