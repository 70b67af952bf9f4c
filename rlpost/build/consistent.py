"""Pairs that a model ranks itself, with how far the model of the round before agrees."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

from rlpost.build.rows import groups, pair, summed
from rlpost.types import Rollout, Task


def self_ranked(
    rollouts: Sequence[Rollout],
    models: Mapping[str, Any],
    *,
    current_role: str = "current",
    previous_role: str = "previous",
    start_role: str | None = "start",
    beta: float = 0.1,
    measure: Literal["kendall", "spearman", "top_order"] = "kendall",
    level: Literal["set", "prompt"] = "set",
) -> list[Task]:
    """The answer that the model itself likes best against the one it likes least, and how consistent that ranking is.

    Equation:
        r(y) = beta * (log current(y) - log start(y)), sums over tokens; J ranks by it, J' by the previous model
        kendall: C = (tau(J, J') + 1) / 2;  spearman: C = (rho(J, J') + 1) / 2;  top_order: C = 1[same best, same worst]
        consistency = the mean of C over all prompts ("set"), or the prompt's own C ("prompt")

    Edge cases:
        A model that is the start has r = 0 for every answer: it ranks by its mean log-probability per token instead,
        as both do with `start_role: null`. Ranks are ordinal: of equal ones the first is better. Prompts with fewer
        than two different texts, or with a rank that is no number, are dropped. Equal texts count once.

    Paper:
        CREAM: Consistency Regularized Self-Rewarding Language Models, arXiv 2410.12735, section 4.
    """
    agree = {"kendall": kendall, "spearman": spearman, "top_order": top_order}[measure]
    chosen, rows = (
        [],
        [list({one.text: one for one in group if one.text.strip()}.values()) for group in groups(rollouts)],
    )
    rows = [group for group in rows if len(group) > 1]
    flat = [one for group in rows for one in group]
    liked = [_likings(flat, models, role, start_role, beta) for role in (current_role, previous_role)]
    at = 0
    for group in rows:
        now, before = (likings[at : at + len(group)] for likings in liked)
        at += len(group)
        if all(map(math.isfinite, [*now, *before])):
            best, worst = now.index(max(now)), len(now) - 1 - now[::-1].index(min(now))
            chosen.append((group[best], group[worst], agree(ranks(now), ranks(before))))
    chosen = [one for one in chosen if one[0] is not one[1]]
    whole = sum(c for *_, c in chosen) / len(chosen) if chosen else 0.0
    return [pair(w, lost, consistency=whole if level == "set" else c) for w, lost, c in chosen]


def ranks(values: Sequence[float]) -> list[int]:
    """Places from 0 for the highest; of equal values the first is better."""
    order = sorted(range(len(values)), key=lambda i: -values[i])
    places = [0] * len(values)
    for place, i in enumerate(order):
        places[i] = place
    return places


def kendall(first: Sequence[int], second: Sequence[int]) -> float:
    """Share of the pairs that two rankings order alike: (tau + 1) / 2."""
    pairs = list(combinations(range(len(first)), 2))
    return sum((first[i] < first[j]) == (second[i] < second[j]) for i, j in pairs) / len(pairs)


def spearman(first: Sequence[int], second: Sequence[int]) -> float:
    """(rho + 1) / 2 of two rankings without ties."""
    n = len(first)
    return 1 - 3 * sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) / (n * (n * n - 1))


def top_order(first: Sequence[int], second: Sequence[int]) -> float:
    """1 where both rankings have the same best and the same worst, else 0."""
    last = len(first) - 1
    return float(first.index(0) == second.index(0) and first.index(last) == second.index(last))


def _likings(
    rollouts: Sequence[Rollout], models: Mapping[str, Any], role: str, start_role: str | None, beta: float
) -> list[float]:
    """How much a model likes each completion."""
    model = models[role]
    if start_role is not None and models[start_role].identity != model.identity:
        own, start = summed(model, rollouts), summed(models[start_role], rollouts)
        return [beta * (a - b) for a, b in zip(own, start, strict=True)]
    found = model.logp([r.task.prompt for r in rollouts], [r.text for r in rollouts])
    return [sum(one) / len(one) for one in found]
