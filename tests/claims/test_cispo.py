"""cispo: tokens that PPO's clip silences keep learning."""

import pytest
import torch

from rlpost.objective.clipped import ppo_clip
from rlpost.objective.soft import cispo
from tests import toy


@pytest.mark.parametrize("ratio", [1.3, 3.0, 50.0])
def test_a_clipped_token_keeps_its_gradient(ratio):
    old = torch.tensor([[-4.0]])
    logp = (old + torch.tensor(ratio).log()).requires_grad_()
    for objective, silent in ((ppo_clip, True), (cispo, False)):
        gradient = torch.autograd.grad(objective(logp, old, torch.ones(1, 1)).value.sum(), logp)[0].item()
        assert gradient == (0.0 if silent else pytest.approx(-min(ratio, 5.0), rel=1e-5))


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_right_token_is_learnt_in_fewer_batches(seed):
    """The only right arm starts at 3%; three batches of 64 with 16 updates each."""
    reached = {}
    for name in ("grpo", "cispo"):
        logits = torch.zeros(1, 10)
        logits[0, 1] = torch.tensor(9 * 0.03 / 0.97).log()
        toy.train(
            logits,
            lambda _, tokens: (tokens == 1).float(),
            toy.recipe(name),
            steps=3,
            lr=1.0,
            seed=seed,
            n=64,
            updates=16,
        )
        reached[name] = logits.detach().softmax(-1)[0, 1].item()
    assert reached["cispo"] > reached["grpo"] + 0.1, reached
