"""par_shaping: a proxy that can be hacked pays without end as it is, and hardly more than the reference under PAR."""

import functools

import pytest
import torch

from rlpost.reward.preference import preference
from rlpost.types import Prompt, Rollout, Task
from tests import toy

# Arm a writes a things that the reward model likes. People like two of them, and every further one less.
ARMS = 7
PROXY = torch.arange(ARMS).float()
GOLD = torch.tensor([0.0, 1, 2, 1, 0, -1, -2])
START = -0.7 * PROXY  # each further thing is half as frequent


class Head:
    def scalar(self, prompts, completions):
        return [float(text) for text in completions]


def preferred():
    """PAR of each arm, whose reference is the start's most frequent answer."""
    task = Task("q", ({"role": "user", "content": "q"},), demonstration="0")
    rows = [Rollout(task, "g", Prompt([1]), [1], [True], [-1.0], str(arm), "eos") for arm in range(ARMS)]
    return torch.tensor(preference(rows, {"reward": Head()}))


@functools.cache
def method():
    return toy.recipe("par_shaping", "shaping.kl_penalty.beta=0.15")


def gold(table, seed):
    """The mean gold score after training on a table of rewards, and its value at the start."""
    logits = START[None].clone()
    toy.train(
        logits, lambda q, t: table[t], method(), steps=40, lr=1.0, seed=seed, n=256, reference=START[None].clone()
    )
    return float(logits.detach().softmax(-1)[0] @ GOLD), float(START.softmax(-1) @ GOLD)


@pytest.mark.parametrize("seed", range(3))
def test_the_raw_score_is_hacked_and_the_preference_is_not(seed):
    raw, start = gold(PROXY, seed)
    kept, _ = gold(preferred(), seed)
    assert raw < start - 1, (raw, start)
    # what the penalty's exact optimum, the start times exp(R / beta), would score
    optimum = float((START + preferred() / 0.15).softmax(-1) @ GOLD)
    assert optimum > start + 0.2 and kept == pytest.approx(optimum, abs=0.12)
