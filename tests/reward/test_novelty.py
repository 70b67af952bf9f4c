"""Bonuses for seldom answers: what counts as the same answer, how counts grow, and the baselines."""

import math

import pytest

from rlpost.reward.novelty import AnswerUcb, AnswerUcbMean, answer_of, answer_repeats
from tests.reward.rows import rollout


def rows(*texts, answer="19", group="a"):
    return [rollout(text, answer, group=group) for text in texts]


@pytest.mark.parametrize(
    ("text", "answer", "wanted"),
    [
        ("so it is 1,000.50", "3", "1000.5"),
        ("1000.5", "3", "1000.5"),
        ("-0007", "3", "-7"),
        ("20", "3", "20"),
        ("<answer> 7 </answer>", "3", "7"),
        ("<answer>seven</answer>", "3", None),
        ("no number", "3", None),
        ("", "3", None),
        ("The Cat. ", "dog", "the cat"),
        ("...", "dog", None),
        ("7", None, "7"),
    ],
)
def test_equal_answers_have_equal_names(text, answer, wanted):
    assert answer_of(rollout(text, answer), extract="final", max_numbers=8) == wanted


def test_the_bonus_falls_with_the_root_of_the_count_and_turns_negative_past_four():
    ucb = AnswerUcb()
    found = []
    for _ in range(6):
        found.append(ucb(rows("19", "it is 19.0", "none")))
        ucb.observe(rows("19"))
    wanted = [0.5, 0.5, 1 / math.sqrt(2) - 0.5, 1 / math.sqrt(3) - 0.5, 0.0, 1 / math.sqrt(5) - 0.5]
    assert [one[0] for one in found] == pytest.approx(wanted) and wanted[-1] < 0
    assert all(one[0] == one[1] and one[2] == 0 for one in found)
    assert AnswerUcb(baseline=0.0)(rows("19")) == [1.0]


def test_counts_are_per_task_and_of_earlier_steps():
    ucb = AnswerUcb(baseline=0.0)
    assert ucb(rows("7", "7", "7")) == [1.0] * 3, "a step's own completions do not count"
    ucb.observe(rows("7", "7", "7", "7", "8", "nothing"))
    assert ucb(rows("7", "8", "9")) == [0.5, 1.0, 1.0]
    other = rollout("7", "19")
    object.__setattr__(other.task, "id", "t2")
    assert ucb([other]) == [1.0]
    assert ucb.state_dict() == {"seen": {"t1": {"7": 4, "8": 1}}}


def test_a_restart_continues_the_counts():
    for one, two in ((AnswerUcb(), AnswerUcb()), (AnswerUcbMean(), AnswerUcbMean())):
        one.observe(rows("7", "7", "8"))
        two.load_state_dict(one.state_dict())
        for ucb in (one, two):
            ucb.observe(rows("7"))
        assert one(rows("7", "9")) == two(rows("7", "9")) and two.state_dict() == {"seen": {"t1": {"7": 3, "8": 1}}}


def test_the_mean_of_the_others_is_the_baseline():
    ucb = AnswerUcbMean()
    ucb.observe(rows("7", "7", "7", "7"))
    given = [*rows("7", "8", "7", "nothing"), *rows("9", group="b")]
    # .5, 1, .5 among the answers of group a; row 3 has none; group b has one answer
    assert ucb(given) == pytest.approx([0.5 - 0.75, 1 - 0.5, 0.5 - 0.75, 0, 0])
    assert sum(ucb(given)) == pytest.approx(0), "a baseline moves no mean"


def test_repeats_within_the_group():
    assert answer_repeats(rows("7", "7.0", "7", "7")) == pytest.approx([-0.75] * 4), "all equal: -(G - 1)/G"
    assert answer_repeats(rows("7", "8", "9")) == [0, 0, 0]
    given = [*rows("7", "8", "7", "none", "none"), *rows("7", group="b")]
    assert answer_repeats(given) == pytest.approx([-0.2, 0, -0.2, 0, 0, 0])
