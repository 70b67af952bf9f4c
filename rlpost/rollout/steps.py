"""Completions whose pieces are marked, so that a reward can score each and credit can reach each."""

import re
from collections.abc import Sequence

from rlpost.errors import ConfigError
from rlpost.models.encode import Encoder
from rlpost.rollout.context import Context
from rlpost.types import Rollout, Task


def steps(tasks: Sequence[Task], ctx: Context, *, end: str = r"\n\n+") -> list[Rollout]:
    """Independent completions of each task, cut into spans where the text matches `end`: steps, sentences, clauses.

    Equation:
        y_1 .. y_G ~ pi(. | x) for every task x; a span ends with the token that completes a match of `end`

    Reduces to:
        rollout sample with one span per completion where nothing matches.

    Edge cases:
        A span without a visible character is none: it belongs to the span before it, at the start to the one behind. So
        does the stop token. A token that holds the end of one span and the start of the next belongs to the first.

    Paper:
        Stop Summation: Min-Form Credit Assignment Is All Process Reward Model Needs for Reasoning (PURE),
        arXiv 2504.15275, whose steps end at blank lines.
    """
    try:
        pattern = re.compile(end)
    except re.error as error:
        raise ConfigError(f"rollout.end={end!r} is no regular expression: {error}") from error
    rows, known = ctx.generate(tasks, ctx.num_generations), {}
    for row in rows:
        pieces = [_piece(ctx.encoder, token, known) for token in row.tokens]
        row.span, row.info["spans"] = cut(pieces, pattern)
    return rows


def windows(tasks: Sequence[Task], ctx: Context, *, length: int = 256) -> list[Rollout]:
    """Independent completions of each task, cut into spans of `length` tokens whatever they say.

    Equation:
        y_1 .. y_G ~ pi(. | x) for every task x; span of token t = floor(t / length)

    Reduces to:
        rollout sample with one span per completion of up to `length` tokens.

    Paper:
        PRL: Process Reward Learning, arXiv 2601.10201: windows of 256 tokens.
    """
    if length < 1:
        raise ConfigError(f"rollout.length={length} tokens make no span; choose 1 or more")
    rows = ctx.generate(tasks, ctx.num_generations)
    for row in rows:
        row.span = [place // length for place in range(len(row.tokens))]
        row.info["spans"] = [ctx.encoder.decode(row.tokens[a : a + length]) for a in range(0, len(row.tokens), length)]
    return rows


def cut(pieces: Sequence[str], end: re.Pattern[str]) -> tuple[list[int], list[str]]:
    """The span of each token, from the text of each, and the text of each span."""
    text = "".join(pieces)
    marks = [match.end() for match in end.finditer(text) if match.end()]
    numbers, starts, place = [], [0], 0
    for piece in pieces:
        numbers.append(len(starts) - 1)
        before, place = place, place + len(piece)
        completed = any(before < mark <= place for mark in marks)
        if completed and text[starts[-1] : place].strip() and text[place:].strip():
            starts.append(place)
    texts = [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]
    return numbers, texts if pieces else []


def _piece(encoder: Encoder, token: int, known: dict[int, str]) -> str:
    """The text of one token; a stop token has none."""
    if token not in known:
        known[token] = encoder.decode([token])
    return known[token]
