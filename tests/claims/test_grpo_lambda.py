"""grpo_lambda: a length penalty on all questions costs more accuracy than one where they are solved."""

import functools
from dataclasses import replace

import pytest
import torch

from tests import toy

# One policy for 20 questions draws the logarithm of its length; question i needs 2.5 to 6.5 of it.
ARMS, QUESTIONS, N = torch.linspace(1.5, 7.5, 13), 20, 8
NEED = torch.linspace(2.5, 6.5, QUESTIONS)


def chance(arm, need):
    return 0.97 * torch.sigmoid(4 * (ARMS[arm] - need))


def rewards(prompt, tokens):
    return torch.bernoulli(chance(tokens, NEED.repeat_interleave(N)[:, None]))


@functools.cache
def recipe():
    return toy.recipe("grpo_lambda")


def trained(share, seed):
    """Accuracy and mean length at the end, exactly, for a share of the questions with a penalty."""
    made = recipe()
    shape = functools.partial(made.shaping["length_switch"], share=share)
    logits = -((ARMS - 6.0) ** 2)[None] / 2
    toy.train(
        logits, rewards, replace(made, shaping={"length_switch": shape}), steps=40, lr=2.0, seed=seed, n=N,
        prompts=lambda i: [0] * QUESTIONS, more=lambda t: {"length": ARMS[t[:, 0]].exp().round().long()},
    )  # fmt: skip
    p = logits.detach().softmax(-1)[0]
    right = torch.stack([chance(torch.arange(len(ARMS)), need) for need in NEED]).mean(0)
    return float(p @ right), float(p @ ARMS.exp())


@pytest.mark.parametrize("seed", range(3))
def test_the_switch_keeps_accuracy_that_a_uniform_penalty_loses(seed):
    uniform, gated, plain = trained(1.0, seed), trained(0.2, seed), trained(0.0, seed)
    assert gated[0] > uniform[0] + 0.1, (gated, uniform)
    assert gated[1] < 0.8 * plain[1], (gated, plain)
