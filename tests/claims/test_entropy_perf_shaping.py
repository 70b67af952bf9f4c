"""entropy_perf_shaping: at first accuracy rises and entropy falls faster than with GRPO."""

import functools

import pytest
import torch

from tests import toy

START = torch.tensor([[0.3, 0.1, *[0.075] * 8]] * 8)


@functools.cache
def method(name):
    return toy.recipe(name, *(["advantage.alpha=0.5"] if name != "grpo" else []))


def trained(name, seed, steps=5):
    """Accuracy and entropy of 8 prompts with a likely (0.3) and an unlikely (0.1) right answer of ten."""
    logits = START.log()
    toy.train(logits, lambda _, tokens: (tokens < 2).float(), method(name), steps=steps, lr=5.0, seed=seed, n=8)
    p = logits.detach().softmax(-1)
    return p[:, :2].sum(-1).mean().item(), torch.special.entr(p).sum(-1).mean().item()


@pytest.mark.parametrize("seed", range(3))
def test_the_first_steps_go_further(seed):
    (accuracy, entropy), (plain, spread) = trained("entropy_perf_shaping", seed), trained("grpo", seed)
    assert accuracy > plain + 0.01, (accuracy, plain)
    assert entropy < spread - 0.04, (entropy, spread)
