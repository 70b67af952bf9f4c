"""The arithmetic of comparing two stacks, on numbers that are derived in sight."""

import math
from collections import Counter

import numpy as np
import pytest

from rlpost.workbench import ranks

NAN = math.nan


def test_pairs_of_a_group_by_how_both_stacks_order_them():
    """Rows a=(1, 2, 2, 3), b=(4, 1, 2, 2), six pairs:

    01: -1 against +3 flipped; 02: -1 against +2 flipped; 03: -2 against +2 flipped;
    12: tied in a, -1 in b; 13: -1, -1 alike; 23: -1 in a, tied in b.
    """
    found = ranks.agreement(["g"] * 4, np.array([1.0, 2, 2, 3]), np.array([4.0, 1, 2, 2]))
    assert (found.pairs, found.flipped, found.alike) == (6, 3, 1)
    assert (found.tied_first, found.tied_second, found.tied_both) == (1, 1, 0)
    assert found.flip_share == 0.5
    # tau-b: (1 - 3) / sqrt((6 - 1) (6 - 1))
    assert found.kendall == pytest.approx(-2 / 5, rel=1e-12)
    # ranks (1, 2.5, 2.5, 4) and (4, 1, 2.5, 2.5) about 2.5: cov = -1.5*1.5 + 0*-1.5 + 0*0 + 1.5*0, norms 1.5^2 * 2 each
    assert found.spearman == pytest.approx(-2.25 / 4.5, rel=1e-12)
    # the best of a is row 3, of b row 0
    assert (found.best_changes, found.groups, found.silent) == (1, 1, (0, 0))


def test_the_largest_flip_is_measured_in_deviations_of_each_stack():
    """std(a) = 1 and std(b) = 10 over (0, 2) and (20, 0): a flip of 2 and 20, which is two deviations of each."""
    found = ranks.agreement(["g", "g"], np.array([0.0, 2.0]), np.array([20.0, 0.0]))
    assert found.flips == [ranks.Flip("g", up=1, down=0, size=2.0)]
    # A second group with a smaller gap in b: (0, 2) against (5, 0). Now std(a) = 1, std(b) of (20, 0, 5, 0).
    found = ranks.agreement(list("gghh"), np.array([0.0, 2, 0, 2]), np.array([20.0, 0, 5, 0]))
    deviation = float(np.std([20, 0, 5, 0]))
    assert [(flip.group, flip.size) for flip in found.flips] == [
        ("g", pytest.approx(min(2.0, 20 / deviation))),
        ("h", pytest.approx(5 / deviation)),
    ]


def test_groups_are_apart_and_rows_without_a_total_are_left_out():
    """Of g rows 0 and 2 are left, one pair; h has one row that counts, so it is no group; k ties all under both."""
    first = np.array([1.0, 9.0, 2.0, 1.0, NAN, 5.0, 5.0])
    second = np.array([3.0, NAN, 4.0, 1.0, 2.0, 7.0, 7.0])
    found = ranks.agreement(list("ggghhkk"), first, second)
    assert (found.groups, found.pairs, found.alike, found.tied_both) == (2, 2, 1, 1)
    assert (found.correlated, found.kendall, found.spearman) == (1, 1.0, pytest.approx(1.0))
    assert found.silent == (1, 1)
    assert found.best_changes == 0
    assert ranks.silence(list("ggghhkk"), first) == (1, 2)


def test_a_difference_below_the_tie_is_none():
    assert ranks.kind_of(0.9e-6, -1.0) == "tied_first"
    assert ranks.kind_of(1.1e-6, -1.0) == "flipped"
    assert ranks.kind_of(-1.0, 0.0) == "tied_second"
    assert ranks.kind_of(0.0, 0.0) == "tied_both"
    assert ranks.kind_of(-2.0, -1.0) == "alike"


def test_the_best_changes_only_where_no_row_is_best_under_both():
    shared = ranks.agreement(["g"] * 3, np.array([1.0, 1.0, 0.0]), np.array([0.0, 5.0, 1.0]))
    assert shared.best_changes == 0  # row 1 is among the best of both
    apart = ranks.agreement(["g"] * 3, np.array([1.0, 1.0, 0.0]), np.array([0.0, 1.0, 5.0]))
    assert apart.best_changes == 1


def test_nothing_to_compare_is_no_number():
    assert ranks.agreement(["g"], np.array([NAN]), np.array([2.0])) == ranks.Agreement() != ranks.Agreement(groups=1)
    found = ranks.agreement(["g"], np.array([1.0]), np.array([2.0]))
    assert found.pairs == 0 and math.isnan(found.flip_share) and math.isnan(found.kendall)
    assert math.isnan(ranks.kendall(Counter(tied_first=3)))


def test_a_histogram_has_a_bin_per_value_or_equal_bins_that_both_share():
    few = ranks.histogram(np.array([0.0, 1.0, 1.0, NAN]), np.array([0.5]))
    assert few == ranks.Histogram((0.0, 0.5, 1.0), (1, 0, 2), exact=True)
    many = ranks.histogram(np.arange(20.0), np.array([100.0]), bins=10)
    # bins of width 10: 0..9, 10..19, and nothing above
    assert many.counts == (10, 10, 0, 0, 0, 0, 0, 0, 0, 0) and many.edges[0] == 0 and many.edges[-1] == 100
    assert not many.exact
    # heights against the largest: ceil(8 * 1 / 8) = 1, 4 of 8, 8 of 8, and a dot
    assert ranks.bars((1, 4, 8, 0)) == "▁▄█·"
