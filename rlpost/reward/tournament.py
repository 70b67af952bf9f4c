"""Tournaments among the completions of a prompt: which pairs meet, and the quantile at which each one ends.

A tournament is a generator: it yields the pairs of a round and is sent their scores, so that the rounds of many groups
are judged together. It returns a number in [0, 1] per player, 1 for the best.
"""

import itertools
import random
from collections.abc import Callable, Generator, Sequence
from typing import Literal

Topology = Literal["anchor", "round_robin", "single_elimination", "double_elimination", "swiss"]
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
        ranked = _by_points(out, points) + ranked
    return _places(alive + ranked)


def double_elimination(players: int) -> Tournament:
    """Who has lost twice is out: 2 (G - 1) pairs.

    A knock-out of all, then one of those who lost in it, who join in the order of its rounds, then the final of the two
    champions, a single match. Pairs of a round are drawn, always in the same way; an odd one out advances, and a tie
    goes to the one drawn first. Who goes out in the same round is ranked by the mean of the scores so far.
    """
    draw = random.Random(players)
    points: list[list[float]] = [[] for _ in range(players)]
    upper, lower = list(range(players)), list[int]()
    fallen: list[list[int]] = []
    ranked: list[int] = []
    while len(upper) > 1:
        upper, out = yield from _drawn(upper, points, draw)
        fallen.append(out)
    while fallen or len(lower) > 1:
        lower += fallen.pop(0) if fallen else []
        if len(lower) > 1:
            lower, out = yield from _drawn(lower, points, draw)
            ranked = _by_points(out, points) + ranked
    if lower:
        upper, lower = yield from _drawn([*upper, *lower], points, draw)
    return _places([*upper, *lower, *ranked])


def _drawn(
    alive: Sequence[int], points: Sequence[list[float]], draw: random.Random
) -> Generator[Pairs, Scores, tuple[list[int], list[int]]]:
    """A round of pairs that are drawn: who stays, an odd one out among them, and who lost."""
    order = draw.sample(alive, len(alive))
    pairs = list(zip(order[::2], order[1::2], strict=False))
    stay, out = order[2 * len(pairs) :], []
    for (i, j), (a, b) in zip(pairs, (yield pairs), strict=True):
        points[i].append(a)
        points[j].append(b)
        stay.append(i if a >= b else j)
        out.append(j if a >= b else i)
    return stay, out


def _by_points(players: Sequence[int], points: Sequence[Sequence[float]]) -> list[int]:
    return sorted(players, key=lambda i: -sum(points[i]) / len(points[i]))


def _places(ranked: Sequence[int]) -> list[float]:
    """1 - rank / (G - 1), rank 0 for the first."""
    found = [0.0] * len(ranked)
    for rank, i in enumerate(ranked):
        found[i] = 1.0 - rank / (len(ranked) - 1) if len(ranked) > 1 else 0.0
    return found


def swiss(players: int) -> Tournament:
    """Rounds between players of like points, ceil(log2 G) of them: at most G / 2 pairs each.

    A win counts 1, a tie a half, a round without an opponent 1, of which everyone has one before anyone has a second.
    The first round is shuffled, always in the same way. Later ones pair the next player in points with the nearest one
    that it has not met, where there is one. Ranked by points, then by the points of the opponents; who is equal in both
    shares the mean of their quantiles.
    """
    points, met = [0.0] * players, [set[int]() for _ in range(players)]
    byes = [0] * players
    order = random.Random(players).sample(range(players), players)
    for _ in range(min(players - 1, (players - 1).bit_length())):
        waiting = sorted(order, key=lambda i: -points[i])
        if players % 2:
            free = min(reversed(waiting), key=lambda i: byes[i])
            waiting.remove(free)
            points[free] += 1.0
            byes[free] += 1
        pairs = _paired(waiting, met)
        for (i, j), (a, b) in zip(pairs, (yield pairs), strict=True):
            points[i] += 1.0 if a > b else 0.5 if a == b else 0.0
            points[j] += 1.0 if b > a else 0.5 if a == b else 0.0
            met[i].add(j)
            met[j].add(i)
    worth = [(points[i], sum(points[j] for j in met[i])) for i in range(players)]
    return _shared(worth)


def _paired(waiting: list[int], met: Sequence[set[int]]) -> Pairs:
    """The first with the nearest behind it that it has not met, or with the next one where it has met all."""
    pairs, left = [], list(waiting)
    while left:
        first = left.pop(0)
        other = next((j for j in left if j not in met[first]), left[0])
        left.remove(other)
        pairs.append((first, other))
    return pairs


def _shared(worth: Sequence[tuple[float, float]]) -> list[float]:
    """1 - rank / (G - 1) by descending worth; equal ones share the mean of theirs."""
    order = sorted(range(len(worth)), key=lambda i: worth[i], reverse=True)
    found, rank = [0.0] * len(worth), 0
    for _, equal in itertools.groupby(order, key=lambda i: worth[i]):
        own = list(equal)
        for i in own:
            found[i] = 1.0 - (rank + (len(own) - 1) / 2) / (len(worth) - 1) if len(worth) > 1 else 0.0
        rank += len(own)
    return found


TOPOLOGIES: dict[str, Callable[[int], Tournament]] = {
    "anchor": anchor,
    "round_robin": round_robin,
    "single_elimination": single_elimination,
    "double_elimination": double_elimination,
    "swiss": swiss,
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
