"""How much completions and a demonstration count, by the share of completions that succeed."""

import pytest
import torch

from rlpost.errors import ConfigError
from rlpost.token_weight.solved import solved_share

NAN = float("nan")
# Group 0: 1 of 4 right; group 1: all of 2; group 2: a demonstration alone; group 3: none of 2, one of them unjudged.
GROUP = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 3, 3])
ROLE = ("policy",) * 4 + ("expert", "policy", "policy", "expert", "expert", "policy", "policy", "hint")
REWARD = torch.tensor([1.0, 0.5, 0.0, 0.0, NAN, 1.0, 2.0, NAN, NAN, NAN, 0.9, 5.0])
MASK = torch.ones(12, 3, dtype=torch.bool)


LINES = {"policy": [0.0, 1.0], "expert": [1.0, 0.0]}


def test_the_published_table():
    """Of seven completions 0 to 7 are right."""
    role, group = ("policy",) * 7 + ("expert",), torch.zeros(8, dtype=torch.long)
    mask, found = torch.ones(8, 1, dtype=torch.bool), []
    for right in range(8):
        reward = torch.tensor([1.0] * right + [0.0] * (7 - right) + [NAN])
        weight = solved_share(mask, reward, role, group)[:, 0]
        found.append((round(float(weight[0]), 6), round(float(weight[7]), 6)))
    assert found == [(0, 1), (0.125, 0.5), (0.25, 0.25), (0.5, 0.125), (1, 0), (1, 0), (1, 0), (1, 0)]


def test_straight_lines_between_none_and_all():
    found = solved_share(MASK, REWARD, ROLE, GROUP, **LINES)
    wanted = [0.25] * 4 + [0.75, 1, 1, 0, 1, 0, 0, 1]
    assert found.shape == MASK.shape and found[:, 0].tolist() == pytest.approx(wanted)
    assert (found == found[:, :1]).all()


def test_a_table_of_each_number_of_successes():
    """Five values stand at 0, 1/4, .., 1; a group of two has them at 0, 1/2 and 1."""
    knobs = {"policy": [0.0, 0.3, 0.5, 0.6, 0.8], "expert": [2.0, 1.5, 1.0, 0.5, 0.25]}
    found = solved_share(MASK, REWARD, ROLE, GROUP, **knobs)[:, 0].tolist()
    assert found == pytest.approx([0.3] * 4 + [1.5, 0.8, 0.8, 0.25, 2.0, 0.0, 0.0, 1.0])
    half = solved_share(MASK[:2], torch.tensor([1.0, 0.0]), ("policy",) * 2, GROUP[:2], policy=[0.0, 0.0, 1.0, 0.0])
    assert half[:, 0].tolist() == pytest.approx([0.5, 0.5])  # between the values at 1/3 and 2/3


def test_it_is_the_switch_with_a_table_of_steps():
    switch = {"policy": [0.0, 1.0, 1.0, 1.0, 1.0], "expert": [1.0, 0.0, 0.0, 0.0, 0.0]}
    assert solved_share(MASK, REWARD, ROLE, GROUP, **switch)[:, 0].tolist() == [1] * 4 + [0, 1, 1, 0, 1, 0, 0, 1]
    assert solved_share(MASK, REWARD, ROLE, GROUP, threshold=0.5, **LINES)[0, 0] == 0.5
    with pytest.raises(ConfigError, match="need two values or more"):
        solved_share(MASK, REWARD, ROLE, GROUP, policy=[1.0])
