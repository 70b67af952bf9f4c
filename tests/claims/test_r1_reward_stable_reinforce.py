"""r1_reward_stable_reinforce: of two right answers the one whose reasoning agrees with it wins; GRPO takes either."""

import functools

import pytest
import torch

from tests import toy


@functools.cache
def method(name):
    names = {"reward": "r0", "consistency": "r1"} if name != "grpo" else {}
    return toy.recipe(name, *(f"shaping.consistency_product.{key}={value}" for key, value in names.items()))


def trained(name, seed, steps=40):
    """Probability of a right answer, and of the right one that its reasoning supports (number 0)."""
    logits = torch.zeros(6, 8)

    def reward(_, tokens):
        right, agrees = (tokens < 2).float(), torch.where(tokens == 0, 1.0, -1.0)
        return torch.cat([right, agrees], dim=1) if name != "grpo" else right

    weights = [1.0] if name == "grpo" else [1.0, 0.0]
    more = {"weights": weights}
    toy.train(logits, reward, method(name), steps=steps, lr=5.0, seed=seed, n=8, more=lambda _: more)
    p = logits.detach().softmax(-1)
    return p[:, :2].sum(-1).mean().item(), p[:, 0].mean().item()


@pytest.mark.parametrize("seed", range(3))
def test_consistent_reasoning_wins_at_hardly_a_loss_of_accuracy(seed):
    (accuracy, supported), (plain, by_chance) = trained("r1_reward_stable_reinforce", seed), trained("grpo", seed)
    assert supported > 0.9 and by_chance < 0.8, (supported, by_chance)
    assert accuracy > plain - 0.04, (accuracy, plain)
