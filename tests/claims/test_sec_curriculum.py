"""sec_curriculum: where hard needs medium and medium needs easy, SEC solves the hard level before uniform sampling."""

import random

import pytest
import torch

from rlpost.advantage.group import group_zscore
from rlpost.curriculum.sec import Sec
from rlpost.types import Outcome, Task
from tests import toy

LEVELS = ("easy", "medium", "hard")
BUDGET = 90


def steps_to_solve(how, seed, *, ordered=BUDGET):
    """Levels of success .5, .02 and .001; a level that reaches .8 lifts the next to .2. Steps until hard has .8."""
    sec, rng = Sec(by="level"), random.Random(seed)
    sec.start([Task(id=name, prompt=(), columns={"level": i}) for i, name in enumerate(LEVELS)])
    p = torch.tensor([0.5, 0.02, 0.001])
    logits = torch.stack([p.log(), (1 - p).log()], dim=1)
    hard = []

    def pick(step):
        if how == "uniform":
            return [rng.randrange(3) for _ in range(4)]
        return sec.pick(4, rng) if how == "sec" else [min(2, step * 3 // ordered)] * 4

    def observe(picked, scored):
        rows = scored.advantage[:, 0].view(len(picked), -1).tolist()
        sec.observe(
            [
                Outcome(task_id=LEVELS[i], n=8, mean=0, std=0, best=0, tokens=8, step=0, advantages=tuple(row))
                for i, row in zip(picked, rows, strict=True)
            ],
            {},
        )
        with torch.no_grad():
            now = logits.softmax(-1)[:, 0]
            for level in range(2):
                if now[level] > 0.8 and now[level + 1] < 0.1:
                    logits[level + 1] = torch.tensor([0.2, 0.8]).log()
            hard.append(logits.softmax(-1)[2, 0].item())

    toy.train(
        logits, lambda _, tokens: (tokens == 0).float(), toy.recipe("grpo"), steps=BUDGET, lr=0.5, seed=seed,
        prompts=pick, observe=observe,
    )  # fmt: skip
    return next(i for i, success in enumerate(hard) if success >= 0.8)


def test_fewer_steps_than_uniform_sampling_and_than_a_schedule_of_equal_thirds():
    found = [[steps_to_solve(how, seed) for how in ("sec", "uniform", "ordered")] for seed in range(6)]
    sec, uniform, ordered = (sum(column) / 6 for column in zip(*found, strict=True))
    assert all(a < b and a < c for a, b, c in found), found
    assert sec < 0.85 * uniform and sec < 0.75 * ordered, found


def test_a_schedule_by_hand_with_the_right_timing_is_faster_still():
    """The limit of the claim, written in the recipe: 15 steps a level suffice here, which nobody knows beforehand."""
    timed = [steps_to_solve("ordered", seed, ordered=45) for seed in range(3)]
    assert all(a < steps_to_solve("sec", seed) for seed, a in enumerate(timed)), timed


@pytest.mark.parametrize("p", [0.1, 0.35, 0.5, 0.8])
def test_mean_advantage_of_success_p(p):
    """E|a| = 2 sqrt(p (1 - p)): 0.6, 0.954, 1 and 0.8; over 40 groups of 1000 the mean is sharp to about 1%."""
    draws = torch.Generator().manual_seed(0)
    reward = (torch.rand(40_000, 1, generator=draws) < p).float()
    a = group_zscore(reward, torch.ones(1), torch.arange(40).repeat_interleave(1000))
    assert a.abs().mean().item() == pytest.approx(2 * (p * (1 - p)) ** 0.5, rel=0.01)
