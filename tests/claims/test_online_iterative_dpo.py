"""online_iterative_dpo: three rounds of fresh answers against one round with as many labels. about has the numbers."""

import functools

import torch

from rlpost.build.extremes import best_and_worst
from rlpost.preference.direct import dpo
from tests.claims.arms import answers, prefer

PROMPTS, ARMS, BETA = 16, 12, 0.1
SEEDS = range(3)


def gaps(seed, rounds, groups=6):
    """How far E[r], and E[r] - beta * KL(policy || ref), stay below what ref * exp(r / beta) has; 18 groups in all."""
    rng = torch.Generator().manual_seed(seed)
    reference = 1.5 * torch.randn(PROMPTS, ARMS, generator=rng, dtype=torch.float64)
    values = torch.rand(PROMPTS, ARMS, generator=rng, dtype=torch.float64)
    policy = reference.clone()
    for _ in range(rounds):
        drawn = answers(policy, 8, rng, lambda p, a: values[p, a].item(), times=groups * 3 // rounds)
        prefer(
            policy, reference, best_and_worst(drawn), functools.partial(dpo, beta=BETA), lr=80.0, steps=240 // rounds
        )

    def reward(logits):
        return (logits.softmax(-1) * values).sum(-1).mean().item()

    def objective(logits):
        left = (logits.softmax(-1) * (logits.log_softmax(-1) - reference.log_softmax(-1))).sum(-1).mean().item()
        return reward(logits) - BETA * left

    best = reference + values / BETA
    return reward(best) - reward(policy), objective(best) - objective(policy)


def test_three_rounds_come_closer_to_the_reward_of_the_optimum_than_the_first_answers_alone():
    """The reward does; what the divergence costs is more than that gains, for a ranking is a label without doubt."""
    online, offline = [gaps(seed, 3) for seed in SEEDS], [gaps(seed, 1) for seed in SEEDS]
    assert all(a[0] < b[0] for a, b in zip(online, offline, strict=True)), (online, offline)
    assert sum(abs(a[0]) for a in online) < sum(abs(b[0]) for b in offline) / 2, (online, offline)
    assert all(a[1] > b[1] > 0 for a, b in zip(online, offline, strict=True)), (online, offline)
