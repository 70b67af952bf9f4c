"""Tournaments on known strengths: who meets whom, how many pairs, and where each ends."""

import pytest

from rlpost.reward.tournament import (
    TOPOLOGIES,
    anchor,
    bracket,
    double_elimination,
    played,
    quantiles,
    round_robin,
    single_elimination,
    swiss,
)


def run(tournament, strengths):
    """The result where a pair's scores are the players' strengths, and the rounds of pairs."""
    rounds = []

    def judged(matches):
        rounds.append([(i, j) for _, i, j in matches])
        return [(strengths[i], strengths[j]) for _, i, j in matches]

    return played([tournament(len(strengths))], judged)[0], rounds


@pytest.mark.parametrize(
    ("scores", "wanted"),
    [
        ([3.0, 1.0, 2.0], [1, 0, 0.5]),
        ([5.0, 5.0, 1.0], [1, 1, 0]),  # ranks 1, 1, 3
        ([5.0, 1.0, 1.0], [1, 0, 0]),  # ranks 1, 2, 2
        ([4.0, 4.0], [0, 0]),
        ([4.0], [0]),
        ([], []),
    ],
)
def test_quantiles(scores, wanted):
    assert quantiles(scores) == wanted


def test_the_bracket_keeps_the_best_two_apart():
    assert bracket(8) == [0, 7, 3, 4, 1, 6, 2, 5]
    assert bracket(5) == [0, 3, 4, 1, 2] and bracket(1) == [0] and bracket(2) == [0, 1]
    assert all(sorted(bracket(n)) == list(range(n)) for n in range(1, 40))


def test_all_meet_the_first():
    found, rounds = run(anchor, [5.0, 9.0, 1.0, 5.0])
    assert rounds == [[(0, 1), (0, 2), (0, 3)]]
    # scores 5, 9, 1, 5: ranks 2, 1, 4, 2
    assert found == pytest.approx([2 / 3, 1, 0, 2 / 3])


def test_all_meet_all():
    found, rounds = run(round_robin, [5.0, 9.0, 5.0])
    assert rounds == [[(0, 1), (0, 2), (1, 2)]]
    assert found == [0, 1, 0], "half a win each against the other: ranks 2, 1, 2"


def test_a_knock_out_by_hand():
    """Seeds 9 (player 1), 7 (3), 5 (0), 3 (2): the bracket is 1 v 2, 3 v 0, then 1 v 3."""
    found, rounds = run(single_elimination, [5.0, 9.0, 3.0, 7.0])
    assert rounds == [[(0, 1), (0, 2), (0, 3)], [(1, 2), (3, 0)], [(1, 3)]]
    assert found == pytest.approx([1 / 3, 1, 0, 2 / 3])


def test_an_upset_sends_the_best_seed_to_the_first_round_out():
    """Player 0 seeds first with its mean 8 but loses its first match; those out together are ranked by mean score."""
    scripted = iter([[(8.0, 7.0), (8.0, 6.0), (8.0, 1.0)], [(2.5, 3.0), (9.0, 4.0)], [(5.0, 5.0)]])
    seen = []

    def judged(matches):
        seen.append([(i, j) for _, i, j in matches])
        return next(scripted)

    found = played([single_elimination(4)], judged)[0]
    # seeds 0, 1, 2, 3; bracket 0 v 3 and 1 v 2; then 3 v 1, tied: the first, 3, is champion
    assert seen[1:] == [[(0, 3), (1, 2)], [(3, 1)]]
    # out in round one: 0 with (8 + 2.5)/2 = 5.25, 2 with (6 + 4)/2 = 5
    assert found == pytest.approx([1 / 3, 2 / 3, 0, 1])


def test_who_advances_unplayed_plays_next():
    """Five seeds in order: the bracket is 0 v 3, 4 v 1, and 2 unplayed, which meets the first winner next."""
    found, rounds = run(single_elimination, [9.0, 8.0, 7.0, 6.0, 5.0])
    assert rounds[1:] == [[(0, 3), (4, 1)], [(2, 0)], [(1, 0)]]
    assert found == pytest.approx([1, 0.75, 0.5, 0.25, 0])


def test_the_best_that_loses_once_comes_back_and_who_loses_twice_is_out():
    """Four players in order; 0 loses its first match only. It beats both others that fell, and 1 in the final."""
    seen = []

    def judged(matches):
        pairs = [(i, j) for _, i, j in matches]
        early = not any(0 in pair for one in seen for pair in one)
        seen.append(pairs)
        return [(0.0 if i == 0 and early else 9.0 - i, 0.0 if j == 0 and early else 9.0 - j) for i, j in pairs]

    found = played([double_elimination(4)], judged)[0]
    first, top, low, lower, final = seen
    other = next(pair for pair in first if 0 not in pair)
    assert set(low[0]) == {0, max(other)}, "the losers of the first round"
    assert set(lower[0]) == {0, max(top[0])}, "with the loser of the upper final"
    assert set(final[0]) == {0, 1}
    wanted = {0: 1, 1: 2 / 3, max(top[0]): 1 / 3, max(other): 0}
    assert found == pytest.approx([wanted[i] for i in range(4)])
    assert run(double_elimination, [5.0] * 7)[1] == run(double_elimination, [5.0] * 7)[1], "the same draw every time"


def test_who_goes_out_together_is_ranked_by_the_mean_of_the_scores():
    """Eight players: of the four that lose at once two go out in the first lower round, the better mean ahead."""
    strengths = [float(i) for i in range(8)]
    found, rounds = run(double_elimination, strengths)
    first_out = [min(pair) for pair in rounds[3]]
    assert [len(one) for one in rounds] == [4, 2, 1, 2, 2, 1, 1, 1]
    assert sorted(first_out, key=lambda i: found[i]) == sorted(first_out)
    assert sorted(found[i] for i in first_out) == pytest.approx([0, 1 / 7])


def test_swiss_rounds_by_hand():
    """Four players, two rounds: winners meet winners, losers losers, so that strengths in order give 1, 1/2, 1/2, 0."""
    found, rounds = run(swiss, [9.0, 8.0, 7.0, 6.0])
    first, second = rounds
    assert sorted(i for pair in first for i in pair) == [0, 1, 2, 3]
    winners = {min(pair) for pair in first}
    assert [set(pair) for pair in second] == [winners, {0, 1, 2, 3} - winners]
    assert found[0] == 1 and found[3] == 0 and found[1] + found[2] == pytest.approx(1)


def test_swiss_points_of_opponents_ties_and_no_rematch():
    """All tie: every one has half a point a round and opponents alike, so that all share the mean."""
    found, rounds = run(swiss, [5.0] * 8)
    assert found == [0.5] * 8 and [len(pairs) for pairs in rounds] == [4, 4, 4]
    pairs = [frozenset(pair) for one in rounds for pair in one]
    assert len(set(pairs)) == 12, "nobody meets twice"
    assert run(swiss, [5.0] * 8)[1] == rounds, "the draw is the same every time"


@pytest.mark.parametrize("players", [3, 5, 7, 9])
def test_an_odd_player_out_has_a_point_and_then_it_is_anothers_turn(players):
    _, rounds = run(swiss, [float(i) for i in range(players)])
    out = [({*range(players)} - {i for pair in one for i in pair}).pop() for one in rounds]
    assert len(set(out)) == len(rounds)


@pytest.mark.parametrize("players", [1, 2, 3, 5, 8, 13, 16])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_the_strongest_is_first_and_the_number_of_pairs_is_bounded(name, players):
    strengths = [float((7 * i + 3) % 17) for i in range(players)]
    found, rounds = run(TOPOLOGIES[name], strengths)
    most = {"anchor": players - 1, "round_robin": players * (players - 1) // 2, "single_elimination": 2 * (players - 1)}
    most["double_elimination"] = 2 * (players - 1)
    most["swiss"] = players // 2 * (players - 1).bit_length()
    assert sum(map(len, rounds)) == most[name]
    assert len(found) == players and all(0 <= q <= 1 for q in found)
    if players > 1:
        assert found[strengths.index(max(strengths))] == 1
        assert min(found) == 0 or name == "swiss", "the last ones of equal points share their places"


def test_groups_of_unequal_size_share_their_rounds():
    sizes, rounds = [4, 1, 2], []

    def judged(matches):
        rounds.append(matches)
        return [(float(i), float(j)) for _, i, j in matches]

    found = played([single_elimination(n) for n in sizes], judged)
    assert [len(one) for one in found] == sizes and found[2] == [0, 1] and found[1] == [0]
    assert [sorted({k for k, _, _ in one}) for one in rounds] == [[0, 2], [0, 2], [0]]
