"""seed_grpo: prompts whose answers scatter are moved less than with Dr. GRPO, the others as much."""

import functools

import pytest
import torch

from tests import toy

PROMPTS, ANSWERS = 12, 12


@functools.cache
def method(name):
    overrides = ["advantage.clusters=r1", "advantage.alpha=1.0"] if name == "seed_grpo" else []
    return toy.recipe(name, *overrides)


def moved(name, seed, steps=12):
    """How far training moves the logits of six settled prompts (right answer at .65) and of six scattered ones."""
    logits = torch.zeros(PROMPTS, ANSWERS)
    logits[:6, 0] = 3.0
    start = logits.clone()

    def reward(prompt, tokens):
        columns = [(tokens[:, 0] == 0).float()]
        if name == "seed_grpo":
            columns.append(tokens[:, 0].float())
        return torch.stack(columns, dim=1)

    toy.train(logits, reward, method(name), steps=steps, lr=40.0, seed=seed, n=8)
    distance = (logits.detach() - start).norm(dim=-1)
    return distance[:6].mean().item(), distance[6:].mean().item()


@pytest.mark.parametrize("seed", range(3))
def test_scattered_prompts_move_less(seed):
    settled, scattered = moved("seed_grpo", seed)
    plain_settled, plain_scattered = moved("dr_grpo", seed)
    assert scattered < 0.65 * plain_scattered, (scattered, plain_scattered)
    assert settled > 0.8 * plain_settled, (settled, plain_settled)
