"""oapl_karl: a batch may be used without end, because the loss has a fixed point; a policy gradient has none."""

import pytest
import torch

from tests import toy


def after(method, start, values, seed, updates, lr):
    logits = start.clone()
    toy.train(logits, lambda _, t: values[t], method, steps=1, lr=lr, seed=seed, n=2000, updates=updates)
    return logits.detach().softmax(-1)[0]


@pytest.mark.parametrize("seed", range(3))
def test_a_stale_batch_leads_to_the_regularised_optimum_and_no_further(seed):
    rng = torch.Generator().manual_seed(seed)
    start, values = 0.5 * torch.randn(1, 3, generator=rng), torch.tensor([0.0, 0.5, 1.0])
    target = (start[0] + values).softmax(-1)
    oapl = toy.recipe("oapl_karl", "advantage.beta1=1", "objective.beta2=1")
    twice = [after(oapl, start, values, seed, updates, 0.5) for updates in (100, 200)]
    assert (twice[1] - target).abs().max() < 0.01 and (twice[1] - twice[0]).abs().max() < 0.001, (twice, target)
    free = toy.recipe("dr_grpo", "objective.clip_low=1e6", "objective.clip_high=1e6", "rollout.max_tokens=1")
    assert after(free, start, values, seed, 200, 0.5)[2] > 0.9 > 1.3 * target[2]


def test_unequal_temperatures_are_a_compromise():
    """beta1 = 1, beta2 = 0.1 on uniform data: not softmax(r / 0.1)."""
    start, values = torch.zeros(1, 3), torch.tensor([0.0, 0.5, 1.0])
    method = toy.recipe("oapl_karl", "advantage.beta1=1", "objective.beta2=0.1")
    found = after(method, start, values, 0, 200, 20.0)
    assert (found - (values / 0.1).softmax(-1)).abs().max() > 0.05
