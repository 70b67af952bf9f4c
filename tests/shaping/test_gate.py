"""Conditioned rewards."""

import pytest
import torch

from rlpost.errors import ConfigError
from rlpost.shaping.gate import gate

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
