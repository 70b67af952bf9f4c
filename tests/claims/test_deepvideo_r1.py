"""deepvideo_r1: no sample of a mixed group loses its gradient, where PPO's clip silences a third."""

import pytest
import torch

from rlpost import step
from tests import toy

GROUPS, G = 200, 8


@pytest.mark.parametrize("seed", range(3))
def test_share_of_samples_without_a_gradient(seed):
    """200 random groups of 8 with log-ratios of deviation 0.5."""
    rng, silent = torch.Generator().manual_seed(seed), {}
    old = -torch.rand(GROUPS * G, 1, generator=rng) - 0.5
    moved = old + 0.5 * torch.randn(GROUPS * G, 1, generator=rng)
    rewards = torch.randn(GROUPS * G, 1, generator=rng)
    group = torch.arange(GROUPS).repeat_interleave(G)
    for name in ("grpo", "deepvideo_r1"):
        method, logp = toy.recipe(name), moved.clone().requires_grad_()
        mask = torch.ones(GROUPS * G, 1, dtype=torch.bool)
        # the reference is the current policy, so the KL term adds nothing to either
        credit = step.score(toy.scored(rewards, group, mask, old, ref_logp=moved), method).scored
        value, _ = step.loss(toy.batch(credit, logp), method, step.counts(credit))
        silent[name] = (torch.autograd.grad(value, logp)[0] == 0).float().mean().item()
    assert silent["deepvideo_r1"] == 0 and 0.28 < silent["grpo"] < 0.4, silent


@pytest.mark.parametrize("seed", range(3))
def test_the_bandit_is_learnt(seed):
    right, reached = torch.tensor([3, 1, 4]), {}
    for name in ("deepvideo_r1", "grpo"):
        logits = torch.zeros(3, 8)
        toy.train(
            logits,
            lambda q, t: (t == right[q][:, None]).float(),
            toy.recipe(name),
            steps=30,
            lr=1.0,
            seed=seed,
            updates=4,
        )
        reached[name] = logits.detach().softmax(-1)[torch.arange(3), right].tolist()
    assert min(reached["deepvideo_r1"]) > 0.9, reached
