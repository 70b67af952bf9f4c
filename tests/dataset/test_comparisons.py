"""Preferences as questions: who is A, what is gold, and pairs of one's own."""

import re

import pytest

from rlpost.dataset.comparisons import comparisons
from rlpost.errors import ConfigError, DataError
from rlpost.reward.comparison import FENCE, comparison
from rlpost.reward.pair_judge import difference
from rlpost.types import Prompt, Rollout, Task

SHOWN = re.compile(r"Calculate (\d+) \+ (\d+)\..*<answer A \w+>\n(-?\d+)\n.*<answer B \w+>\n(-?\d+)\n", re.DOTALL)


def test_the_right_sum_is_a_and_b_by_turns_and_the_gold_verdict_scores_full_marks():
    tasks = comparisons("test")[:20]
    assert [task.answer for task in tasks] == ["3", "-3"] * 10
    for task in tasks:
        text = task.prompt[0]["content"]
        x, y, a, b = map(int, SHOWN.search(text).groups())
        assert (x + y == a, x + y == b) == ((True, False) if task.answer == "3" else (False, True))
        fence = task.columns[FENCE]
        replies = [f"So.\nVERDICT {fence}: {v}" for v in ((1, 3, 6) if task.answer == "3" else (6, 4, 1))]
        rows = [Rollout(task, "", Prompt([]), [], [], [], one, "eos") for one in (*replies, text, "")]
        assert comparison(rows) == [1.0, 0.5, 0.0, 0.0, 0.0]
        assert difference(text, fence, 6) is None, "the question holds no verdict"


def rows(*columns):
    return lambda split: [
        Task(f"t{i}", ({"role": "user", "content": "Why?"},), columns=one) for i, one in enumerate(columns)
    ]


def test_pairs_of_ones_own_with_grades():
    own = rows(
        {"chosen": "x", "rejected": "y", "grade": 1},
        {"chosen": "x", "rejected": "y", "grade": 2},
        {"chosen": "v", "rejected": "w"},
    )
    found = comparisons("train", pairs=own)
    assert [task.answer for task in found] == ["1", "-2", "3"] and found[1].tags[-1] == "second"
    assert [task.answer for task in comparisons("train", pairs=own, grade="none", levels=2)] == ["1", "-1", "1"]
    said = comparisons("train", pairs=own, template="{answer_a}|{answer_b}|{criteria}|{levels}|{fence}", criteria="C")
    assert [task.prompt[0]["content"][:9] for task in said] == [
        "x|y|C|6|" + said[0].columns[FENCE][0],
        "y|x|C|6|" + said[1].columns[FENCE][0],
        "v|w|C|6|" + said[2].columns[FENCE][0],
    ]


def test_what_is_no_pair_is_refused():
    for one in ({"chosen": "x"}, {"chosen": "x", "rejected": 3}):
        with pytest.raises(DataError, match="task t0: a comparison needs two texts"):
            comparisons("train", pairs=rows(one))
    for grade in (0, 4, "2", 1.5):
        with pytest.raises(DataError, match="is no whole number from 1 to 3"):
            comparisons("train", pairs=rows({"chosen": "x", "rejected": "y", "grade": grade}))
    with pytest.raises(ConfigError, match="levels=5 must be even"):
        comparisons("train", levels=5)
