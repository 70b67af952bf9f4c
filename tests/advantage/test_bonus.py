"""A bonus beside the z-score: it keeps its size, and without it nothing changes."""

import math

import pytest
import torch

from rlpost.advantage.bonus import zscore_plus_bonus
from rlpost.advantage.group import group_zscore
from rlpost.errors import ConfigError

NAN = math.nan
NAMES = ("answer_ucb", "correct", "format")
GROUP = torch.tensor([3, 3, 3, 1, 1])
REWARDS = torch.tensor([[0.5, 1.0, 0.2], [-0.1, 0, 0.4], [NAN, NAN, NAN], [0.5, 1, 0.3], [0.2, 1, 0.3]])
WEIGHTS = torch.tensor([0.0, 2.0, 0.5])


def test_the_bonus_is_added_after_normalisation():
    found = zscore_plus_bonus(REWARDS, WEIGHTS, GROUP, NAMES, coef=0.2, epsilon=0.0)
    # two rows of totals 2.1 and .2: z = +-1/sqrt(2); the row without rewards 0; equal totals leave the bonus alone
    z = 1 / math.sqrt(2)
    assert found.tolist() == pytest.approx([z + 0.1, -z - 0.02, 0, 0.1, 0.04], abs=1e-6)
    plain = group_zscore(REWARDS[:, 1:], WEIGHTS[1:], GROUP)
    assert torch.equal(zscore_plus_bonus(REWARDS, WEIGHTS, GROUP, NAMES, coef=0.0), plain)


def test_weights_of_the_bonus_are_not_read_and_several_add_up():
    loud = torch.tensor([9.0, 2.0, 0.5])
    both = [zscore_plus_bonus(REWARDS, w, GROUP, NAMES) for w in (loud, WEIGHTS)]
    assert torch.equal(*both)
    two = zscore_plus_bonus(REWARDS, WEIGHTS, GROUP, NAMES, columns=("answer_ucb", "format"), coef=1.0)
    assert two[3:].tolist() == pytest.approx([0.8, 0.5])


@pytest.mark.parametrize(("columns", "said"), [(("novelty",), "'novelty'"), (NAMES, "leaves no reward")])
def test_columns_that_cannot_be(columns, said):
    with pytest.raises(ConfigError, match=said):
        zscore_plus_bonus(REWARDS, WEIGHTS, GROUP, NAMES, columns=columns)
