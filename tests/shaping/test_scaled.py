"""A bonus over its deviation in the step: by hand, beside other columns, and where it has none."""

import math

import pytest
import torch

from rlpost.errors import ConfigError
from rlpost.shaping.scaled import bonus_scale

NAMES = ("correct", "elliptical")


def scaled(bonuses, **knobs):
    table = torch.tensor([[1.0, bonus] for bonus in bonuses], dtype=torch.float64)
    found = bonus_scale(table, NAMES, **knobs)
    assert torch.equal(found[:, 0], table[:, 0]), "only the bonus changes"
    return found[:, 1].tolist()


def test_both_normalisations():
    # 1, 2, 6: mean 3, squared distances 4, 1, 9, sample variance 7
    std = math.sqrt(7)
    assert scaled([1, 2, 6]) == pytest.approx([1 / std, 2 / std, 6 / std])
    assert scaled([1, 2, 6], scale="zscore") == pytest.approx([-2 / std, -1 / std, 3 / std])


def test_bonuses_without_a_deviation_or_that_do_not_apply():
    assert scaled([2, 2, 2]) == [2, 2, 2] and scaled([2, 2, 2], scale="zscore") == [0, 0, 0] and scaled([3]) == [3]
    found = scaled([1, math.nan, 3])
    assert math.isnan(found[1]) and found[0::2] == pytest.approx([1 / math.sqrt(2), 3 / math.sqrt(2)])


def test_an_unknown_reward_is_refused():
    with pytest.raises(ConfigError, match="'novelty'"):
        scaled([1.0], bonus="novelty")
