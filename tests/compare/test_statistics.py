"""avg@k and pass@k by definition; intervals against enumeration and scipy, and in how often they cover."""

from itertools import combinations, product

import numpy as np
import pytest
import scipy.stats

from rlpost.compare import statistics
from rlpost.errors import ConfigError, DataError
from rlpost.run import tables


def record(**scores):
    return {"scores": scores}


def test_the_first_score_that_applies_counts():
    found = record(a=[1.0, None, None], b=[0.0, 0.25, None])
    assert statistics.counted(found, ["a", "b"]) == [1.0, 0.25]
    assert statistics.counted(found, ["b", "a"]) == [0.0, 0.25]
    assert statistics.counted(found, ["other"]) == []


def test_pass_at_k_is_the_share_of_subsets_with_a_right_one():
    values = [0.5, 1.0, 0.0, 2.0, 0.25]
    for k in (1, 2, 3, 5):
        subsets = list(combinations(values, k))
        share = sum(any(v >= 1.0 for v in subset) for subset in subsets) / len(subsets)
        assert statistics.pass_at_k(values, k, 1.0) == pytest.approx(share, abs=1e-12)
    assert statistics.pass_at_k(values, 1, 0.5) == pytest.approx(3 / 5)
    assert statistics.avg_at_k(values, 2) == 0.75


def test_per_task_leaves_out_what_has_no_score_and_refuses_a_k_that_is_too_large():
    tasks = {"a": record(x=[1.0, 0.0, None]), "b": record(x=[0.0, 0.0, 1.0]), "none": record(x=[None, None, None])}
    assert statistics.fewest(tasks, ["x"]) == 2
    found = statistics.per_task(tasks, ["x"], 1.0, [1, 2])
    # b has one right of three: 1 - C(2,2)/C(3,2)
    assert found == {
        "a": {"avg@1": 1.0, "avg@2": 0.5, "pass@1": 0.5, "pass@2": 1.0},
        "b": {"avg@1": 0.0, "avg@2": 0.0, "pass@1": pytest.approx(1 / 3), "pass@2": pytest.approx(2 / 3)},
    }
    with pytest.raises(ConfigError, match="--k 3 is more than the 2 scored completions"):
        statistics.per_task(tasks, ["x"], 1.0, [3])


def test_an_interval_of_three_tasks_is_that_of_all_27_resamples():
    gains = np.array([0.0, 1.0, 3.0])
    base = np.array([5.0, -2.0, 0.5])  # cancels
    means = sorted(np.mean(draw) for draw in product(gains, repeat=3))
    # The lowest and the highest mean have one resample of 27 each, more than 2.5%.
    assert (means[0], means[-1]) == (0.0, 3.0)
    found = statistics.difference((base + gains)[None], base[None], pair_runs=False)
    assert found == (pytest.approx(4 / 3), pytest.approx(0.0, abs=1e-12), pytest.approx(3.0), 3)
    # Without the pairing both arms are drawn apart: the largest difference is 8 - (-2), the least -1 - 5.
    apart = statistics.unpaired((base + gains)[None], base[None])
    assert apart.low < -2 and apart.high > 4 and apart.mean == found.mean


def test_the_interval_is_scipys_paired_percentile_bootstrap():
    rng = np.random.default_rng(3)
    first = rng.normal(0.3, 1.0, 80)
    second = first * 0.8 + rng.normal(0.0, 0.3, 80)
    other = scipy.stats.bootstrap(
        (first, second),
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        paired=True,
        method="percentile",
        n_resamples=20_000,
        vectorized=True,
        rng=np.random.default_rng(9),
    ).confidence_interval
    ours = statistics.difference(first[None], second[None], pair_runs=False)
    # The standard error of a 2.5% quantile from 10,000 and 20,000 draws of this width: about 0.0012 together.
    assert (ours.low, ours.high) == (pytest.approx(other.low, abs=0.005), pytest.approx(other.high, abs=0.005))
    apart = statistics.unpaired(first[None], second[None])
    assert apart.high - apart.low > 2 * (ours.high - ours.low)
    both = tables.paired(list(second), list(first), n=10_000)
    assert (ours.mean, ours.low) == (pytest.approx(both.mean), pytest.approx(both.low, abs=0.005))


def test_unpaired_is_scipys_bootstrap_of_independent_samples():
    rng = np.random.default_rng(4)
    first, second = rng.normal(0.3, 1.0, 60), rng.normal(0.0, 0.5, 90)
    other = scipy.stats.bootstrap(
        (first, second), lambda x, y, axis: x.mean(axis) - y.mean(axis), method="percentile", n_resamples=20_000,
        vectorized=True, rng=np.random.default_rng(9),
    ).confidence_interval  # fmt: skip
    ours = statistics.unpaired(first[None], second[None])
    # As above, with a width four times as large.
    assert (ours.low, ours.high) == (pytest.approx(other.low, abs=0.015), pytest.approx(other.high, abs=0.015))
    assert ours.n == 150


def test_runs_are_resampled_too_and_pair_by_seed():
    rng = np.random.default_rng(5)
    seeds, tasks = rng.normal(0.0, 1.0, (6, 1)), rng.normal(0.0, 1.0, (1, 200))
    second = seeds + tasks
    first = second + 0.1 + rng.normal(0.0, 0.01, second.shape)
    together = statistics.difference(first, second, pair_runs=True)
    apart = statistics.difference(first, second, pair_runs=False)
    assert together.mean == apart.mean == pytest.approx(0.1, abs=0.005)
    assert together.high - together.low < 0.01
    # What a seed does to both arms does not cancel: the standard deviation of two means over six seeds.
    spread = np.sqrt(2 * seeds.var() / 6)
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(300):
        second = rng.random(60)
        first = second + rng.normal(0.2, 0.5, 60)
        found = statistics.difference(first[None], second[None], pair_runs=False, n=500, seed=trial)
        hits += found.low <= 0.2 <= found.high
    # 95% of 300 is 285, and the standard deviation of the count 3.8; percentile intervals are a little narrow.
    assert 270 <= hits <= 297


def test_equal_seeds_give_equal_intervals_and_no_task_gives_none():
    values = np.arange(12.0).reshape(1, 12)
    assert statistics.mean(values) == statistics.mean(values)
    assert statistics.mean(values).mean == 5.5
    with pytest.raises(DataError, match="no task"):
        statistics.difference(np.zeros((1, 0)), np.zeros((1, 0)), pair_runs=False)
