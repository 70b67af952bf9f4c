"""The means as weights: numbers by hand, invariance to the cut, reductions."""

import pytest
import torch
from hypothesis import given

from rlpost.aggregate.means import fixed_length, local_token_mean, row_mean, token_mean
from rlpost.types import Counts
from tests.strategies import ragged, seeds

MASK = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]).bool()
COUNTS = Counts(rows=5, tokens=10, groups=2, micro_batches=4)  # the step holds more than these three rows


@pytest.mark.parametrize(
    ("mean", "first", "last"),
    [
        (row_mean, 1 / 15, 1 / 5),
        (token_mean, 1 / 10, 1 / 10),
        (lambda m, c: fixed_length(m, c, max_tokens=8), 1 / 40, 1 / 40),
        (local_token_mean, 1 / 16, 1 / 16),
    ],
    ids=["row_mean", "token_mean", "fixed_length", "local_token_mean"],
)
def test_weights(mean, first, last):
    wanted = torch.tensor([[first, first, 0, first], [0, 0, 0, 0], [last, 0, 0, 0]])
    torch.testing.assert_close(mean(MASK, COUNTS), wanted)


@given(seed=seeds)
def test_reductions_and_cuts(seed):
    mask = ragged(6, 5, seed)
    value = torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))
    counts = Counts(rows=6, tokens=int(mask.sum()), groups=3)
    torch.testing.assert_close(local_token_mean(mask, counts), token_mean(mask, counts))
    torch.testing.assert_close((token_mean(mask, counts) * value).sum(), value[mask].mean())
    rows = torch.stack([v[m].mean() for v, m in zip(value, mask, strict=True)])
    torch.testing.assert_close((row_mean(mask, counts) * value).sum(), rows.mean())
    for mean in (row_mean, token_mean):
        torch.testing.assert_close(torch.cat([mean(mask[:1], counts), mean(mask[1:], counts)]), mean(mask, counts))
    full = torch.ones(6, 5, dtype=torch.bool)
    whole = Counts(rows=6, tokens=30, groups=3)
    torch.testing.assert_close(row_mean(full, whole), token_mean(full, whole))
    torch.testing.assert_close(row_mean(full, whole), fixed_length(full, whole, max_tokens=5))


def test_a_step_of_one_token():
    one, counts = torch.ones(1, 1, dtype=torch.bool), Counts(rows=1, tokens=1, groups=1)
    for mean in (row_mean, token_mean, local_token_mean):
        assert mean(one, counts).item() == 1
    assert fixed_length(one, counts, max_tokens=4).item() == 0.25


def test_empty_steps_weigh_nothing():
    empty, none = torch.zeros(2, 3, dtype=torch.bool), Counts(rows=0, tokens=0, groups=0, micro_batches=0)
    for mean in (row_mean, token_mean, local_token_mean):
        assert mean(empty, none).eq(0).all()
