"""Completions that are made to go on where they had ended: a second thought that the policy may learn to have."""

import bisect
from collections.abc import Sequence
from dataclasses import replace

from rlpost.errors import ConfigError
from rlpost.rollout.context import Context
from rlpost.rollout.start import Start
from rlpost.types import Rollout, Task

PLAIN = ("\n\nWait", "\n\nWait, does it seem right?")
MARKS = ("Wait", "\\boxed", "answer", "\n\n")
WORDS = ("wait,", "wait a", "alternatively")


def rethink(
    tasks: Sequence[Task],
    ctx: Context,
    *,
    chance: float = 0.65,
    plain: tuple[str, ...] = PLAIN,
    if_right: str = "\n\nWait, let's double check",
    if_wrong: str = "\n\nWait, there might be a mistake",
    plain_share: float = 0.5,
    cut_share: float = 0.5,
    marks: tuple[str, ...] = MARKS,
    rethink_temperature: float = 0.9,
    room: int = 1024,
    least: int = 30,
    kept: int = 2,
    words: tuple[str, ...] = WORDS,
    most_words: int = 4,
    threshold: float = 1.0,
    reward: str = "",
) -> list[Rollout]:
    """G completions of each task, up to `kept` of them replaced by what they became when made to think again.

    Equation:
        y_1 .. y_G ~ pi(. | x)
        with probability `chance`, for y_i that ended by itself within max_tokens - room tokens:
            h = y_i without its stop token, with probability cut_share cut before the last of each of `marks` in turn
            trigger = one of `plain` with probability plain_share, else if_right or if_wrong by r(y_i) >= threshold
            z ~ pi(. | x, h, trigger) at rethink_temperature
        y_i <- (h, trigger, z) where r >= threshold, least < |z| < room and at most most_words of `words` are in it

    Gradient:
        The trigger trains (source "environment"): the policy learns to write it.

    Reduces to:
        rollout sample at chance 0.

    Edge cases:
        A replaced row has the role "rethought", so that metrics and curriculum see what the policy wrote by itself;
        `fork` is where the trigger begins, `info["before"]` the old text. The first `kept` that qualify are taken.
        r is the reward that `reward` names, the weighted total where it names none. Marks and words are found whatever
        their case; a mark at the very start cuts everything. gen_logp is 0 on the trigger, at rethink_temperature on z.

    Paper:
        VL-Rethinker, arXiv 2504.08837: forced rethinking, numbers of its released code.
        Assumed: a plain trigger is drawn evenly (released: 0.4 and 0.6), every mark means its last place (released:
        the first "answer").
    """
    if room < 1 or not plain:
        raise ConfigError(
            f"rollout rethink has room={room} and {len(plain)} plain triggers; it needs 1 or more of each"
        )
    rows = ctx.generate(tasks, ctx.num_generations)
    longest = ctx.sampling.max_tokens - room
    totals = ctx.totals(rows, reward=reward)
    chosen, starts = [], []
    for i, (row, total) in enumerate(zip(rows, totals, strict=True)):
        if row.stop != "eos" or len(row.tokens) > longest or ctx.rng.random() >= chance:
            continue
        n = len(row.tokens) - 1
        if ctx.rng.random() < cut_share:
            n = before_marks(row.tokens[:n], marks, ctx)
        by_result = if_right if total >= threshold else if_wrong
        trigger = ctx.rng.choice(list(plain)) if ctx.rng.random() < plain_share else by_result
        chosen.append(i)
        starts.append(Start.of(row, n) + Start.given(ctx.tokens(trigger), "environment", trains=True))
    warm = replace(ctx, sampling=replace(ctx.sampling, temperature=rethink_temperature))
    again = warm.generate(
        [rows[i].task for i in chosen],
        1,
        group=[rows[i].group for i in chosen],
        role="rethought",
        prefixes=starts,
        max_tokens=room,
    )
    taken: dict[str, int] = {}
    for i, start, row, total in zip(chosen, starts, again, ctx.totals(again, reward=reward), strict=True):
        new = len(row.tokens) - len(start.tokens)
        said = sum(row.text.lower().count(word.lower()) for word in words)
        right = total >= threshold and least < new < room and said <= most_words
        if right and taken.get(row.group, 0) < kept:
            taken[row.group] = taken.get(row.group, 0) + 1
            row.fork = start.source.index("environment")
            row.info["before"] = rows[i].text
            rows[i] = row
    return rows


def before_marks(tokens: Sequence[int], marks: Sequence[str], ctx: Context) -> int:
    """How many tokens stand before the last of each of the marks, looked for one after the other in what is left."""
    text = ctx.encoder.decode(tokens)
    for mark in marks:
        place = text.lower().rfind(mark.lower())
        text = text[:place] if place >= 0 else text
    # The longest beginning whose text does not reach behind the cut.
    return bisect.bisect_right(range(len(tokens) + 1), len(text), key=lambda n: len(ctx.encoder.decode(tokens[:n]))) - 1
