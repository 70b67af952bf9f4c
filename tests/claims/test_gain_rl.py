"""gain_rl: on a pool sorted from easy to hard, a moving window is at a mean success of 0.8 before uniform sampling."""

import random

import pytest
import torch
from torch.nn.functional import logsigmoid

from rlpost import step
from rlpost.curriculum.gain import GainRl
from rlpost.types import Outcome, Task
from tests import toy

PROMPTS, BATCH, G, LEARNING_RATE, TARGET, ANGLE = 4000, 16, 8, 0.5, 0.8, 0.3


def updates(seed, curriculum=None):
    """Updates until the pool's mean success is TARGET; prompts of logit difficulty 3 to -6 share an 8-dim skill."""
    draws, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    x = torch.randn(PROMPTS, 8, generator=draws).abs() / 8**0.5
    offset, skill, method = torch.linspace(3, -6, PROMPTS), torch.zeros(8, requires_grad=True), toy.recipe("grpo")
    optimizer, done = torch.optim.SGD([skill], lr=LEARNING_RATE), 0
    if curriculum:
        curriculum.start([Task(id=str(i), prompt=(), columns={"angle": -i}) for i in range(PROMPTS)])

    def logp(prompt, reward):
        return logsigmoid((x @ skill + offset)[prompt] * (2 * reward - 1))[:, None]

    while (p := (x @ skill + offset).sigmoid().detach()).mean() < TARGET:
        picked = curriculum.pick(BATCH, rng) if curriculum else [rng.randrange(PROMPTS) for _ in range(BATCH)]
        prompt = torch.tensor(picked).repeat_interleave(G)
        reward = (torch.rand(len(prompt), generator=draws) < p[prompt]).float()
        group, mask = torch.arange(BATCH).repeat_interleave(G), torch.ones(len(prompt), 1, dtype=torch.bool)
        credit = step.score(toy.scored(reward[:, None], group, mask, logp(prompt, reward).detach()), method)
        optimizer.zero_grad()
        step.loss(toy.batch(credit.scored, logp(prompt, reward)), method, step.counts(credit.scored))[0].backward()
        optimizer.step()
        done += 1
        if curriculum:
            means = reward.view(BATCH, G).mean(1).tolist()
            curriculum.observe(
                [
                    Outcome(task_id=str(i), n=G, mean=mean, std=0, best=0, tokens=G, step=done, angle=ANGLE)
                    for i, mean in zip(picked, means, strict=True)
                ],
                {},
            )
    return done


@pytest.mark.parametrize("seed", range(3))
def test_fewer_updates_than_uniform_sampling_and_than_a_window_that_stays(seed):
    gain = updates(seed, GainRl(subset=64))
    assert gain < 0.75 * updates(seed)
    assert gain < 0.95 * updates(seed, GainRl(subset=64, shift=0.0))
