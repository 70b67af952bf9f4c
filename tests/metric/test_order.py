"""AR-ness of rows whose order of writing is worked through by hand."""

import pytest

from rlpost.errors import ConfigError, RewardError
from rlpost.metric.order import global_ar, local_ar
from tests.reward.rows import rollout


def row(rank, task="t1"):
    found = rollout("x" * len(rank))
    found.info["decode_order"] = list(rank)
    return found if task == "t1" else _other(found, task)


def _other(found, task):
    from dataclasses import replace

    return replace(found, task=replace(found.task, id=task))


def test_left_to_right_is_one_and_right_to_left_is_the_least():
    for k in (1, 2, 3):
        assert local_ar([row(range(6))], k=k) == {f"local_ar@{k}": 1.0}
        assert global_ar([row(range(6))], k=k) == {f"global_ar@{k}": 1.0}
    # Written from the right, token j has j masked tokens before it: only the first k tokens count.
    assert local_ar([row(range(5, -1, -1))])["local_ar@1"] == 0.0
    assert global_ar([row(range(5, -1, -1))], k=2)["global_ar@2"] == pytest.approx(2 / 6)


def test_a_mixed_order():
    """Written as places 2 3 4 0 1 5: ranks 3 4 0 1 2 5. Neighbours in turn: 1 after 0, 3 after 2, 4 after 3."""
    rank = [3, 4, 0, 1, 2, 5]
    assert local_ar([row(rank)], k=1)["local_ar@1"] == pytest.approx(3 / 5)
    assert local_ar([row(rank)], k=2)["local_ar@2"] == pytest.approx(1 / 4)  # place 4 alone
    assert local_ar([row(rank)], k=3)["local_ar@3"] == 0.0
    # Masked places before each when it is written: 0 0 2 2 2 0.
    assert global_ar([row(rank)], k=1)["global_ar@1"] == pytest.approx(3 / 6)
    assert global_ar([row(rank)], k=2)["global_ar@2"] == pytest.approx(3 / 6)
    assert global_ar([row(rank)], k=3)["global_ar@3"] == 1.0


def test_a_row_that_ended_early_has_gaps_in_its_ranks():
    """Ranks 0 4 5 of a longer row: what was written behind the end lies between the first two."""
    assert local_ar([row([0, 4, 5])])["local_ar@1"] == pytest.approx(1 / 2)
    assert global_ar([row([0, 4, 5])])["global_ar@1"] == 1.0


def test_means_are_over_rows_then_tasks_and_short_rows_count_nowhere():
    rows = [row([0, 1]), row([1, 0]), row([0]), row([0, 1], "t2")]
    assert local_ar(rows)["local_ar@1"] == pytest.approx(((1 + 0) / 2 + 1) / 2)
    assert global_ar(rows)["global_ar@1"] == pytest.approx(((1 + 0.5 + 1) / 3 + 1) / 2)


def test_rows_without_an_order_and_a_k_of_nothing_are_refused():
    with pytest.raises(RewardError, match="pick rollout=diffusion"):
        local_ar([rollout("abc")])
    with pytest.raises(ConfigError, match="k=0"):
        global_ar([row([0, 1])], k=0)
