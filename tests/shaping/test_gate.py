"""Conditioned rewards."""

import pytest
import torch

from rlpost.errors import ConfigError
from rlpost.shaping.gate import gate, solved_gate

NAN = float("nan")
R = torch.tensor([[1.0, 0.4, 0.7], [0.9, 0.4, 0.7], [NAN, 0.4, NAN], [2.0, NAN, 0.2], [0.0, NAN, 0.2]])
NAMES = ("correct", "format", "length")


def test_easy_rewards_count_where_the_hard_one_is_reached():
    found = gate(R, NAMES, easy=("format", "length"), hard="correct")
    wanted = torch.tensor([[1.0, 0.4, 0.7], [0.9, 0, 0], [NAN, 0.4, NAN], [2.0, NAN, 0.2], [0.0, NAN, 0]])
    torch.testing.assert_close(found, wanted, equal_nan=True)


def test_only_the_named_rewards_and_the_given_threshold():
    found = gate(R, NAMES, easy=("length",), hard="correct", threshold=0.9)
    assert (
        found[1].tolist() == R[1].tolist()
        and found[4, 2] == 0
        and found[:4, 1].nan_to_num().eq(R[:4, 1].nan_to_num()).all()
    )


@pytest.mark.parametrize(("easy", "hard"), [(("brevity",), "correct"), (("format",), "right")])
def test_unknown_names_are_refused(easy, hard):
    with pytest.raises(ConfigError, match=r"brevity|right"):
        gate(R, NAMES, easy=easy, hard=hard)


def test_a_bonus_counts_where_the_group_has_a_solution():
    names, group = ("elliptical", "correct"), torch.tensor([4, 4, 4, 1, 1, 7, 7])
    r = torch.tensor([[0.3, 0], [0.2, 1], [0.1, 0.9], [0.5, 0.9], [NAN, NAN], [0.6, NAN], [0.7, NAN]])
    found = solved_gate(r, names, group, bonus="elliptical")
    assert torch.equal(found[:, 1].nan_to_num(-1), r[:, 1].nan_to_num(-1))
    torch.testing.assert_close(found[:, 0], torch.tensor([0.3, 0.2, 0.1, 0, NAN, 0.6, 0.7]), equal_nan=True)
    torch.testing.assert_close(solved_gate(r, names, group, bonus="elliptical", threshold=0.9)[3], r[3])
    with pytest.raises(ConfigError, match="'novelty'"):
        solved_gate(r, names, group, bonus="novelty")
