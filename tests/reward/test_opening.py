"""The form that a completion opens with."""

import pytest

from rlpost.reward.opening import opening
from tests.reward.rows import rollout


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("<ANSWER>4</ANSWER>", 0.0), ("\n <COT>2 + 2</COT><ANSWER>4</ANSWER>", 1.0), ("<CODE>", 2.0),
        ("<LONG_COT>Wait", 3.0), ("4", None), ("So <COT>", None), ("<cot>", None), ("", None),
    ],
)  # fmt: skip
def test_the_papers_formats(text, number):
    assert opening([rollout(text)]) == [number]


def test_the_longest_of_tags_that_begin_alike():
    assert opening([rollout("## plan"), rollout("# plan")], tags=["#", "##"]) == [1.0, 0.0]
