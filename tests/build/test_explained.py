"""Which explanation is preferred to which attempt."""

from rlpost.build.explained import explained_pairs
from tests.build.rows import said


def explanation(about, text):
    return said(about, text, role="explanation")


ROLLOUTS = [
    said("q", "right", 1.0, graded=0.0),
    said("q", "unjudged", None, graded=None),
    said("q", "", 0.0, graded=0.0),
    said("q", "wrong", 0.5, graded=1.0),
    said("q", "worse", 0.0, graded=1.0),
    explanation("q", "because"),
    explanation("q", "a second one"),
    said("solved", "right", 1.0, graded=1.0),
    explanation("solved", "because"),
    said("same", "because", 0.0, graded=0.0),
    explanation("same", "because"),
    said("bare", "wrong", 0.0, graded=0.0),
    said("other", "from another arm", 0.0, role="contrast", graded=0.0),
    explanation("other", "because"),
]


def pairs(**knobs):
    return [(one.id, one.columns["chosen"], one.columns["rejected"]) for one in explained_pairs(ROLLOUTS, **knobs)]


def test_the_first_explanation_against_the_first_wrong_attempt():
    assert pairs() == [("q", "because", "wrong")]
    assert pairs(threshold=0.5) == [("q", "because", "worse")]
    assert pairs(reward="graded") == [("q", "because", "right")]
    assert pairs(rejected="any") == [("q", "because", "right"), ("solved", "because", "right")]
