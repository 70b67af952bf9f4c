"""pure: padding with passable steps pays under the sum of step scores, and not under their minimum."""

import math

import pytest
import torch

from rlpost import spans, step
from tests import toy

# One logit each for a step of padding and for the answer, which ends the completion; the sixth step is the answer.
PAD, ANSWER = 0, 1
SCORE = torch.tensor([0.3, 0.2])
STEPS = 6


def scores(tokens):
    """Step scores (N,S,1) of completions of up to six steps of two tokens, of which the first says what the step is."""
    kind = tokens[:, ::2].clone()
    kind[:, -1] = ANSWER
    answers = (kind == ANSWER).long().cumsum(1)
    there = (answers == 0) | ((answers == 1) & (kind == ANSWER))
    return torch.where(there, SCORE[kind], math.nan)[..., None]


def fields(tokens):
    table = scores(tokens)
    mask = (~table[..., 0].isnan()).repeat_interleave(2, 1)
    span = torch.where(mask, torch.arange(2 * STEPS) // 2, -1)
    return {"span_rewards": table, "mask": mask, "span": span, "length": mask.sum(-1)}


def padding(name, seed, *overrides):
    """Train from even odds: steps of padding per completion at the end, the mean sum of step scores at both ends."""
    logits = torch.zeros(1, 2)
    sums = []

    def observe(_, credit):
        sums.append(torch.nansum(credit.span_rewards, dim=(1, 2)).mean().item())

    toy.train(
        logits, lambda q, t: spans.span_mean(scores(t)), toy.recipe(name, *overrides), steps=150, lr=1.0, seed=seed,
        n=16, length=2 * STEPS, observe=observe, more=fields,
    )  # fmt: skip
    p = logits.detach().softmax(-1)[0, PAD].item()
    return sum(p**k for k in range(1, STEPS)), sums[0], sums[-1]


@pytest.mark.parametrize("seed", range(3))
def test_the_sum_is_hacked_and_the_minimum_is_not(seed):
    hacked, first, last = padding("pure", seed, "advantage=process_sum")
    kept, _, _ = padding("pure", seed)
    assert hacked > 3 and last > first + 0.5, (hacked, first, last)
    assert kept < 0.5, kept


def credit(name, *overrides):
    """The credit of steps scored .9, .8, -.9, .9 of a completion without others to compare with."""
    table = torch.tensor([[0.9, 0.8, -0.9, 0.9]])[..., None]
    span, mask = torch.arange(8)[None] // 2, torch.ones(1, 8, dtype=torch.bool)
    record = toy.scored(
        spans.span_mean(table), torch.tensor([0]), mask, -torch.ones(1, 8), span=span, span_rewards=table
    )
    return step.score(record, toy.recipe(name, *overrides)).scored.advantage[0, ::2]


def test_steps_up_to_the_wrong_one_are_blamed():
    low, total = credit("pure"), credit("pure", "advantage=process_sum")
    assert (low[:3] < -0.89).all() and abs(low[3]) < 1e-4
    torch.testing.assert_close(total, torch.tensor([1.7, 0.8, 0.0, 0.9]), atol=1e-6, rtol=0)
