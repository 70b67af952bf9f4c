"""Rewards for the form of a program: is there a code block, and is it Python?"""

import ast
import warnings

from rlpost.lift import per_rollout
from rlpost.reward.code import blocks_of
from rlpost.types import Rollout


@per_rollout
def code_format(rollout: Rollout, *, broken: float = 0.5) -> float:
    """1 where the completion's last code block is valid Python, `broken` where it is not, 0 without a block.

    Equation:
        r = 1 (block parses), broken (block does not), 0 (no block)
    Edge cases:
        A block is fenced by ``` with the language python or none, as for reward unit_tests; an empty block is none. The
        code is parsed, never run.
    Paper: DiffuCoder, arXiv:2506.20639: its reward code_format. Assumed: text around the block is allowed, where the
        published pattern bounds it.
    """
    blocks = [block for block in blocks_of(rollout.text) if block.strip()]
    if not blocks:
        return 0.0
    return 1.0 if _parses(blocks[-1]) else broken


def _parses(code: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in strings
            ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the parser's words for too deep
        return False
    return True
