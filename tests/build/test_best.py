"""RAFT's two rankings: which completions become demonstrations."""

import random

import pytest

from rlpost.build.best import best_of_batch, best_of_group, longest_right
from rlpost.errors import ConfigError, DataError
from tests.build.rows import Logp, said

ROLLOUTS = [
    said("easy", "a1", 0.9),
    said("easy", "a2", 0.8),
    said("easy", "a3", 0.7),
    said("hard", "b1", 0.1),
    said("hard", "b2", 0.3),
    said("hard", "b3", 0.2),
    said("hard", "other arm", 5.0, role="contrast"),
    said("hard", "  ", 6.0),
    said("hard", "no reward applies", None),
]


def texts(rows):
    return [(row.id, row.demonstration) for row in rows]


def test_local_ranking_takes_one_of_each_prompt():
    assert texts(best_of_group(ROLLOUTS, {}, random.Random(0))) == [("easy", "a1"), ("hard", "b2")]


def test_global_ranking_takes_the_best_of_all():
    """Six scored completions in groups of three: ceil(6/3) = 2, and both are of the easy prompt."""
    assert texts(best_of_batch(ROLLOUTS, {}, random.Random(0))) == [("easy", "a1"), ("easy", "a2")]
    assert texts(best_of_batch(ROLLOUTS, {}, random.Random(0), share=0.5)) == [
        ("easy", "a1"), ("easy", "a2"), ("easy", "a3")
    ]  # fmt: skip
    assert best_of_batch([], {}, random.Random(0)) == []


def test_the_penalty_for_leaving_the_reference_can_turn_the_order():
    """a1: .9 - .1 * (-1 - -5) = .5; a2: .8 - .1 * (-2 - -2) = .8; a3: .7 - .1 * (-3 - -3) = .7."""
    models = {
        "now": Logp({"a1": -1.0, "a2": -2.0, "a3": -3.0}),
        "start": Logp({"a1": -5.0, "a2": -2.0, "a3": -3.0}),
    }
    roles = {"policy_role": "now", "reference_role": "start"}
    assert texts(best_of_group(ROLLOUTS[:3], models, random.Random(0), kl=0.1, **roles)) == [("easy", "a2")]
    assert texts(best_of_group(ROLLOUTS[:3], models, random.Random(0), kl=0.01, **roles)) == [("easy", "a1")]
    with pytest.raises(ConfigError, match=r"build\.policy_role"):
        best_of_group(ROLLOUTS[:3], models, random.Random(0), kl=0.1)


def test_equal_scores_have_no_best():
    rows = [said("q", text, 0.0) for text in "abc"] + [said("r", "d", 1.0), said("r", "e", 0.0)]
    assert texts(best_of_group(rows, {}, random.Random(0), ties="skip")) == [("r", "d")]
    drawn = {best_of_group(rows, {}, random.Random(seed))[0].demonstration for seed in range(20)}
    assert drawn == {"a", "b", "c"}
    first = {best_of_batch(rows[:3], {}, random.Random(seed))[0].demonstration for seed in range(20)}
    assert first == {"a", "b", "c"}


def test_a_named_reward_is_the_score():
    rows = [said("q", "a", 1.0, style=0.0), said("q", "b", 0.0, style=[0.5, None, 1.0])]
    assert texts(best_of_group(rows, {}, random.Random(0), score="style")) == [("q", "b")]
    with pytest.raises(DataError, match="no score 'stile'; they have style"):
        best_of_group(rows, {}, random.Random(0), score="stile")


def test_the_longest_right_completion_of_each_prompt():
    rows = [
        said("easy", "short", 1.0, graded=1.0),
        said("easy", "the longest", 1.0, graded=0.5),
        said("easy", "longer", 1.0, graded=1.0),
        said("easy", "the longest of all, but wrong", 0.0, graded=0.0),
        said("easy", "right but cut at the limit", 1.0, stop="length", graded=1.0),
        said("equal", "aaa", 1.0, graded=1.0),
        said("equal", "bbb", 1.0, graded=1.0),
        said("hard", "wrong", 0.5, graded=0.5),
        said("none", "no reward applies", None, graded=None),
    ]
    assert texts(longest_right(rows)) == [("easy", "the longest"), ("equal", "aaa")]
    assert texts(longest_right(rows, whole=False))[0] == ("easy", "right but cut at the limit")
    assert texts(longest_right(rows, score="graded")) == [("easy", "longer"), ("equal", "aaa")]
    assert texts(longest_right(rows, score="graded", threshold=0.5))[-1] == ("hard", "wrong")
    tokens = [said("t", "few letters", 1.0, length=3), said("t", "many", 1.0, length=9)]
    assert texts(longest_right(tokens)) == [("t", "many")], "length counts tokens"
