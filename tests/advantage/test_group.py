"""Group estimators against hand-derived numbers and an independent loop over groups."""

import statistics as st

import pytest
import torch
from hypothesis import given

from rlpost.advantage import group as g
from rlpost.advantage.total import add_to_total, weighted_sum
from tests.strategies import seeds

NAN = float("nan")
IDS = torch.tensor([7, 2, 7, 2, 7])  # groups interleaved and of unequal size
R = torch.tensor([[1.0], [5.0], [2.0], [1.0], [6.0]], dtype=torch.float64)
ONE = torch.ones(1, dtype=torch.float64)


def close(found, wanted):
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=found.dtype), rtol=1e-9, atol=1e-9)


def test_group_zscore():
    # group 7: 1, 2, 6: mean 3, sample variance (4 + 1 + 9)/2 = 7; group 2: 5, 1: mean 3, variance 8
    s7, s2 = 7**0.5 + 1e-4, 8**0.5 + 1e-4
    close(g.group_zscore(R, ONE, IDS), [-2 / s7, 2 / s2, -1 / s7, -2 / s2, 3 / s7])
    close(
        g.group_zscore(R, ONE, IDS, epsilon=0.5),
        [x / (s + 0.4999) for x, s in zip([-2, 2, -1, -2, 3], [s7, s2, s7, s2, s7], strict=True)],
    )


def test_group_centred_and_leave_one_out():
    close(g.group_centred(R, ONE, IDS), [-2, 2, -1, -2, 3])
    # others of group 7: (2+6)/2 = 4, (1+6)/2 = 3.5, (1+2)/2 = 1.5
    close(g.leave_one_out(R, ONE, IDS), [1 - 4, 5 - 1, 2 - 3.5, 1 - 5, 6 - 1.5])


def test_batch_scaled_divides_by_the_std_of_all_rewards():
    s = st.stdev([1, 5, 2, 1, 6]) + 1e-4
    close(g.batch_scaled(R, ONE, IDS), [-2 / s, 2 / s, -1 / s, -2 / s, 3 / s])


def test_weights_and_columns_that_do_not_apply():
    r = torch.tensor([[1.0, 2.0], [NAN, 4.0], [NAN, NAN], [3.0, NAN]], dtype=torch.float64)
    w = torch.tensor([2.0, 0.5], dtype=torch.float64)
    total = weighted_sum(r, w)
    close(total[[0, 1, 3]], [3.0, 2.0, 6.0])
    assert total[2].isnan()
    ids = torch.zeros(4, dtype=torch.long)
    # the unscored row is left out of the mean 11/3 and gets 0
    close(g.group_centred(r, w, ids), [3 - 11 / 3, 2 - 11 / 3, 0, 6 - 11 / 3])
    close(g.leave_one_out(r, w, ids), [3 - 4, 2 - 4.5, 0, 6 - 2.5])


@pytest.mark.parametrize("name", ["group_zscore", "group_centred", "batch_scaled", "leave_one_out", "gdpo"])
def test_edges(name):
    estimate = getattr(g, name)
    alone = estimate(torch.tensor([[3.0], [1.0], [1.0]]), torch.ones(1), torch.tensor([0, 1, 1]))
    assert alone.tolist() == [0, 0, 0]  # a row alone, and a group of equals
    one_scored = estimate(torch.tensor([[3.0], [NAN], [2.0], [1.0]]), torch.ones(1), torch.tensor([0, 0, 1, 1]))
    assert one_scored[:2].tolist() == [0, 0] and one_scored[2] > 0 > one_scored[3]
    assert estimate(torch.full((2, 1), NAN), torch.ones(1), torch.tensor([0, 0])).tolist() == [0, 0]
    assert estimate(torch.zeros(0, 1), torch.ones(1), torch.zeros(0, dtype=torch.long)).shape == (0,)


@given(seed=seeds)
def test_reductions_and_row_order(seed):
    rng = torch.Generator().manual_seed(seed)
    r = torch.randn(9, 2, generator=rng, dtype=torch.float64)
    w, ids = torch.tensor([1.0, 0.3], dtype=torch.float64), torch.tensor([0] * 4 + [1] * 4 + [2])
    torch.testing.assert_close(g.leave_one_out(r, w, ids)[:8], 4 / 3 * g.group_centred(r, w, ids)[:8])
    whole = torch.zeros(9, dtype=torch.long)
    torch.testing.assert_close(g.batch_scaled(r, w, whole), g.group_zscore(r, w, whole))
    order = torch.randperm(9, generator=rng)
    for estimate in (g.group_zscore, g.group_centred, g.batch_scaled, g.leave_one_out, g.gdpo):
        torch.testing.assert_close(estimate(r[order], w, ids[order]), estimate(r, w, ids)[order])


def by_loops(rewards, weights, group, epsilon):
    """GDPO once more, with the statistics module and plain loops."""
    n = len(rewards)
    total = [0.0 if any(x == x for x in row) else None for row in rewards]
    for k, weight in enumerate(weights):
        for name in set(group):
            rows = [i for i in range(n) if group[i] == name and rewards[i][k] == rewards[i][k]]
            values = [rewards[i][k] for i in rows]
            spread = st.stdev(values) if len(values) > 1 else 0.0
            for i in rows:
                total[i] += weight * (rewards[i][k] - st.mean(values)) / (spread + epsilon)
    found = [x for x in total if x is not None]
    return [0.0 if x is None else (x - st.mean(found)) / (st.stdev(found) + epsilon) for x in total]


@given(seed=seeds)
def test_gdpo_equals_loops(seed):
    rng = torch.Generator().manual_seed(seed)
    r = torch.randint(0, 4, (8, 3), generator=rng).double()
    r[torch.rand(8, 3, generator=rng) < 0.2] = NAN
    r[0], group = torch.tensor([1.0, 2.0, 0.5]), [0, 0, 0, 1, 1, 1, 1, 1]
    r[1] = torch.tensor([0.0, 1.0, 3.0])
    weights = [1.0, 0.5, 2.0]
    found = g.gdpo(r, torch.tensor(weights, dtype=torch.float64), torch.tensor(group))
    close(found, by_loops(r.tolist(), weights, group, 1e-4))


def test_gdpo_with_one_reward_is_a_zscore_of_zscores():
    z = g.group_zscore(R, ONE, IDS)
    close(g.gdpo(R, ONE, IDS), ((z - z.mean()) / (z.std() + 1e-4)).tolist())


def test_add_to_total_moves_the_weighted_sum_by_the_amount():
    r = torch.tensor([[1.0, 2.0], [NAN, 4.0], [NAN, NAN]], dtype=torch.float64)
    w, amount = torch.tensor([2.0, 0.5], dtype=torch.float64), torch.tensor([-1.0, 0.25, 3.0], dtype=torch.float64)
    moved = add_to_total(r, w, amount)
    close((weighted_sum(moved, w) - weighted_sum(r, w))[:2], [-1.0, 0.25])
    close(moved[0], [1 - 0.4, 2 - 0.4])
    assert moved[2].isnan().all() and moved[1, 0].isnan()
    # weights that sum to 0 matter only in rows to which both rewards apply, and a sum of 1 is no fault
    balanced = torch.tensor([1.0, -1.0], dtype=torch.float64)
    assert add_to_total(r[1:], balanced, amount[1:])[0, 1].item() == 4 - 0.25
    close(add_to_total(r[:1], torch.tensor([0.25, 0.75], dtype=torch.float64), amount[:1])[0], [0.0, 1.0])
    with pytest.raises(ValueError, match="sum to 0"):
        add_to_total(r, torch.tensor([1.0, -1.0], dtype=torch.float64), amount)
