"""arm_ada_grpo: formats that are nearly as good stay alive until late, where GRPO keeps one of them."""

import functools
import math
from dataclasses import replace

import pytest
import torch

from rlpost.schedule import bind
from tests import toy

ACCURACY = torch.tensor([0.7, 0.75, 0.8, 0.9])  # of the four formats, on the same questions
STEPS, PARTS, QUESTIONS = 40, 4, 8


@functools.cache
def recipe():
    return toy.recipe("arm_ada_grpo")


def rewards(prompt, tokens):
    return torch.cat([torch.bernoulli(ACCURACY[tokens]), tokens.float()], dim=1)


def entropies(seed, strength=None):
    """Entropy of the formats after each part of the run, by the recipe's schedule or a constant strength."""
    logits, found = torch.zeros(1, 4), []
    fields = {"reward_names": ("correct", "opening"), "weights": [1.0, 0.0]}
    for part in range(PARTS):
        shape = bind(recipe().shaping["format_diversity"], 0, (part + 0.5) / PARTS)
        if strength is not None:
            shape = functools.partial(shape, strength=strength)
        method = replace(recipe(), shaping={"format_diversity": shape})
        toy.train(
            logits, rewards, method, steps=STEPS // PARTS, lr=2.0, seed=PARTS * seed + part, n=8,
            prompts=lambda i: [0] * QUESTIONS, more=lambda t: fields,
        )  # fmt: skip
        p = logits.detach().softmax(-1)[0]
        found.append(float(-(p * p.log()).sum()))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_formats_stay_alive_until_late(seed):
    kept, grpo = entropies(seed), entropies(seed, strength=0.0)
    assert min(kept[:3]) > 0.5 * math.log(4), kept
    assert grpo[2] < 0.5 * math.log(4), grpo
