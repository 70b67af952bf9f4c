"""The form of a completion."""

import pytest

from rlpost.reward.format import matches
from tests.reward.rows import rollout


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("<think>a\nb</think>\n<answer>c</answer>", 1.0),
        ("<think></think><answer>c</answer>\n", 1.0),
        ("", 0.0),
        ("<think>a</think><answer></answer>", 0.0),
        ("<answer>c</answer>", 0.0),
        ("<answer>c</answer><think>a</think>", 0.0),
        ("well <think>a</think><answer>c</answer>", 0.0),
        ("<think>a</think><answer>c</answer> and more", 0.0),
        ("<think>a</think><answer>c</answer><answer>d</answer>", 0.0),  # answers cannot be collected
        ("<think>a</think><think>b</think><answer>c</answer>", 0.0),
        ("<think>a <answer>b</answer></think><answer>c</answer>", 0.0),
    ],
)
def test_thoughts_then_one_answer(text, score):
    assert matches([rollout(text)]) == [score]


def test_own_pattern():
    rows = [rollout("7\n8"), rollout("x 7 y"), rollout("x")]
    assert matches(rows, pattern=r"\d.\d") == [1.0, 0.0, 0.0]
    assert matches(rows, pattern=r"\d", where="anywhere") == [1.0, 1.0, 0.0]
    with pytest.raises(ValueError, match="no regular expression"):
        matches(rows, pattern="(")
