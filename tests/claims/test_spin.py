"""spin: playing against itself ends where the model writes as people do. about has the numbers."""

import functools
import itertools
import math
from dataclasses import replace

import pytest
import torch

from rlpost.build.human import human_against_own
from rlpost.preference.direct import dpo
from tests.claims.arms import answers, prefer

LOSS = functools.partial(dpo, beta=0.1)


def pairs(policy, data, rng, n):
    """`n` demonstrations of each prompt, each beside an answer of the policy."""
    human = torch.multinomial(data.softmax(-1), n, replacement=True, generator=rng)
    own = answers(policy, n, rng, lambda p, a: 0.0)
    rows = [
        replace(one, task=replace(one.task, demonstration=str(human[int(one.task.id), place % n].item())))
        for place, one in enumerate(own)
    ]
    return human_against_own(rows)


def divergence(data, policy):
    """KL(data || policy), mean over prompts."""
    return (data.softmax(-1) * (data.log_softmax(-1) - policy.log_softmax(-1))).sum(-1).mean().item()


@pytest.mark.parametrize("seed", range(3))
def test_every_round_brings_the_model_closer_to_the_data(seed):
    rng = torch.Generator().manual_seed(seed)
    data = torch.randn(4, 6, generator=rng, dtype=torch.float64)
    policy = data + 1.5 * torch.randn(4, 6, generator=rng, dtype=torch.float64)
    found = [divergence(data, policy)]
    for _ in range(8):
        rows = pairs(policy, data, rng, 1000)
        prefer(policy, policy.clone(), rows, LOSS, lr=8.0, steps=20)
        found.append(divergence(data, policy))
    assert all(b < a for a, b in itertools.pairwise(found)), found
    assert found[-1] < 0.01, found


def test_at_the_start_of_a_round_the_loss_is_log_two_and_at_the_data_nothing_moves():
    rng = torch.Generator().manual_seed(0)
    data = torch.randn(1, 5, generator=rng, dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.bool)
    logp = data.log_softmax(-1)
    same = [logp[:, :1], logp[:, 1:2], one, one, logp[:, :1], logp[:, 1:2]]
    assert LOSS(*same).value.item() == pytest.approx(math.log(2), rel=1e-12)
    moves = []
    for policy in (data.clone(), data.flip(-1).clone()):
        before = policy.clone()
        prefer(policy, before, pairs(policy, data, rng, 5000), LOSS, lr=1.0)
        moves.append((policy - before).abs().max().item())
    # Each of 5000 pairs moves a logit by beta / 2 = .05, up or down: chance moves the mean by less than .05 / 5000^.5.
    assert moves[0] < 3 * 0.05 / 5000**0.5 < 0.005 < moves[1], moves
