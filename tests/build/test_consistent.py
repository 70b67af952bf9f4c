"""Rankings by two models, how far they agree, and the pairs that follow."""

import math

import pytest

from rlpost.build.consistent import kendall, ranks, self_ranked, spearman, top_order
from tests.build.rows import Logp, said


class Model(Logp):
    """A second model that knows its own name."""

    def __init__(self, identity, table):
        super().__init__(table)
        self.identity = identity


def test_ranks_and_their_agreement():
    assert ranks([0.2, 0.9, 0.2, 0.5]) == [2, 0, 3, 1]
    one, two = [0, 1, 2, 3], [1, 0, 2, 3]
    # one of six pairs is turned; rho = 1 - 6 * 2 / (4 * 15) = .8
    assert kendall(one, two) == pytest.approx(5 / 6) and spearman(one, two) == pytest.approx(0.9)
    assert top_order(one, two) == 0 and top_order(one, [0, 2, 1, 3]) == 1
    for measure in (kendall, spearman, top_order):
        assert measure(one, one) == 1 and measure(one, one[::-1]) == pytest.approx(0)


ROWS = [said(q, q + str(i)) for q in "xy" for i in range(3)] + [said("x", "x0"), said("z", "alone"), said("x", "")]
START = dict.fromkeys([row.text for row in ROWS], -4.0)
MODELS = {
    "current": Model("b", {**START, "x0": -1.0, "x1": -2.0, "x2": -3.0, "y0": -3.0, "y1": -2.0, "y2": -1.0}),
    "previous": Model("a", {**START, "x0": -1.0, "x1": -2.0, "x2": -3.0, "y0": -1.0, "y1": -2.0, "y2": -3.0}),
    "start": Model("0", START),
}


def shown(rows):
    return [(row.columns["chosen"], row.columns["rejected"], row.columns["consistency"]) for row in rows]


def test_the_current_model_decides_and_the_previous_one_is_asked():
    """On x both rank alike, on y the other way round: C is 1 and 0, and 1/2 over the set."""
    assert shown(self_ranked(ROWS, MODELS)) == [("x0", "x2", 0.5), ("y2", "y0", 0.5)]
    for measure in ("kendall", "spearman", "top_order"):
        assert shown(self_ranked(ROWS, MODELS, level="prompt", measure=measure)) == [("x0", "x2", 1), ("y2", "y0", 0)]


def test_the_likings_are_ratios_to_the_start():
    """The start likes x0 by 2.5 more, so that only the ratio, -1 + 1.5 against -2 + 4, puts x1 first."""
    models = {**MODELS, "start": Model("0", {**START, "x0": -1.5})}
    assert shown(self_ranked(ROWS[:3], models))[0][:2] == ("x1", "x0")
    assert shown(self_ranked(ROWS[:3], models, start_role=None))[0][:2] == ("x0", "x2")


def test_a_model_that_is_the_start_ranks_by_its_own_probability():
    models = {**MODELS, "previous": Model("0", {**START, "x0": -1.0, "x1": -2.0, "x2": -3.0})}
    assert shown(self_ranked(ROWS[:3], models)) == [("x0", "x2", 1.0)]


def test_a_rank_that_is_no_number_drops_the_prompt():
    models = {**MODELS, "previous": Model("a", {**MODELS["previous"].table, "y1": math.nan})}
    assert shown(self_ranked(ROWS, models)) == [("x0", "x2", 1.0)]
