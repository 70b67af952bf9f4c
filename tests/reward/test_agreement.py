"""Agreement in a group as a reward: the sheet's cases, thresholds in nats, and rows without an answer."""

import math

import pytest

from rlpost.errors import ConfigError
from rlpost.reward.agreement import cluster_probability
from tests.reward.rows import rollout


def rows(answers, group="a", answer="c"):
    return [rollout(one, answer, group=group) for one in answers]


def test_shares_of_three_clusters_and_of_none():
    assert cluster_probability(rows("aaabbc"), kind="text") == pytest.approx([1 / 2] * 3 + [1 / 3] * 2 + [1 / 6])
    assert cluster_probability(rows("abcdef"), kind="text") == [0] * 6, "all different: no agreement at all"
    assert cluster_probability(rows("aaaaa"), kind="text") == [1] * 5
    assert cluster_probability(rows("a"), kind="text") == [0]
    assert cluster_probability([]) == []


@pytest.mark.parametrize("g", range(2, 40))
def test_rounding_makes_no_agreement(g):
    different = [rollout(f"{i}") for i in range(g)]
    assert cluster_probability(different) == [0] * g
    assert max(cluster_probability([*different, rollout("0")])) == 2 / (g + 1)


def test_groups_apart_in_the_order_of_the_rows_and_without_the_gold_answer():
    both = [row for pair in zip(rows("aab", "x"), rows("bba", "y"), strict=True) for row in pair]
    assert cluster_probability(both, kind="text") == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2 / 3, 1 / 3, 1 / 3])
    assert cluster_probability(rows(["7.0", "it is 7", "8"], answer=None)) == pytest.approx([2 / 3, 2 / 3, 1 / 3])


def test_no_answer_is_nobody_elses():
    found = cluster_probability(rows(["7", "7", "none", "nothing", ""]))
    assert found == pytest.approx([2 / 5, 2 / 5, 0, 0, 0])
    assert cluster_probability(rows(["7", "none", "nothing"])) == [0, 0, 0], "clusters of one each"


def test_thresholds_in_nats():
    entropy = -(1 / 2 * math.log(1 / 2) + 1 / 3 * math.log(1 / 3) + 1 / 6 * math.log(1 / 6))
    assert entropy == pytest.approx(1.011, abs=5e-4)
    group, without = rows("aaabbc"), [0] * 6
    assert cluster_probability(group, kind="text", low=entropy - 1e-6, high=entropy + 1e-6)[0] == 0.5
    assert cluster_probability(group, kind="text", low=entropy + 1e-6) == without
    assert cluster_probability(group, kind="text", high=entropy - 1e-6) == without
    assert cluster_probability(rows("aa"), kind="text", low=0.0) == [0, 0]
    with pytest.raises(ConfigError, match="low=1 must be below high=1"):
        cluster_probability(group, low=1.0, high=1.0)
