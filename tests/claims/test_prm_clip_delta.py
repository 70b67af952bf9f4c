"""prm_clip_delta: well scored padding pays under raw process rewards, and not under Clip and Delta."""

import functools
import math
from dataclasses import replace

import pytest
import torch

from rlpost import step
from tests import toy

# One logit each for a step of padding, which the process model likes, and for the answer, which ends the completion.
PAD, ANSWER, STEPS = 0, 1, 6
SCORE = torch.tensor([0.9, 0.6])


def method(**knobs):
    """The recipe with other knobs of its advantage."""
    made = recipe()
    return replace(made, advantage=functools.partial(made.advantage, **knobs))


@functools.cache
def recipe():
    return toy.recipe("prm_clip_delta")


def scores(tokens):
    """Step scores (N,S,1) of one token per step; the sixth step is the answer."""
    kind = tokens.clone()
    kind[:, -1] = ANSWER
    answers = (kind == ANSWER).long().cumsum(1)
    there = (answers == 0) | ((answers == 1) & (kind == ANSWER))
    return torch.where(there, SCORE[kind], math.nan)[..., None]


def fields(tokens):
    table = scores(tokens)
    mask = ~table[..., 0].isnan()
    columns = torch.cat([torch.full_like(table, math.nan), table], dim=-1)
    return {
        "span_rewards": columns, "mask": mask, "span": torch.where(mask, torch.arange(STEPS), -1),
        "length": mask.sum(-1),
    }  # fmt: skip


def rewards(prompt, tokens):
    """Every completion is right: only the process rewards tell them apart."""
    return torch.stack([torch.ones(len(tokens)), torch.nanmean(scores(tokens)[..., 0], 1)], dim=1)


def padding(seed, variant):
    """Steps of padding per completion after training from even odds."""
    logits = torch.zeros(1, 2)
    toy.train(
        logits, rewards, method(variant=variant, eta=0.8), steps=40, lr=0.5, seed=seed, n=16, length=STEPS, more=fields
    )
    p = logits.detach().softmax(-1)[0, PAD].item()
    return sum(p**k for k in range(1, STEPS))


@pytest.mark.parametrize("seed", range(3))
def test_raw_process_rewards_are_hacked(seed):
    hacked, kept = padding(seed, "raw"), padding(seed, "clip_delta")
    even = sum(0.5**k for k in range(1, STEPS))  # 0.97: no step of padding earns anything, so nothing moves
    assert hacked > 4, hacked
    assert kept == pytest.approx(even, abs=0.05)


def test_the_recipes_credit_of_the_papers_example():
    """p = (.9, .8, .95, .99) less eta .9: sums from each step on 0, -.1, 0, 0 times alpha 0.02."""
    table = torch.tensor([[0.9, 0.8, 0.95, 0.99]])[..., None]
    columns = torch.cat([torch.full_like(table, math.nan), table], dim=-1)
    record = toy.scored(
        torch.tensor([[1.0, 0.91]]), torch.tensor([0]), torch.ones(1, 4).bool(), -torch.ones(1, 4),
        span=torch.arange(4)[None], span_rewards=columns,
    )  # fmt: skip
    # returns 1, .998, 1, 1: mean .9995, sample deviation .001
    wanted = [0.5e-3 / 1.1e-3, -1.5e-3 / 1.1e-3, 0.5e-3 / 1.1e-3, 0.5e-3 / 1.1e-3]
    assert step.score(record, method(eta=0.9)).scored.advantage[0].tolist() == pytest.approx(wanted, rel=1e-3)
