"""Lifters keep order, knobs and names, and refuse a wrong number of scores."""

import pytest

from rlpost.fields import reads
from rlpost.lift import group_rows, per_group, per_rollout
from rlpost.types import Prompt, Rollout, Task


def rollout(group: str, text: str) -> Rollout:
    return Rollout(Task(group, []), group, Prompt([]), [1], [True], [0.0], text, "eos")


ROWS = [rollout("b", "one"), rollout("a", "three"), rollout("b", "fourteen"), rollout("c", ""), rollout("a", "xx")]


@per_rollout
def length(rollout: Rollout, *, factor: float = 1.0) -> float | None:
    """Length of the text."""
    return factor * len(rollout.text) if rollout.text else None


@per_group
def rank(rollouts, *, start: int = 0):
    """Place of each text by length within its group."""
    order = sorted(range(len(rollouts)), key=lambda i: len(rollouts[i].text))
    return (start + order.index(i) for i in range(len(rollouts)))


def test_a_reward_of_one_rollout_becomes_a_reward_of_all():
    assert length(ROWS) == [3.0, 5.0, 8.0, None, 2.0]
    assert length(ROWS, factor=2.0) == [6.0, 10.0, 16.0, None, 4.0]
    assert length([]) == [] and length.__doc__ == "Length of the text." and reads(length) == ("rollout",)


def test_a_reward_of_a_group_keeps_the_order_of_interleaved_rows():
    assert rank(ROWS) == [0, 1, 1, 0, 0]
    assert rank(ROWS, start=10) == [10, 11, 11, 10, 10]
    assert rank([]) == [] and rank.__name__ == "rank"


@pytest.mark.parametrize("scores", [[1.0], [1.0, 2.0, 3.0], []])
def test_a_wrong_number_of_scores_names_the_reward(scores):
    @per_group
    def broken(rollouts):
        return scores

    with pytest.raises(ValueError, match=f"broken returned {len(scores)} scores for a group of 2 rollouts"):
        broken([rollout("a", "x"), rollout("a", "y")])


def test_groups_are_listed_by_first_appearance():
    assert group_rows(ROWS) == {"b": [0, 2], "a": [1, 4], "c": [3]}
    assert list(group_rows(ROWS)) == ["b", "a", "c"]
