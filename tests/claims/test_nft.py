"""nft: on policy it is Dr. GRPO, and what it adds to rejection fine-tuning is learning from wrong answers."""

import pytest
import torch

from rlpost import step
from tests import toy


@pytest.mark.parametrize("seed", range(3))
def test_on_policy_the_gradient_is_that_of_dr_grpo(seed):
    rng, gradients = torch.Generator().manual_seed(seed), []
    rewards, group = torch.tensor([1.0, 0, 0, 1, 0, 1, 1, 0, 1])[:, None], torch.tensor([0] * 5 + [1] * 4)
    mask = torch.arange(4) < torch.randint(1, 5, (9, 1), generator=rng)
    old = -torch.rand(9, 4, generator=rng) - 0.1
    for name in ("nft", "dr_grpo"):
        method, logp = toy.recipe(name), old.clone().requires_grad_()
        credit = step.score(toy.scored(rewards, group, mask, old), method).scored
        value, _ = step.loss(toy.batch(credit, logp), method, step.counts(credit))
        gradients.append(torch.autograd.grad(value, logp)[0])
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)
    assert gradients[0].abs().max() > 1e-4


@pytest.mark.parametrize("seed", range(4))
def test_wrong_answers_teach_what_rejection_fine_tuning_cannot_learn_from(seed):
    """Twelve arms, one right; the same batches and learning rate, with and without the negative term."""
    reached = {}
    for name, knobs in (("nft", []), ("rft", ["objective.negative_weight=0"])):
        logits = torch.zeros(4, 12)
        method = toy.recipe("nft", *knobs, "rollout.max_tokens=1")
        toy.train(logits, lambda _, t: (t == 0).float(), method, steps=15, lr=8.0, seed=seed, n=16, updates=2)
        reached[name] = logits.detach().softmax(-1)[:, 0].mean().item()
    assert reached["nft"] > reached["rft"] + 0.05, reached
