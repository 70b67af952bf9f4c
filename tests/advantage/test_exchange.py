"""Credit by perplexity and by position, by hand."""

import math

import pytest
import torch

from rlpost.advantage.exchange import perplexity_weighted, position_bonus
from rlpost.advantage.group import group_zscore

# Rows 0 to 3 in group 5: rewards 1 1 0 0 have z = +-sqrt(3)/2, the sample deviation being 1/sqrt(3). Row 4 is alone.
GROUP, WEIGHTS = torch.tensor([5, 5, 5, 5, 2]), torch.tensor([2.0])
REWARDS = torch.tensor([[0.5], [0.5], [0.0], [0.0], [1.0]])
MASK = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 0, 1], [1, 1, 1], [1, 1, 1]]).bool()
# Mean log-probabilities where mask: -1, -2, -1, -2 in the group: their deviation is 1/sqrt(3).
OLD = torch.tensor([[-0.5, -1.5, -9], [-2, -9, -9], [-0.8, -9, -1.2], [-1, -2, -3], [-4, -4, -4]])
A = Z = math.sqrt(3) / 2


def test_low_perplexity_makes_credit_larger_for_either_sign():
    found = perplexity_weighted(REWARDS, WEIGHTS, GROUP, OLD, MASK, alpha=0.5, epsilon=0.0, perplexity_epsilon=0.0)
    likely, unlikely = A * (1 + 0.5 * Z), A * (1 - 0.5 * Z)
    assert found.tolist() == pytest.approx([likely, unlikely, -likely, -unlikely, 0])
    assert found[:2].mean().item() == pytest.approx(A), "the mean size stays"


def test_perplexity_reductions_and_edges():
    plain = group_zscore(REWARDS, WEIGHTS, GROUP)
    assert torch.equal(perplexity_weighted(REWARDS, WEIGHTS, GROUP, OLD, MASK, alpha=0.0), plain)
    level = torch.full((5, 3), -1.5)
    level[0, 0] -= 1e-7
    assert torch.equal(perplexity_weighted(REWARDS, WEIGHTS, GROUP, level, MASK, alpha=5.0), plain), "no spread: z = 0"
    strong = perplexity_weighted(REWARDS, WEIGHTS, GROUP, OLD, MASK, alpha=5.0)
    assert strong[[1, 3]].eq(0).all() and strong[0] > plain[0], "never turned round"
    none = torch.tensor([[math.nan], [0.5], [0.0], [0.0], [1.0]])
    assert perplexity_weighted(none, WEIGHTS, GROUP, OLD, MASK, alpha=0.5)[0] == 0
    small = perplexity_weighted(REWARDS, WEIGHTS, GROUP, OLD, MASK)
    assert small[0].item() == pytest.approx(plain[0].item() * (1 + 0.01 * Z), abs=1e-6)


def test_late_tokens_get_more_for_either_sign():
    found = position_bonus(REWARDS, WEIGHTS, GROUP, MASK, gamma=0.3, slope=4.0, centre=0.25, epsilon=0.0)

    def b(rel):
        return 0.3 / (1 + math.exp(-4 * (rel - 0.25)))

    want = [
        [A + b(1 / 2), A + b(1), 0],
        [A + b(1), 0, 0],
        [-A - b(1 / 2), 0, -A - b(1)],
        [-A - b(1 / 3), -A - b(2 / 3), -A - b(1)],
        [0, 0, 0],
    ]
    torch.testing.assert_close(found, torch.tensor(want), atol=1e-6, rtol=0)


def test_position_reductions_and_edges():
    plain = torch.where(MASK, group_zscore(REWARDS, WEIGHTS, GROUP)[:, None], 0.0)
    assert torch.equal(position_bonus(REWARDS, WEIGHTS, GROUP, MASK, gamma=0.0), plain)
    default = position_bonus(REWARDS, WEIGHTS, GROUP, MASK)
    # sigmoid(10 * (1 - 0.5)) = 0.99331
    assert (default - plain)[0, 1].item() == pytest.approx(0.1 * 0.99331, abs=1e-6)
    empty = MASK.clone()
    empty[0] = False
    assert position_bonus(REWARDS, WEIGHTS, GROUP, empty)[0].eq(0).all()
