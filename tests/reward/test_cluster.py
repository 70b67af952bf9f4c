"""Clusters of equal answers: what counts as equal, and that the gold answer plays no part."""

import pytest

from rlpost.reward.cluster import answer_cluster, answer_id
from tests.reward.rows import rollout


@pytest.mark.parametrize(
    ("text", "kind", "wanted"),
    [
        ("so it is 1,000.50", "number", "1000.5"),
        ("<answer>x = 7.0</answer>", "number", "7"),
        ("\\boxed{x + 1}", "number", "x + 1"),
        ("\\boxed{ X + 1. }", "number", "x + 1"),
        ("\\boxed{x - 1}", "number", "x - 1"),
        ("\\boxed{-7.0}", "number", "-7"),
        ("\\boxed{7 apples}", "number", "7"),
        ("no number", "number", None),
        ("\\boxed{}", "number", None),
        ("1 2 3 4 5 6 7 8 9", "number", None),
        ("first\nThe Cat. ", "text", "the cat"),
        ("", "text", None),
    ],
)
def test_names_of_answers(text, kind, wanted):
    for gold in ("3", "dog", None):
        assert answer_id(rollout(text, gold), kind=kind, extract="final", max_numbers=8) == wanted


def test_clusters_are_numbered_per_group_as_they_come():
    rows = [rollout(text) for text in ("7", "none", "8", "it is 7.0", "nothing", "8")]
    rows.insert(2, rollout("8", group="b"))
    assert answer_cluster(rows) == [0, 1, 0, 2, 0, 3, 2]
    assert answer_cluster(rows, kind="text") == [0, 1, 0, 2, 3, 4, 2]
    assert answer_cluster(rows, extract="marked") == [0, 1, 0, 2, 3, 4, 5], "none of them marks an answer but one"
    assert answer_cluster([rollout("1 2 3"), rollout("2 3")], max_numbers=2) == [0, 1]
    assert answer_cluster([]) == []
