"""Bradley-Terry losses."""

import math

import pytest
import torch
from hypothesis import given

from rlpost.reward_model.pairwise import bradley_terry, bradley_terry_margin
from tests.strategies import field, seeds

CHOSEN = torch.tensor([2.0, -0.5, 0.25], dtype=torch.float64)
REJECTED = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)


def softplus(x):
    return math.log1p(math.exp(x))


def test_values():
    loss = bradley_terry(CHOSEN, REJECTED)
    assert loss.value.tolist() == pytest.approx([softplus(-1), softplus(1), math.log(2)], rel=1e-9)
    assert loss.metrics["accuracy"].tolist() == [1, 0, 0] and loss.metrics["margin"].tolist() == [1, -1, 0]
    centred = bradley_terry(CHOSEN, REJECTED, center=0.1).value - loss.value
    assert centred.tolist() == pytest.approx([0.9, 0.0, 0.025])
    margin = torch.tensor([0.5, 0.0, -1.0], dtype=torch.float64)
    apart = bradley_terry_margin(CHOSEN, REJECTED, margin, center=0.1)
    wanted = [softplus(-0.5) + 0.9, softplus(1), softplus(-1) + 0.025]
    assert apart.value.tolist() == pytest.approx(wanted, rel=1e-9)
    assert apart.metrics["accuracy"].tolist() == [1, 0, 0] and apart.metrics["margin"].tolist() == [1, -1, 0]


@given(seed=seeds)
def test_gradients(seed):
    chosen, rejected, margin = (
        field(n, 4, 1, seed).requires_grad_() for n in ("chosen_score", "rejected_score", "margin")
    )
    assert torch.autograd.gradcheck(lambda c, r: bradley_terry(c, r, center=0.3).value, (chosen, rejected))
    assert torch.autograd.gradcheck(lambda c, r, m: bradley_terry_margin(c, r, m).value, (chosen, rejected, margin))
