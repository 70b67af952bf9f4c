"""rloo: the others of the group are an unbiased baseline that lowers the variance. Exact, over all groups."""

from itertools import product

import pytest
import torch

from rlpost.advantage.group import group_centred, leave_one_out

P = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def moments(estimate, rewards, g):
    """Mean and variance of the gradient estimate (1/G) sum_i A_i d log p(a_i)/d theta over all groups of G arms."""
    score = torch.eye(3, dtype=torch.float64) - P
    mean, square = torch.zeros(3, dtype=torch.float64), 0.0
    for arms in product(range(3), repeat=g):
        chance, picked = P[list(arms)].prod(), torch.tensor(arms)
        found = (estimate(rewards[picked])[:, None] * score[picked]).mean(0)
        mean, square = mean + chance * found, square + chance * (found**2).sum()
    return mean, (square - (mean**2).sum()).item()


@pytest.mark.parametrize("g", [2, 3, 5])
def test_unbiased_and_less_noisy_than_no_baseline(g):
    rewards = torch.tensor([5.0, 5.5, 7.0], dtype=torch.float64)
    true = P * (rewards - P @ rewards)
    one, ids = torch.ones(1, dtype=torch.float64), torch.zeros(g, dtype=torch.long)
    mean, variance = moments(lambda r: leave_one_out(r[:, None], one, ids), rewards, g)
    torch.testing.assert_close(mean, true, rtol=1e-9, atol=1e-12)
    assert variance < 0.2 * moments(lambda r: r, rewards, g)[1]
    centred, _ = moments(lambda r: group_centred(r[:, None], one, ids), rewards, g)
    torch.testing.assert_close(centred, true * (g - 1) / g, rtol=1e-9, atol=1e-12)
