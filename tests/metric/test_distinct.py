"""Different answers, counted by hand."""

from dataclasses import replace

import pytest

from rlpost.errors import RewardError
from rlpost.metric.distinct import distinct_answers
from tests.reward.rows import rollout


def said(name, text, score, role="policy"):
    row = rollout(text, "7")
    return replace(row, task=replace(row.task, id=name), scores={"correct": score, "other": 1.0}, role=role)


ROWS = [
    said("solved", "It is 7", 1.0), said("solved", "7.0", 1.0), said("solved", "8", 0.0),
    said("not", "1", 0.0), said("not", "2", None), said("not", "nothing", 0.0), said("not", "", 0.0),
    said("not", "9", 1.0, role="contrast"),
]  # fmt: skip


def test_answers_of_solved_and_unsolved_prompts():
    found = distinct_answers(ROWS)
    assert found == {"distinct_answers": 2.5, "distinct_answers_solved": 2, "distinct_answers_unsolved": 3}
    assert distinct_answers(ROWS[:3]) == {"distinct_answers": 2, "distinct_answers_solved": 2}
    assert "distinct_answers_unsolved" not in distinct_answers(ROWS, score="other")
    assert distinct_answers(ROWS[:3], threshold=2.0) == {"distinct_answers": 2, "distinct_answers_unsolved": 2}
    with pytest.raises(RewardError, match="no completions of the policy"):
        distinct_answers(ROWS[-1:])
