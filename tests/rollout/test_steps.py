"""Where spans begin and end: at the token that completes a match, never around blanks alone."""

import re

import pytest

from rlpost import spans
from rlpost.errors import ConfigError
from rlpost.rollout.engine import Completion
from rlpost.rollout.steps import cut, steps, windows
from tests.rollout.test_context import ENCODER, TASKS, context

BLANK = re.compile(r"\n\n+")


@pytest.mark.parametrize(
    ("pieces", "numbers", "texts"),
    [
        (["First", ".\n\n", "Then", " 3", "\n", "\n", "So", " 4", ""], [0, 0, 1, 1, 1, 1, 2, 2, 2],
         ["First.\n\n", "Then 3\n\n", "So 4"]),
        (["one", " step", ""], [0, 0, 0], ["one step"]),  # no separator: one span
        (["\n\n", "late", "\n\n", "\n", "end"], [0, 0, 0, 0, 1], ["\n\nlate\n\n\n", "end"]),  # leading and greedy
        (["a", "\n\n", "b", "\n\n", " ", ""], [0, 0, 1, 1, 1, 1], ["a\n\n", "b\n\n "]),  # nothing but blanks follow
        (["a\n\nb", "c", "\n\nd", "e"], [0, 1, 1, 2], ["a\n\nb", "c\n\nd", "e"]),  # a token over the border
        (["\n\n", ""], [0, 0], ["\n\n"]),
        ([], [], []),
    ],
)  # fmt: skip
def test_a_span_ends_with_the_token_that_completes_a_match(pieces, numbers, texts):
    assert cut(pieces, BLANK) == (numbers, texts)


def test_sentences_end_at_a_full_stop_that_blanks_follow():
    found = cut(["Pi", " is", " 3", ".", "14", ".", " Is", " it", "?", " Yes"], re.compile(r"[.!?](?=\s)"))
    assert found == ([0, 0, 0, 0, 0, 0, 1, 1, 1, 2], ["Pi is 3.14.", " Is it?", " Yes"])


def engine(text):
    """Every completion is this text and a stop token, in the tiny model's own tokens."""
    tokens = [*ENCODER.tokenizer(text, add_special_tokens=False)["input_ids"], ENCODER.stop_ids[0]]
    return lambda prompts, n, how: [Completion(tokens, [-1.0] * len(tokens), "eos") for _ in range(n * len(prompts))]


def test_rows_have_their_spans_and_the_texts_of_them():
    rows = steps(TASKS[:2], context(engine("Add.\n\nIt is 12.\n\n7")))
    assert len(rows) == 8 and len({r.group for r in rows}) == 2
    for row in rows:
        assert row.info["spans"] == ["Add.\n\n", "It is 12.\n\n", "7"] == spans.texts(row)
        assert len(row.span) == len(row.tokens) and row.span == sorted(row.span) and row.span[-1] == 2
        assert ENCODER.decode([t for t, s in zip(row.tokens, row.span, strict=True) if s == 1]) == "It is 12.\n\n"


def test_windows_count_tokens():
    row = windows(TASKS[:1], context(engine("Add.\n\nIt is 12.\n\n7")), length=4)[0]
    assert row.span == [place // 4 for place in range(len(row.tokens))]
    assert "".join(row.info["spans"]) == row.text and len(row.info["spans"]) == spans.count(row) > 2


def test_knobs_that_make_no_spans_are_refused():
    with pytest.raises(ConfigError, match=r"rollout\.length=0"):
        windows(TASKS[:1], context(engine("x")), length=0)
    with pytest.raises(ConfigError, match=r"rollout.end='\('.*no regular expression"):
        steps(TASKS[:1], context(engine("x")), end="(")
