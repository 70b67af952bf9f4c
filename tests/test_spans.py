"""Spans as tables: their sizes and ends, what a token takes from its own, and what a row earned as a whole."""

import math

import pytest
import torch

from rlpost import spans
from rlpost.errors import RewardError
from tests.test_stack import rollout

SPAN = torch.tensor([[0, 0, 1, 1, 2], [-1, 0, -1, 0, 1], [0, 1, -1, -1, -1]])
MASK = torch.tensor([[1, 1, 1, 0, 1], [1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]).bool()


def test_sizes_count_only_tokens_that_train():
    assert spans.sizes(SPAN, MASK, 3).tolist() == [[2, 1, 1], [2, 0, 0], [1, 1, 0]]
    assert spans.sizes(SPAN, MASK, 1).tolist() == [[2], [2], [1]] and spans.sizes(SPAN, MASK, 0).shape == (3, 0)


def test_the_last_token_of_a_span_is_the_last_that_trains():
    """Row 0: tokens 1, 2 (3 does not train) and 4; row 1: span 0 stands in two pieces and ends at 3."""
    assert spans.last_tokens(SPAN, MASK).int().tolist() == [[0, 1, 1, 0, 1], [0, 0, 0, 1, 0], [1, 1, 0, 0, 0]]
    none = torch.full_like(SPAN, -1)
    assert not spans.last_tokens(none, MASK).any()
    assert spans.last_tokens(SPAN[:, :0], MASK[:, :0]).shape == (3, 0)


def test_a_token_takes_the_value_of_its_own_span():
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    assert spans.spread(values, SPAN, MASK).tolist() == [[1, 1, 2, 0, 3], [0, 4, 0, 4, 0], [7, 8, 0, 0, 0]]
    assert spans.spread(values[:, :1], SPAN, MASK).tolist() == [[1, 1, 0, 0, 0], [0, 4, 0, 4, 0], [7, 0, 0, 0, 0]]
    assert not spans.spread(values[:, :0], SPAN, MASK).any()


def test_a_suffix_sum_includes_its_place():
    assert spans.suffix_sum(torch.tensor([[1.0, 2.0, 4.0], [0.5, 0.0, -1.0]])).tolist() == [[7, 6, 4], [-0.5, -1, -1]]


def test_means_and_weighted_sums_leave_out_what_has_no_score():
    nan = math.nan
    table = torch.tensor([[[1.0, nan], [nan, 2.0], [4.0, nan]], [[nan, nan], [nan, nan], [nan, nan]]])
    torch.testing.assert_close(spans.span_mean(table), torch.tensor([[2.5, 2.0], [nan, nan]]), equal_nan=True)
    found = spans.weighted_spans(table, torch.tensor([2.0, -1.0]))
    torch.testing.assert_close(found, torch.tensor([[2.0, -2.0, 8.0], [nan] * 3]), equal_nan=True)


def test_what_a_row_earned_as_a_whole_excludes_its_spans_and_includes_shaping():
    nan = math.nan
    table = torch.tensor([[[nan, 1.0], [nan, 2.0]], [[nan, 0.5], [nan, nan]], [[nan, nan], [nan, nan]]])
    raw = torch.tensor([[3.0, 1.5], [nan, 0.5], [4.0, nan]])
    plain = torch.tensor([[3.0, nan], [nan, nan], [4.0, nan]])
    torch.testing.assert_close(spans.row_rewards(raw, table), plain, equal_nan=True)
    shaped = raw + torch.tensor([[0.0, 0.0], [0.0, -0.25], [0.0, 0.0]])
    left = torch.tensor([[3.0, 0.0], [nan, -0.25], [4.0, nan]])
    torch.testing.assert_close(spans.row_rewards(shaped, table), left, equal_nan=True)


def test_a_completion_without_marks_is_one_span():
    plain, empty = rollout("t", "all of it"), rollout("t", "")
    empty.tokens = []
    assert (spans.numbers(plain), spans.count(plain), spans.texts(plain)) == ([0, 0], 1, ["all of it"])
    assert (spans.numbers(empty), spans.count(empty), spans.texts(empty)) == ([], 0, [])


def test_marked_spans_need_their_texts():
    marked = rollout("t", "a b")
    marked.span = [0, 1]
    marked.info["spans"] = ["a ", "b"]
    assert spans.count(marked) == 2 and spans.texts(marked) == ["a ", "b"]
    marked.info["spans"] = ["a b"]
    with pytest.raises(RewardError, match="task t: the rollout marks 2 spans without their texts"):
        spans.texts(marked)
