"""A rollout that says which tokens of each completion are its answer."""

from collections.abc import Callable, Sequence

from rlpost.rollout.context import Context
from rlpost.types import Rollout, Task


def sample_answer_span(
    tasks: Sequence[Task], ctx: Context, *, start: str = "<answer>", end: str = "</answer>"
) -> list[Rollout]:
    """Draw independent completions as `sample` does, and mark the tokens of each final answer as span 0.

    Equation:
        y_1 .. y_G ~ pi(. | x); span_t = 0 where token t writes a character between the last `start` and the `end` after
        it, -1 elsewhere
    Reduces to:
        sample, for whoever does not read `span`.
    Edge cases:
        Without `start` in the text no token is marked; without `end` all that follow it but the stop token. A token
        that writes a part of a tag and of the answer is marked. An empty `start` marks from the first token on.
    Paper: GRPO-CARE, arXiv 2506.16141, which splits completions at <answer>.
    """
    rows = ctx.generate(tasks, ctx.num_generations)
    for row in rows:
        row.span = marked(row.tokens, ctx.encoder.decode, start=start, end=end)
    return rows


def marked(tokens: Sequence[int], decode: Callable[[Sequence[int]], str], *, start: str, end: str) -> list[int]:
    """Span 0 for the tokens between the last `start` and the `end` after it, -1 for the others."""
    text = decode(tokens)
    found = text.rfind(start) if start else 0
    if found < 0:
        return [-1] * len(tokens)
    first_char = found + len(start)
    stop_char = text.find(end, first_char) if end else -1
    stop_char = len(text) if stop_char < 0 else stop_char

    def written(n: int) -> int:
        """Characters that the first `n` tokens have written."""
        return len(decode(tokens[:n]))

    first = _least(len(tokens), lambda n: written(n) > first_char) - 1
    last = _least(len(tokens), lambda n: written(n) >= stop_char)
    return [0 if stop_char > first_char and first <= t < last else -1 for t in range(len(tokens))]


def _least(n: int, holds: Callable[[int], bool]) -> int:
    """The least count in 0..n for which a condition holds that stays true once it is; n where none does."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
