"""Critique-GRPO: the ratio on the policy's tokens, the shaped probability on the others."""

import math

import pytest
import torch

from rlpost.objective.clipped import ppo_clip
from rlpost.objective.guided import critique_grpo

SOURCE = (("policy", "expert"), ("expert",))


def test_values_and_gradients():
    """p = 0.01 under gamma 0.1: f = 1/11, and df/dlogp = gamma p / (p + gamma)^2 = 0.001 / 0.0121."""
    logp = torch.tensor([[-0.5, math.log(0.01)], [math.log(0.4), 0.0]], dtype=torch.float64, requires_grad=True)
    old = torch.tensor([[-0.7, -3.0], [-2.0, 0.0]], dtype=torch.float64)
    advantage = torch.tensor([[2.0, 3.0], [-1.0, 0.0]], dtype=torch.float64)
    found = critique_grpo(logp, old, advantage, SOURCE)
    wanted = [[-2 * math.exp(0.2), -3 / 11], [0.4 / 0.5, 0.0]]
    torch.testing.assert_close(found.value.detach(), torch.tensor(wanted, dtype=torch.float64))
    found.value.sum().backward()
    gradient = [[-2 * math.exp(0.2), -3 * 0.001 / 0.0121], [0.04 / 0.25, 0.0]]
    torch.testing.assert_close(logp.grad, torch.tensor(gradient, dtype=torch.float64))


def test_unlikely_tokens_are_lifted_as_the_paper_says():
    """With respect to p: gamma / (p + gamma)^2 = 0.1 / 0.11^2 = 8.26 at p = 0.01, where the raw p has 1."""
    p = torch.tensor([[0.01]], dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, 1, dtype=torch.float64)
    critique_grpo(p.log(), -one, one, (("expert",),)).value.sum().backward()
    assert p.grad.item() == pytest.approx(-8.2645, abs=1e-4)


def test_without_an_expert_it_is_the_unclipped_surrogate():
    rng = torch.Generator().manual_seed(0)
    logp, old, advantage = (torch.randn(3, 4, generator=rng) for _ in range(3))
    wide = ppo_clip(logp, old, advantage, clip_low=1.0, clip_high=1e9)
    torch.testing.assert_close(critique_grpo(logp, old, advantage, (("policy",) * 4,) * 3).value, wide.value)
