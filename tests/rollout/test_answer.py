"""Which tokens are the answer: spans by the characters that tokens write."""

import pytest

from rlpost.rollout.answer import marked

PIECES = ["<think>", "7+12", "</think>", "<answer", ">1", "9", "</", "answer>", "<stop>", " "]


def decode(tokens):
    """Pieces side by side; stop tokens at the end write nothing, as in Encoder.decode."""
    kept = list(tokens)
    while kept and kept[-1] == 8:
        kept.pop()
    return "".join(PIECES[t] for t in kept)


@pytest.mark.parametrize(
    ("tokens", "wanted"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7, 8], [-1, -1, -1, -1, 0, 0, -1, -1, -1]),  # ">1" writes a part of both
        ([3, 4, 5, 8], [-1, 0, 0, -1]),  # no end tag: all but the stop token
        ([3, 4, 6, 7, 3, 4, 5, 5, 6, 7], [-1] * 5 + [0, 0, 0, -1, -1]),  # the last answer
        ([0, 1, 2, 8], [-1] * 4),
        ([], []),
        ([3], [-1]),
    ],
)
def test_the_tokens_between_the_tags(tokens, wanted):
    assert marked(tokens, decode, start="<answer>", end="</answer>") == wanted


def test_no_start_tag_asked_for_marks_the_whole_text():
    assert marked([1, 5, 8], decode, start="", end="") == [0, 0, -1]
    assert marked([8], decode, start="", end="") == [-1]


def test_an_empty_answer_marks_nothing():
    assert marked([0, 2], decode, start="<think>", end="</think>") == [-1, -1]
