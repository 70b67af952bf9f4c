"""The penalty of repeated n-grams by hand."""

import math
from statistics import fmean

import pytest
import torch

from rlpost.advantage.group import leave_one_out
from rlpost.advantage.repetition import repeated, repetition_discounted


@pytest.mark.parametrize(
    ("tokens", "n", "wanted"),
    [
        ([1, 2, 3, 1, 2, 4], 2, [0, 0, 0, 1, 1, 0]),
        ([1, 2, 3, 1, 2, 3], 2, [0, 0, 0, 1, 1, 1]),
        ([5, 5, 5, 5], 2, [0, 1, 1, 1]),  # the second pair overlaps the first
        ([5, 5, 5, 5], 3, [0, 1, 1, 1]),
        ([1, 2, 1, 3], 1, [0, 0, 1, 0]),
        ([1, 2, 3], 4, [0, 0, 0]),
    ],
)
def test_tokens_of_an_ngram_that_was_there_before(tokens, n, wanted):
    mask = torch.ones(1, len(tokens), dtype=torch.bool)
    assert repeated(torch.tensor([tokens]), mask, n)[0].long().tolist() == wanted


def test_tokens_that_do_not_train_are_not_there():
    tokens = torch.tensor([[1, 9, 2, 1, 2, 9, 1, 2], [1, 2, 7, 7, 7, 7, 7, 7]])
    mask = torch.tensor([[1, 0, 1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]]).bool()
    assert repeated(tokens, mask, 2).long().tolist() == [[0, 0, 0, 1, 1, 0, 0, 0], [0] * 8]


REWARDS, WEIGHTS, GROUP = torch.tensor([[1.0], [0.5], [2.0]]), torch.tensor([2.0]), torch.tensor([3, 3, 8])
TOKENS = torch.tensor([[1, 2, 1, 2, 0], [1, 1, 9, 3, 4], [6, 7, 8, 8, 8]])
MASK = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 1, 1], [1, 1, 1, 0, 0]]).bool()


def test_golden():
    """Pairs: row 0 repeats (1, 2) at places 2 and 3; nothing else. Outcomes 2 - 1, 1 - 2, and 0 alone."""
    # returns with decay 1/2 of -4 each: place 3 -4, place 2 -6, place 1 -3, place 0 -1.5
    credit = [[1 - 1.5, 1 - 3.0, 1 - 6.0, 1 - 4.0], [-1.0] * 4, [0.0] * 3]
    every = [x for row in credit for x in row]
    deviation = math.sqrt(fmean((x - fmean(every)) ** 2 for x in every) + 0.25)
    made = repetition_discounted(
        REWARDS, WEIGHTS, GROUP, TOKENS, MASK, ngram=2, penalty=4.0, decay=0.5, epsilon=0.25
    )  # fmt: skip
    assert made[MASK].tolist() == pytest.approx([(x - fmean(every)) / deviation for x in every], rel=1e-5)
    assert (made[~MASK] == 0).all()


def test_without_decay_only_repeated_tokens_are_blamed():
    made = repetition_discounted(REWARDS, WEIGHTS, GROUP, TOKENS, MASK, ngram=2, penalty=4.0, decay=0.0)
    assert made[0, 0] == made[0, 1] > made[0, 2] == made[0, 3]
    assert made[1, 0] == made[1, 4]


def test_the_decay_passes_over_tokens_that_do_not_train():
    """Row 1 repeats (1, 1) at no place; with single tokens place 1 repeats place 0, and place 0 gets half of it."""
    made = repetition_discounted(REWARDS[:1], WEIGHTS, GROUP[:1], TOKENS[1:2], MASK[1:2], ngram=1, decay=0.5)[0]
    assert (made[1] < made[0] < made[3]) and made[3] == made[4]
    gapped = torch.tensor([[1, 9, 1]]), torch.tensor([[1, 0, 1]]).bool()
    made = repetition_discounted(REWARDS[:1], WEIGHTS, GROUP[:1], *gapped, ngram=1, decay=0.5, penalty=2.0, epsilon=0.0)
    assert made[0].tolist() == pytest.approx([1, 0, -1])  # returns -1 and -2


def test_without_repeats_it_is_leave_one_out_standardised():
    tokens = torch.arange(15).view(3, 5)
    a = leave_one_out(REWARDS, WEIGHTS, GROUP)[:, None].expand(3, 5)
    want = (a[MASK] - a[MASK].mean()) / a[MASK].std(unbiased=False)
    torch.testing.assert_close(repetition_discounted(REWARDS, WEIGHTS, GROUP, tokens, MASK)[MASK], want)
