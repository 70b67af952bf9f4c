"""The masked and grouped statistics, on uneven groups, holes, NaN and nothing at all."""

import math
import statistics as st

import pytest
import torch
from hypothesis import given

from rlpost import masked as m
from tests.strategies import seeds

NAN = float("nan")
V = torch.tensor([1.0, 5.0, 2.0, NAN, 6.0, 3.0], dtype=torch.float64)
GROUP = torch.tensor([9, 4, 9, 4, 9, 1])


def close(found, wanted):
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=found.dtype), rtol=1e-9, atol=1e-12)


def test_masked():
    values, mask = torch.tensor([[1.0, 2.0, NAN], [4.0, NAN, NAN]]), torch.tensor([[1, 1, 0], [0, 0, 0]]).bool()
    assert m.masked_mean(values, mask) == 1.5 and m.masked_mean(values, ~mask & mask) == 0
    assert m.masked_mean(values, torch.tensor([[0, 1, 0], [0, 0, 0]]).bool()) == 2
    single = torch.tensor([[0, 1, 0], [1, 0, 0]]).bool()
    assert m.row_mean(values, single).tolist() == [2, 4]
    assert m.row_sum(values, mask).tolist() == [3, 0] and m.row_mean(values, mask).tolist() == [1.5, 0]


def test_group_statistics():
    close(m.group_count(V, GROUP), [3, 1, 3, 1, 3, 1])
    close(m.group_sum(V, GROUP), [9, 5, 9, 5, 9, 3])
    close(m.group_mean(V, GROUP), [3, 5, 3, 5, 3, 3])
    # sample variance of 1, 2, 6 is (4 + 1 + 9) / 2; a group of one value has none
    close(m.group_std(V, GROUP), [7**0.5, 0, 7**0.5, 0, 7**0.5, 0])
    close(m.group_std(V, GROUP, ddof=0), [(14 / 3) ** 0.5, 0, (14 / 3) ** 0.5, 0, (14 / 3) ** 0.5, 0])
    close(m.leave_one_out_mean(V, GROUP), [4, 0, 3.5, 5, 1.5, 0])
    assert m.dense(GROUP).tolist() == [2, 1, 2, 1, 2, 0]


def test_group_logmeanexp():
    # log((e + e^2 + e^6) / 3) in group 9; a single value is itself
    lme = math.log((math.e + math.e**2 + math.e**6) / 3)
    close(m.group_logmeanexp(V, GROUP), [lme, 5, lme, 5, lme, 3])
    large = torch.tensor([900.0, 900.0, -900.0, NAN, NAN], dtype=torch.float64).requires_grad_()
    found = m.group_logmeanexp(large, torch.tensor([0, 0, 1, 1, 2]))
    close(found, [900, 900, -900, -900, 0])
    # the gradient is the softmax over the group: a half each, then 1 (counted once per row that reads it), and no NaN
    close(torch.autograd.grad(found[0] + found[2] + found[4], large)[0], [0.5, 0.5, 1, 0, 0])
    assert m.group_logmeanexp(torch.zeros(0), torch.zeros(0, dtype=torch.long)).shape == (0,)


def test_batch_statistics():
    assert m.batch_mean(V).item() == pytest.approx(17 / 5)
    assert m.batch_std(V).item() == pytest.approx(st.stdev([1, 5, 2, 6, 3]))
    for empty in (torch.zeros(0), torch.tensor([NAN, NAN])):
        assert m.batch_mean(empty) == 0 and m.batch_std(empty) == 0
    assert m.batch_std(torch.tensor([3.0, NAN])) == 0


@given(seed=seeds)
def test_groups_equal_loops(seed):
    rng = torch.Generator().manual_seed(seed)
    values, group = torch.randn(9, generator=rng, dtype=torch.float64), torch.randint(0, 4, (9,), generator=rng)
    rows = [[values[j].item() for j in range(9) if group[j] == group[i]] for i in range(9)]
    close(m.group_mean(values, group), [st.mean(r) for r in rows])
    close(m.group_std(values, group), [st.stdev(r) if len(r) > 1 else 0.0 for r in rows])


def test_groups_within_groups():
    """Equal where both ids are; the greatest value of a group leaves NaN out."""
    found = m.together(torch.tensor([5, 5, 9, 9, 5]), torch.tensor([0, 1, 0, 0, 0]))
    assert found.tolist() == [0, 1, 2, 2, 0]
    close(m.group_max(V, GROUP), [6.0, 5.0, 6.0, 5.0, 6.0, 3.0])
    assert m.group_max(torch.tensor([NAN, -2.0]), torch.tensor([0, 1])).tolist() == [0.0, -2.0]
