"""raft: rounds of best-of-K and supervised steps. about has the numbers."""

import itertools
import math
import random

import pytest
import torch

from rlpost.build.best import best_of_group
from tests.claims.arms import answers, teach

ARMS, PROMPTS = 16, 8
SEEDS = range(3)


def start(seed):
    rng = torch.Generator().manual_seed(seed)
    logits = 0.5 * torch.randn(PROMPTS, ARMS, generator=rng, dtype=torch.float64)
    values = torch.rand(PROMPTS, ARMS, generator=rng, dtype=torch.float64)
    return logits, values, rng


def expected(logits, values):
    return (logits.softmax(-1) * values).sum(-1).mean().item()


def rounds(seed, k, n=12):
    """The expected reward before the first and after every round."""
    logits, values, rng = start(seed)
    found = [expected(logits, values)]
    for _ in range(n):
        rows = best_of_group(
            answers(logits, k, rng, lambda p, a: values[p, a].item(), times=8), {}, random.Random(seed)
        )
        teach(logits, rows, lr=16.0, steps=4)
        found.append(expected(logits, values))
    return found


def best_of(seed, k):
    """The expected reward of the best of k answers of the untrained policy, exactly: sum of F(r)^k - F(r-)^k."""
    logits, values, _ = start(seed)
    order = values.argsort(-1)
    below = logits.softmax(-1).gather(-1, order).cumsum(-1)
    weight = below**k - torch.nn.functional.pad(below[:, :-1], (1, 0)) ** k
    return (weight * values.gather(-1, order)).sum(-1).mean().item()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reward_rises_above_the_best_of_k_of_the_start(seed):
    many, few = rounds(seed, 8), rounds(seed, 2)
    assert all(b > a for a, b in itertools.pairwise(many[:4])), many
    assert many[-1] > best_of(seed, 8), (many[-1], best_of(seed, 8))
    target = best_of(seed, 8)
    reached = [next((i for i, r in enumerate(curve) if r >= target), len(curve)) for curve in (many, few)]
    assert reached[0] < reached[1], reached


@pytest.mark.parametrize("k", [2, 4, 8])
def test_the_best_of_k_stays_within_its_bound_of_divergence(k):
    """KL(best of K || policy) <= log K - (K - 1) / K, counted over 20000 groups of one prompt."""
    logits, values, rng = start(0)
    rows = best_of_group(
        answers(logits[:1], k, rng, lambda p, a: values[p, a].item(), times=20_000), {}, random.Random(0)
    )
    share = torch.bincount(torch.tensor([int(row.demonstration) for row in rows]), minlength=ARMS).double() / len(rows)
    gap = share.clamp(min=1e-12).log() - logits[0].log_softmax(-1)
    divergence = (share * gap).sum().item()
    error = ((share * gap**2).sum().item() - divergence**2) ** 0.5 / len(rows) ** 0.5
    bound = math.log(k) - (k - 1) / k
    assert 0.7 * bound < divergence < bound + 3 * error, (divergence, bound, error)
