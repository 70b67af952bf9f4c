"""dump: on an easy, a medium and a hard source, UCB is at a mean success of 0.8 before uniform sampling is."""

import random

import pytest
import torch

from rlpost.curriculum.dump import Dump
from rlpost.types import Outcome, Task
from tests import toy

SOURCES = ("easy", "medium", "hard")


def steps_to_solve(uniform, seed):
    """Two-armed prompts of success .98, .3 and 1e-3; solving the medium one lifts the hard one to .3."""
    curriculum, rng = Dump(), random.Random(seed)
    curriculum.start([Task(id=name, prompt=(), tags=(name,)) for name in SOURCES])
    p = torch.tensor([0.98, 0.3, 1e-3])
    logits = torch.stack([p.log(), (1 - p).log()], dim=1)
    success = []

    def pick(step):
        return [rng.randrange(3) for _ in range(4)] if uniform else curriculum.pick(4, rng)

    def observe(picked, scored):
        rows = scored.advantage[:, 0].view(len(picked), -1).tolist()
        curriculum.observe(
            [
                Outcome(task_id=SOURCES[i], n=8, mean=0, std=0, best=0, tokens=8, step=0, advantages=tuple(row))
                for i, row in zip(picked, rows, strict=True)
            ],
            {},
        )
        with torch.no_grad():
            now = logits.softmax(-1)[:, 0]
            if now[1] > 0.9 and now[2] < 0.1:
                logits[2] = torch.tensor([0.3, 0.7]).log()
            success.append(now.mean().item())

    toy.train(
        logits, lambda _, tokens: (tokens == 0).float(), toy.recipe("grpo"), steps=80, lr=0.5, seed=seed, prompts=pick,
        observe=observe,
    )  # fmt: skip
    return next(i for i, s in enumerate(success) if s >= 0.8)


def test_fewer_steps_than_uniform():
    pairs = [(steps_to_solve(False, seed), steps_to_solve(True, seed)) for seed in range(6)]
    assert sum(a for a, _ in pairs) < 0.75 * sum(b for _, b in pairs), pairs
    assert all(a < b for a, b in pairs), pairs


@pytest.mark.parametrize("seed", range(3))
def test_a_solved_source_sinks_to_the_exploration_floor_and_an_unseen_one_leads(seed):
    rng, curriculum = random.Random(seed), Dump()
    curriculum.start([Task(id=name, prompt=(), tags=(name,)) for name in SOURCES])
    assert curriculum.names == ["easy", "hard", "medium"]

    def show(name, spread):
        advantages = tuple(rng.uniform(-spread, spread) for _ in range(8))
        curriculum.observe(
            [Outcome(task_id=name, n=8, mean=0, std=0, best=0, tokens=8, step=0, advantages=advantages)], {}
        )

    show("easy", 0.0)
    show("medium", 2.0)
    assert max(curriculum.probabilities()) == curriculum.probabilities()[1]
    for _ in range(60):
        show("easy", 0.0)
        show("medium", 2.0)
        show("hard", 1.0)
    easy, hard, medium = curriculum.probabilities()
    assert easy < 0.02 and medium > hard > easy
