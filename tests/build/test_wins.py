"""Win matrices from scores and from a reward that compares."""

import math

import pytest

from rlpost.build.wins import win_matrix, win_pair
from rlpost.errors import DataError
from tests.build.rows import said


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_scores_become_a_matrix():
    rows = [said("q", "a", 0.0), said("q", "b", 1.0), said("q", "c", 3.0), said("q", " ", 7.0)]
    (one,) = win_matrix(rows)
    # c against a, b and itself; a against itself, b and c
    assert (one.columns["chosen"], one.columns["rejected"]) == ("c", "a")
    assert one.columns["chosen_win"] == pytest.approx((sigmoid(3) + sigmoid(2) + 0.5) / 3, abs=1e-12)
    assert one.columns["rejected_win"] == pytest.approx((0.5 + sigmoid(-1) + sigmoid(-3)) / 3, abs=1e-12)
    (single,) = win_pair(rows, slope=0.5)
    assert single.columns["chosen_win"] == pytest.approx(sigmoid(1.5), abs=1e-12)
    assert single.columns["rejected_win"] == pytest.approx(sigmoid(-1.5), abs=1e-12)


def test_a_comparing_reward_gives_the_matrix_itself():
    """Not transitive: a beats b by 2, b beats c by 1, c beats a by 1; the empty second answer is left out."""
    table = {"a": [0, 5, 2, -1], "": [-5, 0, -5, -5], "b": [-2, 5, 0, 1], "c": [1, 5, -1, 0]}
    rows = [said("q", text, 0.0, pair=numbers) for text, numbers in table.items()]
    (one,) = win_matrix(rows, reward="pair")
    assert (one.columns["chosen"], one.columns["rejected"]) == ("a", "b")
    assert one.columns["chosen_win"] == pytest.approx((0.5 + sigmoid(2) + sigmoid(-1)) / 3, abs=1e-12)
    assert one.columns["rejected_win"] == pytest.approx((sigmoid(-2) + 0.5 + sigmoid(1)) / 3, abs=1e-12)
    spans = [said("q", "a", 0.0, pair=[1.0, 2.0, 3.0]), said("q", "b", 0.0, pair=[1.0, 2.0])]
    with pytest.raises(DataError, match="not against each of its 2 answers"):
        win_matrix(spans, reward="pair")


def test_nothing_is_said_where_all_win_alike():
    assert win_matrix([said("q", "a", 1.0), said("q", "b", 1.0)]) == []
    assert win_pair([said("q", "a", 1.0), said("q", "a", 0.0)]) == []
    assert win_matrix([said("q", "a", None)]) == []
