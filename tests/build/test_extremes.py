"""Best against worst, and the length penalty on the score."""

from rlpost.build.extremes import best_and_worst
from tests.build.rows import said

ROWS = [
    said("q", "long and good", 0.9, length=50),
    said("q", "middling", 0.5, length=10),
    said("q", "short and good", 0.8, length=5),
    said("q", "", -9.0),
    said("q", "unscored", None),
    said("q", "the other arm", 9.0, role="contrast"),
    said("r", "same", 1.0),
    said("r", "same", 0.0),
    said("s", "a", 0.30),
    said("s", "b", 0.25),
]


def shown(rows):
    return [(row.id, row.columns["chosen"], row.columns["rejected"], round(row.columns["margin"], 6)) for row in rows]


def test_the_widest_pair_of_each_prompt():
    assert shown(best_and_worst(ROWS)) == [("q", "long and good", "middling", 0.4), ("s", "a", "b", 0.05)]
    assert shown(best_and_worst(ROWS, min_gap=0.1)) == [("q", "long and good", "middling", 0.4)]


def test_length_costs():
    """.9 - .01 * 50 = .4, .5 - .1 = .4, .8 - .05 = .75: the short one leads, of two equal ones the first is last."""
    rows = best_and_worst(ROWS[:3], length_penalty=0.01)
    assert shown(rows) == [("q", "short and good", "long and good", 0.35)]
    assert round(rows[0].columns["chosen_reward"], 6) == 0.75 and round(rows[0].columns["rejected_reward"], 6) == 0.4


def test_a_named_reward():
    rows = [said("q", "a", 1.0, other=0.0), said("q", "b", 0.0, other=2.0)]
    assert shown(best_and_worst(rows, reward="other")) == [("q", "b", "a", 2.0)]
