"""apriel_reasoner: a domain whose completions often fail to come back keeps more of its share of the batch, and a long
correct answer to a hard prompt costs less."""

import random

import pytest
import torch

from rlpost.curriculum.domain_share import DomainShare
from rlpost.types import Outcome, Task
from tests import toy

DOMAINS = ("code", "logic", "math", "slow")
TASKS = [Task(id=name, prompt=(), columns={"domain": name}) for name in DOMAINS]


def realised_share(seed, **knobs):
    """The share of `slow` among 8000 completions, one in four of which comes back, where all others do."""
    curriculum, rng = DomainShare(by="domain", **knobs), random.Random(seed)
    curriculum.start(TASKS)
    while sum(curriculum.completed) < 8000:
        back = [DOMAINS[i] for i in curriculum.pick(16, rng) if DOMAINS[i] != "slow" or rng.random() < 0.25]
        curriculum.observe([Outcome(task_id=name, n=1, mean=0, std=0, best=0, tokens=1, step=0) for name in back], {})
    return curriculum.completed[DOMAINS.index("slow")] / sum(curriculum.completed)


@pytest.mark.parametrize("seed", range(4))
def test_the_share_of_a_slow_domain_is_nearly_twice_that_of_fixed_weights(seed):
    # fixed weights: .25 * .25 / (.75 + .25 * .25) = .0769; adaptive: s_d ~ q_d sqrt(k_d), so .5 / (3 + .5) = .1429
    fixed = realised_share(seed, min_adjustment=1.0, max_adjustment=1.0)
    adaptive = realised_share(seed)
    assert fixed == pytest.approx(0.0769, abs=0.010)  # three deviations of 8000 draws: sqrt(.077 * .923 / 8000) = .003
    assert adaptive == pytest.approx(0.1429, abs=0.010)
    assert 0.25 - adaptive < 0.7 * (0.25 - fixed)


def test_a_long_correct_answer_to_a_hard_prompt_costs_a_quarter():
    shape = toy.recipe("apriel_reasoner", "rollout.max_tokens=100").shaping["difficulty_overlong"]
    plain = toy.recipe("dapo_full", "rollout.max_tokens=100").shaping["soft_overlong"]
    rewards, group = torch.tensor([[1.0], [0], [0], [0], [1], [1], [1], [1]]), torch.tensor([0] * 4 + [1] * 4)
    length, stop = torch.tensor([90, 90, 40, 100, 90, 90, 40, 100]), ("eos",) * 3 + ("length",) + ("eos",) * 3
    names, role = ("correct",), ("policy",) * 8
    found = shape(rewards, torch.ones(1), names, group, role, length, (*stop, "length")) - rewards
    usual = plain(rewards, torch.ones(1), length) - rewards
    # hard, correct, long: a quarter; hard and wrong: all; the cut: all; the easy group as ever
    assert (found / usual)[[0, 1, 3, 4, 5, 7], 0].tolist() == pytest.approx([0.25, 1, 1, 1, 1, 1])
    assert usual[:, 0].tolist() == pytest.approx([-0.5, -0.5, 0, -1, -0.5, -0.5, 0, -1])
