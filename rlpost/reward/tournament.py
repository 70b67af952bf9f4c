"""Tournaments among the completions of a prompt: which pairs meet, and the quantile at which each one ends.

A tournament is a generator: it yields the pairs of a round and is sent their scores, so that the rounds of many groups
are judged together. It returns a number in [0, 1] per player, 1 for the best.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Literal

Topology = Literal["anchor", "round_robin", "single_elimination"]
Pairs = list[tuple[int, int]]
Scores = Sequence[tuple[float, float]]
Tournament = Generator[Pairs, Scores, list[float]]


def anchor(players: int) -> Tournament:
    """Everyone meets player 0: G - 1 pairs.

    A player's score is that of its one match, player 0's the mean of its own.
    """
    return quantiles((yield from _against_first(players)))


def round_robin(players: int) -> Tournament:
    """Everyone meets everyone, G (G - 1) / 2 pairs; a win counts 1, a tie a half."""
    pairs = [(i, j) for i in range(players) for j in range(i + 1, players)]
    wins = [0.0] * players
    for (i, j), (a, b) in zip(pairs, (yield pairs), strict=True):
        wins[i] += 1.0 if a > b else 0.5 if a == b else 0.0
        wins[j] += 1.0 if b > a else 0.5 if a == b else 0.0
    return quantiles(wins)


def single_elimination(players: int) -> Tournament:
    """Seeds from meeting player 0, then a knock-out bracket: at most 2 (G - 1) pairs.

    Neighbours in the bracket meet, and a tie goes to the one that stands first in it. An odd one out advances and
    stands first in the next round, so that nobody advances twice unplayed in a row. Who goes out in the same round is
    ranked by the mean of the scores so far, the seed's among them.
    """
    seeds = yield from _against_first(players)
    points = [[seed] for seed in seeds]
    order = sorted(range(players), key=lambda i: -seeds[i])
    alive = [order[place] for place in bracket(players)]
    ranked: list[int] = []
    while len(alive) > 1:
        pairs = [(alive[k], alive[k + 1]) for k in range(0, len(alive) - 1, 2)]
        alive, out = alive[len(pairs) * 2 :], []
        for (i, j), (a, b) in zip(pairs, (yield pairs), strict=True):
            points[i].append(a)
            points[j].append(b)
            alive.append(i if a >= b else j)
            out.append(j if a >= b else i)
        ranked = sorted(out, key=lambda i: -sum(points[i]) / len(points[i])) + ranked
    ranked = alive + ranked
    found = [0.0] * players
    for rank, i in enumerate(ranked):
        found[i] = 1.0 - rank / (players - 1) if players > 1 else 0.0
    return found


TOPOLOGIES: dict[str, Callable[[int], Tournament]] = {
    "anchor": anchor,
    "round_robin": round_robin,
    "single_elimination": single_elimination,
}


def played(
    tournaments: Sequence[Tournament], judged: Callable[[list[tuple[int, int, int]]], Scores]
) -> list[list[float]]:
    """The results of several tournaments; `judged` scores the pairs (tournament, i, j) of one round of all of them."""
    results: list[list[float]] = [[] for _ in tournaments]
    waiting: dict[int, Pairs] = {}

    def advance(k: int, scores: Scores | None) -> None:
        try:
            waiting[k] = next(tournaments[k]) if scores is None else tournaments[k].send(scores)
        except StopIteration as end:
            waiting.pop(k, None)
            results[k] = end.value

    for k in range(len(tournaments)):
        advance(k, None)
    while waiting:
        now = [(k, i, j) for k, pairs in waiting.items() for i, j in pairs]
        scores = iter(judged(now))
        for k, pairs in list(waiting.items()):
            advance(k, [next(scores) for _ in pairs])
    return results


def bracket(players: int) -> list[int]:
    """Seeds in the order of a knock-out bracket in which the best two can meet only at the end."""
    order = [0]
    while len(order) < players:
        total = 2 * len(order)
        order = [seed for i in order for seed in (i, total - 1 - i)]
    return [seed for seed in order if seed < players]


def quantiles(scores: Sequence[float]) -> list[float]:
    """(last - rank) / (last - 1), rank 1 for the highest score; equal ones share the better rank, all equal give 0."""
    ranks = [1 + sum(other > score for other in scores) for score in scores]
    last = max(ranks, default=1)
    return [(last - rank) / (last - 1) if last > 1 else 0.0 for rank in ranks]


def _against_first(players: int) -> Generator[Pairs, Scores, list[float]]:
    """Each player's score against player 0, whose own is the mean of its scores."""
    pairs = [(0, i) for i in range(1, players)]
    scores = (yield pairs) if pairs else []
    first = [a for a, _ in scores]
    return [sum(first) / len(first) if first else 0.0, *(b for _, b in scores)]
