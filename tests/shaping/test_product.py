"""R = accuracy (1 + consistency / 2): the paper's numbers, and what is left alone."""

import math

import pytest
import torch

from rlpost.errors import ConfigError
from rlpost.shaping.product import consistency_product

NAMES = ("think_answer_format", "correct", "reasoning_agrees")
NAN = math.nan


def test_right_answers_by_their_reasoning():
    given = torch.tensor([[1.0, 1, 1], [1, 1, -1], [1, 1, 0], [1, 0, 1], [0, 1, NAN], [1, NAN, 1]])
    found = consistency_product(given, NAMES)
    assert found[:, 1].nan_to_num(9).tolist() == [1.5, 0.5, 1, 0, 1, 9]
    assert torch.equal(found[:, [0, 2]].nan_to_num(9), given[:, [0, 2]].nan_to_num(9))
    # with the weights .5, 1, 0: right and consistent 2, right and inconsistent 1
    assert (found[:2] @ torch.tensor([0.5, 1, 0])).tolist() == [2.0, 1.0]
    assert torch.equal(consistency_product(given, NAMES, share=0.0).nan_to_num(9), given.nan_to_num(9))


@pytest.mark.parametrize("name", ["reward", "consistency"])
def test_unknown_names(name):
    with pytest.raises(ConfigError, match="names the reward 'other'; this run has"):
        consistency_product(torch.ones(1, 3), NAMES, **{name: "other"})
