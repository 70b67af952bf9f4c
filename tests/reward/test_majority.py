"""The group's majority as a label: ties, groups, and completions without an answer."""

import pytest

from rlpost.reward.majority import majority_vote
from tests.reward.rows import rollout


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        (["7", "8", "it is 7.0", "9"], [1, 0, 1, 0]),
        (["8", "7", "7", "8"], [1, 0, 0, 1]),
        (["1", "2", "3"], [1, 0, 0]),
        (["none", "7", "nothing"], [0, 0, 0]),
        (["7", "none", "nothing", "7"], [1, 0, 0, 1]),
        (["none", "7"], [0, 0]),
        (["", ""], [0, 0]),
        (["4"], [1]),
    ],
)
def test_the_majority_counts_whatever_is_right(answers, wanted):
    for gold in ("8", None):
        assert majority_vote([rollout(answer, gold) for answer in answers]) == wanted


def test_each_group_votes_alone_and_letters_can():
    given = [rollout(text, "A", group=group) for text, group in zip("ABBAAC", "xyxyyy", strict=True)]
    assert majority_vote(given, kind="text") == [1, 0, 0, 1, 1, 0]
    marked = [rollout("<answer>B</answer>"), rollout("B"), rollout("B")]
    assert majority_vote(marked, extract="marked", kind="text") == [0, 0, 0], "two have no answer then"
    assert majority_vote([rollout("1 2"), rollout("3"), rollout("2 2")], max_numbers=1) == [0, 0, 0]
    assert majority_vote([]) == []
