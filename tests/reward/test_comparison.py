"""The grades of a judge's verdict, and of what is none."""

import pytest

from rlpost.reward.comparison import FENCE, LEVELS, comparison
from tests.reward.rows import rollout


def judged(reply, gold, levels=6):
    return rollout(reply, str(gold), **{FENCE: "c0de", LEVELS: levels})


def test_every_verdict_against_every_preference():
    """Verdicts 1 to 6 are D = 3, 2, 1, -1, -2, -3."""
    signs = {1: 3, 2: 2, 3: 1, 4: -1, 5: -2, 6: -3}
    for gold in (3, 2, 1, -1, -2, -3):
        found = comparison([judged(f"So.\nVERDICT c0de: {v}", gold) for v in signs])
        assert found == [1.0 if d == gold else 0.5 if d * gold > 0 else 0.0 for d in signs.values()]
    rows = [judged(f"VERDICT c0de: {v}", 1, levels=2) for v in (1, 2)]
    assert comparison(rows) == [1.0, 0.0], "A or B has one strength"
    assert comparison([judged("VERDICT c0de: 1", 1)], same_sign=0.2) == [0.2]


@pytest.mark.parametrize(
    "reply",
    ["", "1", "VERDICT beef: 3", "VERDICT c0de: 7", "VERDICT c0de: 0", "VERDICT c0de: 3 or 4", "x VERDICT c0de: 3"],
)
def test_what_is_no_verdict_scores_nothing(reply):
    assert comparison([judged(reply, 1)]) == [0.0]


def test_the_last_verdict_counts_and_other_tasks_have_none():
    assert comparison([judged("VERDICT c0de: 6\nNo.\nVERDICT c0de: 3\n", 1)]) == [1.0]
    assert comparison([rollout("VERDICT c0de: 3", "1")]) == [None]
